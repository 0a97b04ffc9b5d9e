import json
import subprocess
import sys
import textwrap

import pytest

PLUGIN = """
from w2v import hookimpl
from w2v.kinds import Offer

@hookimpl
def w2v_{kind}s():
    return {{"{name}": Offer(make=make, licence="MIT", may_train=True)}}

def make(size: int, bright: bool = True):
    '''Make a thing.'''
    return size, bright
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a plugin module and its entry point where Python finds installed packages."""

    def put(name, code):
        (tmp_path / f"w2v_{name}.py").write_text(textwrap.dedent(code))
        info = tmp_path / f"w2v_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: w2v-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[w2v]\n{name} = w2v_{name}\n")

    def run(*arguments, only=None):
        environment = {"PYTHONPATH": f"{tmp_path}:.", "PATH": "/usr/bin:/bin"}
        if only is not None:
            environment["W2V_PLUGINS"] = only
        done = subprocess.run(
            [sys.executable, "-m", "w2v", *arguments],
            capture_output=True,
            text=True,
            env=environment,
        )
        return done.returncode, done.stdout, done.stderr

    put.run = run
    return put


def listed(out):
    return {(row["kind"], row["name"]) for row in map(json.loads, out.splitlines())}


def test_an_installed_plugin_is_listed_with_its_options(install):
    install("thing", PLUGIN.format(kind="reward", name="thing"))
    code, out, _ = install.run("plugins", "--json")
    (row,) = [r for r in map(json.loads, out.splitlines()) if r["name"] == "thing"]
    assert code == 0
    assert (row["kind"], row["summary"], row["licence"]) == ("reward", "Make a thing.", "MIT")
    assert row["options"] == ["size", "bright=True"]


def test_a_broken_plugin_is_named_and_the_rest_work(install):
    install("broken", "import no_such_package")
    install("thing", PLUGIN.format(kind="reward", name="thing"))
    code, out, _ = install.run("plugins", "--json")
    assert code == 0
    assert {("broken", "broken"), ("reward", "thing"), ("teacher", "sim")} <= listed(out)
    code, _, err = install.run("score", "--reward", "nosuch")
    assert code == 6 and "failed to load: broken" in err


def test_only_the_plugin_that_was_named_is_imported(install):
    install("loud", "import sys; print('loud was imported', file=sys.stderr)")
    install("thing", PLUGIN.format(kind="reward", name="thing"))
    _, _, err = install.run("score", "--reward", "thing:size=x")
    assert "loud was imported" not in err


def test_w2v_plugins_restricts_what_is_seen(install):
    install("thing", PLUGIN.format(kind="reward", name="thing"))
    _, out, _ = install.run("plugins", "--json", only="")
    assert ("reward", "thing") not in listed(out)


@pytest.mark.parametrize("asked", ["twin", "sim"])
def test_a_name_offered_twice_names_both_owners(install, asked):
    install("twin", PLUGIN.format(kind="teacher", name=asked))
    install("other", PLUGIN.format(kind="teacher", name=asked))
    code, _, err = install.run("plugins")
    assert code == 6
    assert f"teacher '{asked}' comes from both" in err and "W2V_PLUGINS" in err


def test_a_misspelt_hook_is_told(install):
    install("typo", PLUGIN.format(kind="teachr", name="typo"))
    _, out, _ = install.run("plugins", "--json")
    (row,) = [r for r in map(json.loads, out.splitlines()) if r["kind"] == "broken"]
    assert "w2v_teachrs" in row["summary"] and "docs/hooks.md" in row["summary"]


def test_a_plugin_adds_a_command_but_not_over_a_built_in_one(install):
    install(
        "extra",
        """
        import click
        from w2v import hookimpl

        @hookimpl
        def w2v_commands(cli):
            @cli.command("extra")
            def extra():
                "Say hello."
                click.echo("hello")
        """,
    )
    assert install.run("extra") == (0, "hello\n", "")
    assert "extra" in install.run("--help")[1]


@pytest.mark.parametrize(
    ("typed", "code", "message"),
    [
        ("thing", 2, "needs 'size'"),
        ("thing:size", 2, "'size' is not KEY=VALUE"),
        ("thing:size=big", 2, "size should be int, got 'big'"),
        ("thing:size=3,bright=maybe", 2, "bright should be bool, got 'maybe'"),
        ("thing:sise=3", 2, "has no option 'sise'"),
        ("thign:size=3", 6, "did you mean 'thing'?"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(install, typed, code, message):
    install("thing", PLUGIN.format(kind="reward", name="thing"))
    got, out, err = install.run("score", "--reward", typed)
    assert (got, out) == (code, "")
    assert message in err and "Traceback" not in err


def test_a_plugin_may_be_a_loose_file(tmp_path, w2v):
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN.format(kind="reward", name="loose"))
    code, rows, _ = w2v("--plugin", file, "plugins", "--json")
    assert code == 0 and "loose" in {row["name"] for row in rows}


def test_a_file_that_fails_to_load_is_told(tmp_path, w2v):
    file = tmp_path / "mine.py"
    file.write_text("1 / 0")
    code, _, err = w2v("--plugin", file, "plugins")
    assert code == 6 and "ZeroDivisionError" in err
