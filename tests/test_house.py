"""House rules, run as tests so that one command checks everything."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = ["ruff check .", "ruff format --check .", "mypy"]


@pytest.mark.parametrize("tool", TOOLS)
def test_tool_is_content(tool):
    done = subprocess.run(
        [sys.executable, "-m", *tool.split()], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


LAYERS = [
    {"errors"},
    {"records", "provenance", "torchvision_cpu"},
    {"motion", "boxes", "phrases", "paths"},
    {"kinds", "hookspecs"},
    {"plugins", "stream", "workers"},
    {"geometry", "images", "bundles"},
    {"footage", "sampling", "quality", "rgbd", "formats", "split", "crosscheck"},
    {"teachers", "detectors", "tasks", "checks", "rewards", "students"},
    {"balance", "testing", "metrics"},
    {
        *("rendering", "annotating", "questioning", "validating"),
        *("benchmarks", "blind", "evaluating", "comparing"),
    },
    {"report"},
    {"train"},
    {"pretraining"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
"""Rooms from the ground up: a room imports from its own layer or below."""


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "w2v":
            parts = node.module.split(".")[1:2]
            yield from parts or [a.name for a in node.names]


def test_imports_point_one_way():
    level = {room: n for n, rooms in enumerate(LAYERS) for room in rooms}
    for path in (ROOT / "w2v").rglob("*.py"):
        room = path.relative_to(ROOT / "w2v").parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        assert room in level, f"{room} has no place in LAYERS"
        for other in _imports(path):
            if other in level:
                assert level[other] <= level[room], f"{path} imports {other}"


HEAVY = ("torch", "transformers", "numpy", "PIL", "cv2", "sklearn", "embreex")


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["plugins"], ["render", "--help"], ["build-tasks", "-"], ["score", "-"]],
    ids=" ".join,
)
def test_light_commands_import_nothing_heavy(arguments):
    code = (
        "import sys; from w2v.cli import main; sys.argv = ['w2v', *sys.argv[1:]]\n"
        "try: main()\n"
        f"finally: print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, input=""
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"
