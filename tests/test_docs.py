"""What is documented is what there is."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from w2v import errors, hookspecs, plugins

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
HOOKS = [f for n, f in inspect.getmembers(hookspecs, inspect.isfunction) if n.startswith("w2v_")]


@pytest.mark.parametrize("hook", HOOKS, ids=lambda f: f.__name__)
def test_hook_has_a_heading_with_its_signature_and_text(hook):
    heading = f"## {hook.__name__}({', '.join(inspect.signature(hook).parameters)})\n"
    text = (DOCS / "hooks.md").read_text()
    assert heading in text
    assert len(text.partition(heading)[2].partition("\n## ")[0].strip()) > 80


def test_every_kind_of_plugin_has_a_hook():
    assert {f"w2v_{kind}s" for kind in plugins.KINDS} | {"w2v_commands"} == {
        hook.__name__ for hook in HOOKS
    }


def test_generated_pages_are_current():
    pages = [str(p) for p in DOCS.glob("*.md")]
    done = subprocess.run(
        [sys.executable, "-m", "cogapp", "--check", *pages],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_exit_codes_are_those_of_the_code():
    told = set(re.findall(r"^\| (\d+) \|", (DOCS / "conventions.md").read_text(), re.M))
    used = {
        value
        for name, value in vars(errors).items()
        if name.isupper() and isinstance(value, int) and not isinstance(value, bool)
    }
    assert told == {str(code) for code in used}


LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=str)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_names_every_room():
    text = (ROOT / "README.md").read_text()
    for path in sorted((ROOT / "w2v").iterdir()):
        name = path.stem if path.suffix == ".py" else path.name
        if not name.startswith(("_", ".")) and path.suffix in ("", ".py"):
            assert re.search(rf"\b{re.escape(name)}(\.py|/)", text), f"README does not name {name}"
