"""The whole pipe in a shell, as a user types it, and what is thrown at it."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from w2v import plugins
from w2v.formats import FORMATS

pytest.importorskip("embreex")

ROOT = Path(__file__).parent.parent
TASKS = ("A1", "A2", "A3", "A4", "D1", "D2", "D3", "D4")
RENDER = "w2v render --teacher sim:quality=fast --scenes 2 --size 96x96 --frames ends"


def shell(text, folder):
    """Run a line of bash in which ``w2v`` is this very package; return what became of it."""
    named = f'w2v() {{ "{sys.executable}" -m w2v "$@"; }}; set -o pipefail; {text}'
    return subprocess.run(["bash", "-c", named], cwd=folder, capture_output=True, timeout=200)


def rows(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Run the four stages once, and keep what flowed between them."""
    folder = tmp_path_factory.mktemp("pipe")
    done = shell(
        f"{RENDER} -o d | tee clips.jsonl | w2v annotate --detector oracle | tee boxed.jsonl "
        "| w2v build-tasks --form mixed | tee asked.jsonl | w2v validate; "
        'echo "${PIPESTATUS[@]}" >&2',
        folder,
    )
    told = done.stderr.decode()
    assert told.splitlines()[-1] == "0 0 0 0 0 0 0", told
    (folder / "questions.jsonl").write_bytes(done.stdout)
    return folder


@pytest.fixture
def here(made, monkeypatch):
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def copy(made, tmp_path, monkeypatch):
    """A copy of everything, to be spoilt."""
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


# ── what comes out ────────────────────────────────────────────────────────────────────────────


def test_all_eight_tasks_come_out_and_stdout_holds_nothing_else(made):
    for name, kind in (("clips", "clip"), ("boxed", "clip"), ("questions", "question")):
        assert {row["kind"] for row in rows((made / f"{name}.jsonl").read_bytes())} == {kind}
    found = Counter(row["task_type"] for row in rows((made / "questions.jsonl").read_bytes()))
    assert sorted(found) == list(TASKS) and min(found.values()) >= 2


def audit(questions, root):
    """Run the audit; return its exit code, and how many questions of each task it denies."""
    command = [sys.executable, ROOT / "tests/audit_labels.py", questions, "--root", root]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.stderr, done.stderr
    table = [line.split() for line in done.stdout.splitlines()[1:10]]
    return done.returncode, {task: int(wrong) for task, _, _, wrong in table}, done.stdout


