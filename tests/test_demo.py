"""The demo as a user runs it: from nothing to a page, again for nothing, and after a kill."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("embreex")

DEMO = [sys.executable, "-m", "w2v", "demo", "-o", "demo", "--quick", "--scenes", "2"]
DEMO += ["--no-train"]
RESULTS = ("clips.jsonl", "boxed.jsonl", "asked.jsonl", "questions.jsonl")


def start(folder):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(DEMO, cwd=folder, start_new_session=True, text=True, **pipes)


def finish(folder):
    """Run the demo to its end; return what it says on stdout and on stderr."""
    process = start(folder)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    return out, err


def content(folder):
    """Return the bytes of all results."""
    return {name: (folder / "demo" / name).read_bytes() for name in RESULTS}


def scenes(folder):
    """Return when each file of the scenes was written."""
    files = (folder / "demo/scenes").rglob("*")
    return {str(p): p.stat().st_mtime_ns for p in files if p.is_file()}


def changed(one, other):
    """Return the names of what is not in both alike."""
    return sorted(name for name in {**one, **other} if one.get(name) != other.get(name))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return folder, *finish(folder)


def test_the_demo_ends_with_a_page_and_checked_questions_of_all_eight_tasks(whole):
    folder, out, err = whole
    assert out == "demo/report.html\n"
    assert "Traceback" not in err and "Warning" not in err
    for task in ("A1", "A2", "A3", "A4", "D1", "D2", "D3", "D4"):
        assert f"\n  {task}  " in err
        assert (folder / f"demo/sheets/sheet_{task}.png").stat().st_size > 10_000
    assert "<img" in (folder / "demo/report.html").read_text()


def test_run_again_it_renders_nothing_and_says_the_same(whole):
    folder, out, _ = whole
    before, written = content(folder), scenes(folder)
    assert finish(folder)[0] == out
    assert changed(before, content(folder)) == changed(written, scenes(folder)) == []


def test_killed_midway_and_run_again_it_ends_the_same(whole, tmp_path):
    process = start(tmp_path)
    while not list(tmp_path.glob("demo/scenes/*/traj_*")) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "demo/clips.jsonl").exists()
    finish(tmp_path)
    assert changed(content(whole[0]), content(tmp_path)) == []


def test_told_to_stop_no_process_of_it_goes_on(tmp_path):
    process = start(tmp_path)
    while not list(tmp_path.glob("demo/scenes/*")) and process.poll() is None:
        time.sleep(0.02)
    process.terminate()
    process.communicate(timeout=60)  # its pipes close when the last of its children ends
    assert process.returncode == 75


def test_a_student_is_trained_and_asked_about_other_rooms(tmp_path):
    pytest.importorskip("trl")
    from w2v.students import tiny

    tiny.build(tmp_path / "base")
    command = [*DEMO[:-1], "--scenes", "5", "--student", f"tiny:path={tmp_path / 'base'}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "demo/report.html\n"
    table = (tmp_path / "demo/learned.md").read_text()
    assert "sft − base" in table and "grpo − sft" in table
    assert table in done.stderr
    page = (tmp_path / "demo/report.html").read_text()
    for part in ("sft against base", "grpo against sft", "reward of each task", "<h2>A1"):
        assert part in page, part
    parts = [(tmp_path / f"demo/parts/{name}.jsonl").read_text() for name in ("train", "test")]
    rooms = [{json.loads(row)["scene"] for row in part.splitlines()} for part in parts]
    assert rooms[0] and rooms[1] and not rooms[0] & rooms[1]
    answers = (tmp_path / "demo/grpo.answers.jsonl").read_text().splitlines()
    asked = {json.loads(row)["question"] for row in answers}
    assert asked and asked <= {json.loads(row)["id"] for row in parts[1].splitlines()}
    assert (tmp_path / "demo/sft/model.safetensors").exists()
    assert (tmp_path / "demo/grpo/adapter_model.safetensors").exists()


def test_without_a_base_it_ends_with_the_questions_and_says_so(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from w2v.commands import demo

    monkeypatch.setattr(demo, "BASE", tmp_path / "none")
    monkeypatch.setattr(demo.Steps, "questions", lambda self, scenes, test: None)
    monkeypatch.setattr(demo.Steps, "page", lambda self, learned: None)
    monkeypatch.setattr(demo, "_tell", lambda out: None)
    done = CliRunner().invoke(demo.demo, ["-o", str(tmp_path / "d"), "--quick"])
    assert done.exit_code == 0 and "nothing was trained" in done.stderr
    assert "w2v pretrain -o base" in done.stderr or "pip install" in done.stderr
