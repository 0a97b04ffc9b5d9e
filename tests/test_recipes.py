"""Recipes and documentation name commands, options and plugins that there are."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from w2v import plugins
from w2v.cli import cli

REPO = Path(__file__).parents[1]
RECIPES = REPO / "docs" / "recipes"
SCRIPTS = sorted(p for p in RECIPES.rglob("*") if p.suffix in (".sh", ".sbatch"))
PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]
DETECTOR = "zero-shot:model=weights"

# Stand-ins for the commands of a recipe: each writes down how it was called.
NOTE = 'line=$(printf "%q " "$@"); printf "%s\\n" "$line" >>"$NOTES/{name}"\n'
STANDS = {
    "w2v": NOTE + "exit ${W2V_EXIT:-0}",
    "scontrol": NOTE + 'echo "MaxArraySize = 1001"',
    "squeue": NOTE + 'echo "${JOB_STATE:-RUNNING}"',
    "sbatch": NOTE + 'wc -l <"$NOTES/sbatch"',
}


@pytest.fixture
def stage(tmp_path):
    """Run a script among stand-ins; return (exit code, stdout, {command: [arguments, …]})."""
    notes, commands, work = (tmp_path / name for name in ("notes", "bin", "work"))
    for folder in (notes, commands, work):
        folder.mkdir()
    for name, body in STANDS.items():
        (commands / name).write_text("#!/usr/bin/env bash\n" + body.replace("{name}", name) + "\n")
        (commands / name).chmod(0o755)

    def run(script, *arguments, **variables):
        environment = {
            "PATH": f"{commands}:{os.environ['PATH']}",
            "NOTES": str(notes),
            "DETECTOR": DETECTOR,
            "WORKERS": "2",
            **variables,
        }
        for old in notes.iterdir():
            old.unlink()
        command = ["bash", str(script), *map(str, arguments)]
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
        called = {f.name: [*map(shlex.split, f.read_text().splitlines())] for f in notes.iterdir()}
        return done.returncode, done.stdout, called

    run.work = work
    return run


@pytest.fixture
def parse(monkeypatch):
    """Parse a command line of ``w2v`` as click does, whether or not its files are there."""
    monkeypatch.setattr(click.Path, "convert", lambda self, value, param, ctx: Path(value))
    monkeypatch.setattr(plugins, "register_file", lambda path: None)

    def parse(arguments):
        with cli.make_context("w2v", list(arguments)) as context:
            name, command, rest = cli.resolve_command(context, _rest(context))
            with command.make_context(name, rest, parent=context) as inner:
                return name, inner.params

    return parse


def _rest(context):
    return [*context._protected_args, *context.args]


# ── scripts ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_a_script_is_sound(script):
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n#") and "\nset -euo pipefail\n" in text
    assert os.access(script, os.X_OK) == (script.suffix == ".sh")
    if shutil.which("shellcheck"):
        done = subprocess.run(["shellcheck", script], capture_output=True, text=True)
        assert done.stdout == ""


@pytest.mark.parametrize(
    ("script", "argument", "stages"),
    [
        ("sim-questions.sh", (), "render render render annotate build-tasks validate report"),
        ("photos.sh", ("shots",), "scenes render annotate build-tasks validate report"),
        (
            "world2vlm-tree.sh",
            ("old",),
            "build-tasks annotate build-tasks validate validate convert",
        ),
        (
            "world2vlm-train.sh",
            ("train", "test"),
            "sft validate grpo merge eval eval eval compare",
        ),
    ],
)
def test_a_recipe_is_made_of_commands_that_there_are(stage, parse, script, argument, stages):
    for folder in argument:
        (stage.work / folder).mkdir()
    code, _, called = stage(RECIPES / script, *argument)
    assert code == 0
    # Commands joined by a pipe start in any order.
    assert sorted(parse(arguments)[0] for arguments in called["w2v"]) == sorted(stages.split())


def test_the_workers_of_a_recipe_do_shards_and_the_merge_does_the_whole(stage, parse):
    _, _, called = stage(RECIPES / "sim-questions.sh", "rooms", WORKERS="3")
    rendered = [parse(a)[1] for a in called["w2v"] if a[0] == "render"]
    assert sorted(r.pop("shard") or (9, 9) for r in rendered) == [(0, 3), (1, 3), (2, 3), (9, 9)]
    for one in rendered:
        del one["quiet"], one["summary"]
    assert all(one == rendered[0] for one in rendered)


def test_recipes_go_on_past_skipped_items_and_stop_at_failures(stage):
    (stage.work / "shots").mkdir()
    _, _, called = stage(RECIPES / "photos.sh", "shots", W2V_EXIT="3")
    assert [a[0] for a in called["w2v"]][:3] == ["scenes", "render", "annotate"]
    code, _, called = stage(RECIPES / "photos.sh", "shots", W2V_EXIT="75")
    assert (code, [a[0] for a in called["w2v"]]) == (75, ["scenes"])


def test_the_published_rules_see_the_original_tree_and_ours_a_copy(stage):
    old = stage.work / "old"
    old.mkdir()
    (old / "detect_result.jsonl").write_text("theirs\n")
    _, _, called = stage(RECIPES / "world2vlm-tree.sh", "old", "new")
    of = {(a[0], "--compat" in a): a[1] for a in called["w2v"]}
    assert of["build-tasks", True] == "old"
    assert of["annotate", False] == "new/tree"
    assert (stage.work / "new" / "tree" / "detect_result.jsonl").read_text() == "theirs\n"


# ── Slurm scripts ──────────────────────────────────────────────────────────────────────────────

TASK = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}


@pytest.mark.parametrize(
    ("w2v", "state", "code", "requeued"),
    [
        (0, "RUNNING", 0, []),
        (3, "RUNNING", 0, []),  # skipped items must not stop what waits for the array
        (1, "RUNNING", 1, []),
        (75, "RUNNING", 75, [["requeue", "7_3"]]),  # not 7, which is the whole array
        (143, "RUNNING", 143, [["requeue", "7_3"]]),
        (75, "COMPLETING", 75, []),  # cancelled
    ],
)
def test_an_array_task_comes_back_only_when_told_to_stop(stage, w2v, state, code, requeued):
    variables = TASK | {"W2V_EXIT": str(w2v), "JOB_STATE": state}
    ended, _, called = stage(RECIPES / "slurm" / "array.sbatch", "render", "-o", "d", **variables)
    assert (ended, called.get("scontrol", [])) == (code, requeued)
    assert called["w2v"] == [["render", "-o", "d"]]


def test_submit_sends_five_jobs_whose_commands_parse(stage, parse):
    submit = RECIPES / "slurm" / "submit.sh"
    code, out, called = stage(submit, SCENES="40", SHARDS="5", OUT="d", DETECTOR="oracle")
    assert code == 0
    assert out.split() == "render 1 clips 2 annotate 3 boxed 4 questions 5".split()
    assert [_option(job, "--dependency") for job in called["sbatch"]] == [
        *("", "afterok:1", "afterok:2", "afterok:3", "afterok:4"),
    ]
    assert ["--kill-on-invalid-dep=yes" in job for job in called["sbatch"]] == [False] + [True] * 4
    arrays = [_option(job, "--array") for job in called["sbatch"]]
    assert arrays == ["0-4", "", "0-4", "", ""]
    ran = []
    for job in called["sbatch"]:
        script = next(k for k, word in enumerate(job) if word.endswith(".sbatch"))
        code, _, inner = stage(job[script], *job[script + 1 :], **TASK)
        assert code == 0
        ran += [parse(arguments) for arguments in inner["w2v"]]
    assert sorted(name for name, _ in ran) == sorted(
        "render render annotate annotate build-tasks validate report".split()
    )
    render, merge = (params for name, params in ran if name == "render")
    assert (render["number"], render["frames"], str(render["root"])) == (40, "ends", "d")
    assert merge["shard"] == (0, 1)
    same = set(render) - {"shard", "summary", "rejects"}
    assert all(render[name] == merge[name] for name in same)


def test_submit_takes_photographs_and_a_tracker_sees_every_frame(stage, parse):
    submit = RECIPES / "slurm" / "submit.sh"
    variables = {"SCENES": "shots", "TEACHER": "depth-warp", "ANNOTATE_SBATCH": "--gpus=1 -c 8"}
    _, _, called = stage(submit, **variables)
    first, _, third, *_ = called["sbatch"]
    _, params = parse(first[first.index("render") :])
    assert (params["scenes"], params["frames"], str(params["root"])) == ("shots", "all", ".")
    assert third[third.index("--gpus=1") :][:3] == ["--gpus=1", "-c", "8"]


def test_submit_refuses_an_array_that_the_site_would_refuse(stage):
    code, _, called = stage(RECIPES / "slurm" / "submit.sh", SHARDS="1002")
    assert (code, "sbatch" in called) == (2, False)


def _option(job, name):
    found = [word.partition("=")[2] for word in job if word.startswith(name + "=")]
    return found[0] if found else ""


# ── documentation ──────────────────────────────────────────────────────────────────────────────


def commands_in(shell):
    """Yield the arguments of every ``w2v`` in shell text, those inside ``sbatch`` too."""
    shell = re.sub(r"(?m)(^|\s)#.*", r"\1", shell).replace("\\\n", " ")
    lexer = shlex.shlex(shell, posix=True, punctuation_chars="|;&<>()\n")
    lexer.whitespace = " \t"
    lexer.commenters = ""
    lexer.whitespace_split = True
    words = []
    for word in [*lexer, "\n"]:
        if word[0] not in "|;&<>()\n":
            words.append(word)
            continue
        if words[:1] == ["w2v"]:
            yield words[1:]
        for script in ("array.sbatch", "merge.sbatch"):
            if words[:1] == ["sbatch"] and script in words:
                yield words[words.index(script) + (2 if script == "merge.sbatch" else 1) :]
        words = []


def unknown_in(arguments):
    """Return the first command or option among the arguments that ``w2v`` does not have."""
    command, value_follows = cli, False
    for word in arguments:
        if value_follows:
            value_follows = False
        elif word.startswith("-") and word != "-":
            name, equals, _ = word.partition("=")
            known = {o: p for p in command.params for o in (*p.opts, *p.secondary_opts)}
            if name not in known and name not in ("-h", "--help"):
                return name
            value_follows = not equals and name in known and not known[name].is_flag
        elif isinstance(command, click.Group):
            if word not in command.commands:
                return word
            command = command.commands[word]
    return None


def _shell_of(page):
    """Return the shell of a page: bash blocks, and commands between backticks in the text."""
    text = re.sub(r"\[\[\[cog.*?\]\]\]", "", page.read_text(), flags=re.S)
    blocks = re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", text, flags=re.S | re.M)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    return "\n".join([*blocks, *re.findall(r"`(w2v [^`]+)`", prose)]) + "\n"


def _shell_of_help(command):
    """Return the example lines in the help of a command and of those below it."""
    text = (command.help or "").partition("\b\n")[2]
    below = getattr(command, "commands", {}).values()
    return "\n".join([text, *map(_shell_of_help, below)]) + "\n"


def _shell_of_comments(script):
    """Return the usage lines in the comment at the head of a script."""
    lines = re.findall(r"^#   ?(.*)", script.read_text(), flags=re.M)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_a_page_shows_commands_that_there_are(page):
    shown = list(commands_in(_shell_of(page)))
    assert page.name != "README.md" or len(shown) >= 15
    for arguments in shown:
        assert unknown_in(arguments) is None, arguments


def test_help_shows_commands_that_there_are():
    shown = list(commands_in(_shell_of_help(cli)))
    assert len(shown) >= 6
    for arguments in shown:
        assert unknown_in(arguments) is None, arguments


@pytest.mark.parametrize("name", ["array.sbatch", "merge.sbatch"])
def test_the_usage_of_a_slurm_script_parses(name, parse):
    shown = list(commands_in(_shell_of_comments(RECIPES / "slurm" / name)))
    assert shown
    for arguments in shown:
        parse(arguments)


def test_a_renamed_option_would_be_seen():
    shell = "w2v render x --teacher sim | w2v annotate --detektor oracle > y; w2v plugins chek a\n"
    render, annotate, check = commands_in(shell)
    assert unknown_in(render) is None
    assert (unknown_in(annotate), unknown_in(check)) == ("--detektor", "chek")
    assert unknown_in(["--plugin", "mine.py", "render", "--teacher=mine"]) is None
    assert [*commands_in("sbatch --array=0-1 merge.sbatch f render \\\n -o d\n")] == [
        ["render", "-o", "d"]
    ]