def test_the_simulators_truth_agrees_with_every_label(here, tmp_path, w2v):
    code, wrong, told = audit("questions.jsonl", here)
    assert (code, set(wrong.values())) == (0, {0}), told
    _, asked, _ = w2v("build-tasks", "boxed.jsonl", "--templates", "paper", "--seed", 1)
    (tmp_path / "paper.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    code, wrong, told = audit(tmp_path / "paper.jsonl", here)
    assert (code, set(wrong.values())) == (0, {0}), told


OPPOSITE = {"left": "right", "right": "left", "forward": "backward", "backward": "forward"}


def spoilt(row):
    """Return a plain row with an answer that is wrong, but only just."""
    answer = row["answer"]
    if row["task_type"] in ("A4", "D2", "D4"):
        answer = {"yes": "no", "no": "yes", "true": "false", "false": "true"}[answer]
    elif row["task_type"] == "D1":
        answer = "[" + ", ".join(str(v + 2) for v in json.loads(answer)) + "]"
    else:
        verb, way, *rest = answer.split(" ")
        answer = " ".join([verb, OPPOSITE[way], *rest])
    said = {"role": "assistant", "content": answer}
    return row | {"answer": answer, "messages": [*row["messages"][:-1], said]}


def plain(w2v):
    """Return the rows of the plain form."""
    return w2v("build-tasks", "boxed.jsonl")[1]


def test_the_audit_finds_every_planted_fault(here, tmp_path, w2v):
    (tmp_path / "wrong.jsonl").write_text(
        "".join(json.dumps(spoilt(row)) + "\n" for row in plain(w2v))
    )
    code, wrong, told = audit(tmp_path / "wrong.jsonl", here)
    assert code == 1
    # Of "turn left; move right" some opposites may end in the same place; there are none here.
    assert wrong == {"clips": 0} | Counter(row["task_type"] for row in plain(w2v)), told


@pytest.mark.parametrize("task", TASKS)
def test_validate_rejects_planted_faults_and_ends_with_4(here, w2v, task):
    asked = [row for row in plain(w2v) if row["task_type"] == task]
    wrong = [spoilt(row) for row in asked[:2]]
    if task == "D1":  # two units of the grid are within what detectors may be off
        wrong = [row | {"answer": "[1, 1, 900, 900]"} for row in wrong]
        for row in wrong:
            row["messages"][-1]["content"] = row["answer"]
    checks = [word for name in ("geometry", "moves", "boxes") for word in ("--check", name)]
    limits = ("--balance", "none", "--max-rejects", 0)
    code, kept, told = w2v("validate", "-", *checks, *limits, stdin=wrong + asked[2:])
    assert code == 4 and "rows rejected, more than 0%" in told
    assert [row["id"] for row in kept] == [row["id"] for row in asked[2:]]


def test_clips_of_the_tree_make_what_the_lines_make(here, w2v):
    for form in ("plain", "choice"):
        asked = [
            {row["id"]: row for row in w2v("build-tasks", source, "--form", form)[1]}
            for source in ("boxed.jsonl", "d", "d/scenes")
        ]
        assert asked[0] == asked[1] == asked[2] and len(asked[0]) > 50
    boxed = w2v("annotate", "d", "--detector", "oracle")[1]
    by_id = {row["id"]: row for row in rows((here / "boxed.jsonl").read_bytes())}
    assert {row["id"]: row for row in boxed} == by_id and len(boxed) == len(by_id)


# ── options that mean the same everywhere ─────────────────────────────────────────────────────


def test_limit_and_shards_take_parts_that_make_up_the_whole(here, w2v):
    whole = w2v("annotate", "clips.jsonl", "--detector", "oracle")[1]
    few = w2v("annotate", "clips.jsonl", "--detector", "oracle", "--limit", 3)[1]
    assert few == whole[:3]
    shard = ("annotate", "clips.jsonl", "--detector", "oracle", "--shard")
    parts = [w2v(*shard, f"{k}/3")[1] for k in range(3)]
    assert parts == [whole[k::3] for k in range(3)]


@pytest.mark.parametrize(
    "command",
    [
        ["render", "--teacher", "sim", "--scenes", "1", "-o", "new"],
        ["annotate", "clips.jsonl", "--detector", "oracle", "--rejects", "r"],
        ["build-tasks", "boxed.jsonl"],
        ["validate", "questions.jsonl", "-o", "new", "--rejects", "r"],
        ["convert", "questions.jsonl", "--to", "ms-swift", "-o", "new"],
    ],
    ids=lambda command: command[0],
)
def test_a_dry_run_writes_nothing(here, w2v, command):
    before = sorted(here.rglob("*"))
    code, lines, told = w2v(*command, "--dry-run")
    assert (code, lines) == (0, []) and "[dry run: nothing written]" in told
    assert sorted(here.rglob("*")) == before


def test_the_summary_accounts_for_every_row_and_the_rejects_name_them(here, tmp_path, w2v):
    lines = (here / "clips.jsonl").read_text().splitlines()
    lines[1] = lines[1].replace('"bundle":"', '"bundle":"gone/')
    (tmp_path / "c.jsonl").write_text("\n".join([*lines, "{broken", ""]))
    files = ("--summary", tmp_path / "new/s.json", "--rejects", tmp_path / "new/r.jsonl")
    code, made, told = w2v("annotate", tmp_path / "c.jsonl", "--detector", "oracle", *files)
    assert code == 3 and len(made) == len(lines) - 1
    summary = json.loads((tmp_path / "new/s.json").read_text())
    assert (summary["in"], summary["out"]) == (len(lines) + 1, len(lines) - 1)
    assert summary["failed"] == {"BadFile": 1, "bad line": 1}
    missed, broken = rows((tmp_path / "new/r.jsonl").read_bytes())
    assert missed["item"] == json.loads(lines[1])["id"]
    assert broken["item"] == "{broken" and f"c.jsonl:{len(lines) + 1}:" in broken["what"]


def test_a_split_keeps_each_scene_in_one_part(here, tmp_path, w2v):
    out = tmp_path / "parts"
    split = ("--split", "train=.5,val=.5", "-o", out)
    code, lines, _ = w2v("validate", "questions.jsonl", "--balance", "none", *split)
    train, val = (rows((out / f"{name}.jsonl").read_bytes()) for name in ("train", "val"))
    assert code == 0 and len(train) + len(val) == len(lines) > 0
    assert {row["scene"] for row in train}.isdisjoint(row["scene"] for row in val)
    assert [row for row in lines if row["meta"]["split"] == "train"] == train


def test_a_part_of_a_split_cannot_leave_the_folder(here, tmp_path, w2v):
    row = rows((here / "questions.jsonl").read_bytes())[0] | {"meta": {"split": "../away"}}
    code, _, told = w2v("validate", "-", "--check", "grammar", "-o", tmp_path / "o", stdin=[row])
    assert code == 1 and "'../away'" in told
    assert not list(tmp_path.rglob("*.jsonl"))


# ── the commands beside the pipe ──────────────────────────────────────────────────────────────


def test_the_self_test_trusts_robust_and_not_the_papers_reward(here, w2v):
    code, (told,), _ = w2v("score", "--self-test", "questions.jsonl", "--reward", "robust")
    assert code == 0, told
    code, _, err = w2v("score", "--self-test", "questions.jsonl", "--reward", "world2vlm")
    assert code == 4 and "reward 'world2vlm' fails its self-test" in err


def test_right_answers_score_1(here, w2v):
    asked = rows((here / "questions.jsonl").read_bytes())
    for row in asked:
        row["response"] = row["answer"]
    code, graded, _ = w2v("score", "-", stdin=asked)
    assert code == 0 and {row["score"] for row in graded} == {1.0}
    assert len(graded) == len(asked)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_convert_brings_every_question_back(here, tmp_path, w2v, name):
    file = tmp_path / "rows.jsonl"
    code, _, told = w2v("convert", "questions.jsonl", "--to", name, "-o", file, "--images", "keep")
    assert code == 0, told
    code, back, told = w2v("convert", file, "--from", name)
    assert code == 0, told
    asked = rows((here / "questions.jsonl").read_bytes())
    if name == "world2vlm":  # its rows have no room for more
        kept = ("task_type", "messages", "images", "answer")
        back, asked = ([{key: row[key] for key in kept} for row in each] for each in (back, asked))
    assert back == asked


def test_report_writes_one_page_that_shows_every_task(here, tmp_path, w2v):
    code, _, told = w2v(
        "report", "questions.jsonl", "-o", tmp_path / "new/page.html", "--per-task", 2
    )
    page = (tmp_path / "new/page.html").read_text()
    assert code == 0 and "8 tasks" in told
    assert all(task in page for task in TASKS) and "<img" in page
    assert "http://" not in page and 'src="http' not in page


BUILDABLE = ["depth-warp", "replay:tree=d", "oracle", *TASKS, "robust", "world2vlm"]
BUILDABLE += sorted(plugins.offers("check"))


def test_every_built_in_name_that_needs_no_weights_keeps_its_contract(here):
    names = " ".join(BUILDABLE)
    code = (
        "import sys; from click.testing import CliRunner; from w2v.cli import cli\n"
        "for name in sys.argv[1:]:\n"
        "    done = CliRunner().invoke(cli, ['plugins', 'check', name])\n"
        "    if done.exit_code: print(name, done.output, done.exception)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *names.split()], capture_output=True, text=True, cwd=here
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_doctor_and_completion_answer(made):
    done = shell("w2v doctor --json && w2v completion bash", made)
    first, _, rest = done.stdout.partition(b"\n")
    assert done.returncode == 0 and json.loads(first)["w2v"]
    assert b"_W2V_COMPLETE=bash_complete" in rest


# ── the shell ─────────────────────────────────────────────────────────────────────────────────


def test_a_reader_that_leaves_ends_the_whole_pipe_quietly(made):
    done = shell(
        "w2v annotate clips.jsonl --detector oracle -q | w2v build-tasks -q | head -1", made
    )
    assert done.stdout == (made / "asked.jsonl").read_bytes()[:0] + done.stdout.splitlines(True)[0]
    assert done.stderr == b""


@pytest.mark.parametrize("last", ["", " | w2v validate --balance none"], ids=["scenes", "lines"])
def test_a_full_disk_behind_stdout_is_one_message(made, last):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    done = shell(f"w2v build-tasks boxed.jsonl{last} > /dev/full", made)
    assert done.returncode == 1
    assert b"No space left on device" in done.stderr and b"Traceback" not in done.stderr


NOISY = """
import os, sys
import numpy as np
from w2v import hookimpl
from w2v.kinds import Offer, Rendered

class Noisy:
    def render(self, scene, anchor, paths):
        for path in paths:
            print("from Python")
            os.system("echo from a shell")
            os.write(1, b"straight to the descriptor")
            sys.__stdout__.write("behind the back")
            sys.__stdout__.flush()
            yield Rendered(frames=[np.zeros((32, 32, 3), np.uint8)] * len(path.poses))

def noisy():
    '''Print wherever one can print.'''
    print("while it is built")
    return Noisy()

@hookimpl
def w2v_teachers():
    print("while it is listed")
    return {"noisy": Offer(make=noisy, licence="MIT", may_train=True)}
"""


def test_stray_prints_of_a_plugin_do_not_reach_stdout(tmp_path):
    (tmp_path / "noisy.py").write_text(NOISY)
    scene = {"kind": "scene", "id": "a", "image": "", "intrinsics": CAMERA}
    (tmp_path / "scenes.jsonl").write_text(json.dumps(scene))
    done = shell("w2v --plugin noisy.py render scenes.jsonl --teacher noisy -o d", tmp_path)
    assert done.returncode == 0, done.stderr
    assert {row["kind"] for row in rows(done.stdout)} == {"clip"}
    for said in (b"Python", b"shell", b"descriptor", b"back", b"built", b"listed"):
        assert said in done.stderr


# ── hostile input ─────────────────────────────────────────────────────────────────────────────

CAMERA = {"width": 32, "height": 32, "fx": 30.0, "fy": 30.0, "cx": 16.0, "cy": 16.0}


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder with one good picture and depth, and pictures that are not."""
    import numpy as np

    from w2v import images

    tmp_path = tmp_path / "a" / "b" / "c"
    tmp_path.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    good = images.encode(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))
    (tmp_path / "good.png").write_bytes(good)
    (tmp_path / "cut.png").write_bytes(good[:-500])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "depth.png").write_bytes(images.encode(np.full((32, 32), 2000, np.uint16)))
    return tmp_path


def scene(**changed):
    depth = {"path": "depth.png", "meters_per_unit": 0.001}
    row = {"kind": "scene", "id": "bad", "image": "good.png", "intrinsics": CAMERA, "depth": depth}
    return row | changed


def depth(**changed):
    return {"path": "depth.png", "meters_per_unit": 0.001} | changed


BAD_SCENES = {
    "missing picture": (scene(image="none.png"), "none.png: no such file"),
    "cut picture": (scene(image="cut.png"), "cut.png: not a readable picture"),
    "empty picture": (scene(image="empty.png"), "empty.png: the file is empty"),
    "empty depth": (scene(depth=depth(path="empty.png")), "empty.png: the file is empty"),
    "picture outside": (scene(image="../../x.png"), "leads out of the root"),
    "absolute picture": (scene(image="/etc/hostname"), "leads out of the root"),
    "depth without unit": (scene(depth=depth(meters_per_unit=0)), "meters_per_unit is 0"),
    "size of another": (scene(intrinsics=CAMERA | {"width": 640}), "is 32x32"),
    "no focal length": (scene(intrinsics=CAMERA | {"fx": 0.0}), "not positive"),
    "huge focal length": (scene(intrinsics=CAMERA | {"fx": 1e308}), "beyond 1e+06 pixels"),
    "same id again": (scene(id="good"), "'good' comes twice"),
    "no id": (scene(id=" "), "empty id"),
    "number as id": (scene(id=5), "s.jsonl:2: scene.id should be str"),
    "unknown key": (scene(extra=1), "s.jsonl:2: scene has no key 'extra'"),
    "another kind": ({"kind": "clip"}, "s.jsonl:2: expected a scene, got clip"),
    "not a number": (json.dumps(scene()).replace("30.0", "NaN"), "s.jsonl:2: line contains"),
    "infinite pose": (json.dumps(scene(pose=[[1] * 4] * 4)).replace("1,", "1e999,"), "s.jsonl:2"),
    "not an object": ("[1]", "s.jsonl:2: "),
    "broken": ("{", "s.jsonl:2: line contains invalid json"),
    "deep": ('{"a":' + "[" * 100_000, "s.jsonl:2: "),
    "binary": ("\x00\x01\udcff\udcfe", "s.jsonl:2: "),
}


@pytest.mark.parametrize("bad", sorted(BAD_SCENES))
def test_a_bad_scene_is_named_and_the_others_are_rendered(photos, w2v, bad):
    row, said = BAD_SCENES[bad]
    text = row if isinstance(row, str) else json.dumps(row)
    lines = [json.dumps(scene(id="good")), text, json.dumps(scene(id="last"))]
    (photos / "s.jsonl").write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    arguments = ("render", "s.jsonl", "--teacher", "depth-warp", "-o", "d", "--rejects", "r")
    arguments += ("--moves", "move forward 0.2 meters", "--frames", "ends")
    code, made, told = w2v(*arguments)
    assert code == 3 and [clip["scene"] for clip in made] == ["good", "last"]
    assert said in told and "1 FAILED" in told
    (reject,) = rows(Path("r").read_bytes())
    assert said in reject["what"] and reject["item"]
    code, made, told = w2v(*arguments, "--on-error", "fail")
    assert code == 1 and [clip["scene"] for clip in made] == ["good"]
    assert told.splitlines()[0].startswith("Error: ") and said in told


@pytest.mark.parametrize(
    "name", ["ünïcode ☃", "a/b", "..", "../../up", ".hidden", "a\nb", "con trol\0", "x" * 500]
)
def test_any_scene_id_makes_one_folder_below_the_output(photos, w2v, name):
    arguments = ("--teacher", "depth-warp", "--moves", "move forward 0.2 meters", "-o", "d")
    code, (clip,), _ = w2v("render", "-", *arguments, stdin=[scene(id=name)])
    assert (code, clip["scene"]) == (0, name)
    (folder,) = (photos / "d/scenes").iterdir()
    assert (photos / clip["last"]).is_file() and (photos / clip["last"]).is_relative_to(folder)
    code, (question, *_), _ = w2v("build-tasks", "-", stdin=[clip])
    assert (code, question["scene"]) == (0, name)
    above = photos.parents[2]
    assert [p for p in above.rglob("*") if not p.is_relative_to(photos)] == [
        above / "a",
        above / "a/b",
    ]


BAD_CLIPS = {
    "no bundle": ({"bundle": "none"}, "none: no such file"),
    "bundle outside": ({"bundle": "../.."}, "leads out of the root"),
    "huge frame": ({"last_frame": 10**30}, "last_frame should be int"),
    "no moves": ({"moves": "turn left"}, "moves should be a list"),
    "infinite move": ({"moves": [{"verb": "turn left", "amount": 10**400}]}, ""),
}


@pytest.mark.parametrize("bad", sorted(BAD_CLIPS))
def test_a_bad_clip_is_named_and_the_others_are_annotated(here, w2v, bad):
    changed, said = BAD_CLIPS[bad]
    clips = rows((here / "clips.jsonl").read_bytes())[:3]
    clips[1] |= changed
    code, boxed, told = w2v("annotate", "-", "--detector", "oracle", stdin=clips)
    assert code == 3 and [clip["id"] for clip in boxed] == [clips[0]["id"], clips[2]["id"]]
    assert said in told and "1 FAILED" in told


def test_bundles_that_are_broken_on_disk_are_named_and_skipped(copy, w2v):
    bundles = sorted(copy.glob("d/scenes/*/traj_*"))
    (bundles[0] / "traj.json").write_text("{")
    (bundles[1] / "samples-mask/001.png").write_bytes(b"")
    (bundles[2] / "samples-mask/000.png").unlink()
    told = json.loads((bundles[3] / "traj.json").read_text())
    told["transforms"]["frames"][1]["file_path"] = "../../../../../etc/hostname"
    (bundles[3] / "traj.json").write_text(json.dumps(told))
    for bundle in bundles[:4]:
        (bundle / "detect_result.jsonl").unlink()
    code, boxed, err = w2v("annotate", "d", "--detector", "oracle", "--rejects", "r")
    assert code == 3 and len(boxed) == len(bundles) - 4
    assert [
        any(b.name in row["what"] + row["item"] for b in bundles[:4])
        for row in (rows(Path("r").read_bytes()))
    ] == [True] * 4


def test_windows_newlines_blank_lines_and_a_byte_order_mark_change_nothing(here, tmp_path, w2v):
    text = (here / "boxed.jsonl").read_bytes()
    (tmp_path / "w.jsonl").write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n\r\n"))
    assert w2v("build-tasks", tmp_path / "w.jsonl")[:2] == w2v("build-tasks", "boxed.jsonl")[:2]


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff"])
@pytest.mark.parametrize("command", ["annotate --detector oracle", "build-tasks", "validate"])
def test_nothing_in_is_nothing_out(w2v, command, text):
    assert w2v(*command.split(), "-", stdin=text)[:2] == (0, [])


WRONG = {
    "render --teacher simm --scenes 1 -o x": (6, "did you mean 'sim'?"),
    "render --teacher sim:qualty=fast --scenes 1 -o x": (2, "it has: field_of_view, quality"),
    "render --teacher sim:quality=best --scenes 1 -o x": (2, "use full or fast"),
    "render --teacher sim:field_of_view=wide --scenes 1 -o x": (2, "should be float"),
    "render --teacher depth-warp --scenes 1 -o x": (2, "makes no scenes"),
    "render --teacher sim -o x": (2, "--scenes N"),
    "render --teacher sim --scenes 0 -o x": (2, "--scenes"),
    "render --teacher sim --scenes 1": (2, "--output"),
    "render --teacher sim --scenes 1 -o /elsewhere": (1, "outside the root"),
    "render --teacher sim --scenes 1 -o questions.jsonl": (2, "is a file"),
    "render --teacher sim --scenes 1 -o questions.jsonl/x": (1, "Not a directory"),
    "render --teacher sim --scenes 1 -o x --size 10x10": (2, "16 to 8192 pixels"),
    "render --teacher sim --scenes 1 -o x --size big": (2, "is not WxH"),
    "render --teacher sim --scenes 1 -o x --shard 2/2": (2, "is not I/N"),
    "render --teacher sim --scenes 1 -o x --frames 1": (2, "all, ends or a number"),
    "render --teacher sim --scenes 1 -o x --moves jump": (2, "is not a camera move"),
    "render --teacher sim --scenes 1 -o x --draws 0": (2, "0 is not in the range"),
    "render --teacher sim --scenes 1 -o x --trajectories z": (6, "known: hy, w2v, world2vlm"),
    "render none.jsonl --teacher depth-warp -o x": (1, "none.jsonl: no such file"),
    "annotate clips.jsonl --detector oracel": (6, "did you mean 'oracle'?"),
    "annotate clips.jsonl --detector yolo": (2, "needs 'model'"),
    "build-tasks boxed.jsonl --task A9": (6, "known: A1, A2"),
    "build-tasks boxed.jsonl --task D2:gone=2": (2, "leave no dead band"),
    "build-tasks boxed.jsonl --form verse": (2, "'verse'"),
    "build-tasks questions.jsonl": (1, "questions.jsonl:1: expected a clip, got question"),
    "validate questions.jsonl --check gramar": (6, "did you mean 'grammar'?"),
    "validate questions.jsonl --split train": (2, "write e.g. train=.99,val=.01"),
    "validate clips.jsonl": (1, "clips.jsonl:1: expected a question, got clip"),
    "score questions.jsonl": (1, "questions.jsonl:1: the row lacks 'response'"),
    "score questions.jsonl --reward robus": (6, "did you mean 'robust'?"),
    "convert questions.jsonl": (2, "either --to or --from"),
    "convert questions.jsonl --to swift": (2, "'swift'"),
    "report none -o x.html": (2, "does not exist"),
    "report clips.jsonl -o d": (2, "is a directory"),
    "plugins check oracel": (6, "did you mean 'oracle'?"),
    "rendr": (2, "did you mean 'render'?"),
    "render --nope": (2, "No such option"),
    "annotate clips.jsonl --detector oracle --summary clips.jsonl/s": (1, "clips.jsonl/s"),
}


def test_one_given_path_is_not_drawn_again(tmp_path, w2v):
    moves = ("--moves", "turn left 9 degrees", "--draws", 2)
    code, _, err = w2v("render", "--teacher", "sim", "--scenes", 1, "-o", tmp_path / "x", *moves)
    assert code == 2 and "leave one out" in err and not (tmp_path / "x").exists()


@pytest.mark.parametrize("typed", sorted(WRONG))
def test_what_is_typed_wrong_is_said_and_has_its_exit_code(here, w2v, typed):
    code, lines, told = w2v(*typed.split())
    assert (code, lines) == (WRONG[typed][0], [])
    assert WRONG[typed][1] in told and "Error: " in told


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write_is_named(here, tmp_path, w2v):
    (tmp_path / "d").mkdir(mode=0o555)
    code, lines, told = w2v(
        *RENDER.split()[1:], "-o", tmp_path / "d", "--root", tmp_path, "--on-error", "fail"
    )
    assert (code, lines) == (1, []) and "Permission denied" in told
