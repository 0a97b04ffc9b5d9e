"""Kills, shards, closed pipes and full disks: what comes out does not depend on how it ran."""

import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
import time

import pytest

RENDER = [
    *("render", "--teacher", "sim:quality=fast", "--scenes", "3", "--size", "64x64"),
    *("--frames", "ends", "-o", "d"),
]


def start(arguments, folder, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "w2v", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **options,
    )


def run(arguments, folder, **options):
    process = start(arguments, folder, **options)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err.decode()


def content(folder):
    """Return a digest of every file under a folder that is not hidden."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not any(part.startswith(".") for part in p.relative_to(folder).parts)
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One run without a disturbance: its lines and its files."""
    folder = tmp_path_factory.mktemp("whole")
    code, out, err = run(RENDER, folder)
    assert code == 0, err
    return out, content(folder / "d")


def test_ctrl_c_in_code_made_from_text_ends_as_elsewhere(tmp_path):
    (tmp_path / "plugin.py").write_text('exec("raise KeyboardInterrupt")')
    assert run(["--plugin", "plugin.py", "doctor"], tmp_path)[0] == 130


def test_killed_at_random_moments_and_run_again_nothing_differs(whole, tmp_path):
    chance = random.Random(20)
    kills = 0
    while kills < 20:
        process = start(RENDER, tmp_path)
        time.sleep(chance.uniform(0.1, 3.0))
        process.kill()
        out = process.communicate()[0]
        assert whole[0].startswith(out[: out.rfind(b"\n") + 1])
        kills += 1
        if process.returncode == 0:
            for scene in (tmp_path / "d" / "scenes").iterdir():
                (scene / "scene.json").unlink()  # make it look again at every clip
    code, out, _ = run(RENDER, tmp_path)
    assert (code, out) == (0, whole[0])
    assert content(tmp_path / "d") == whole[1]


@pytest.mark.parametrize("parts", [3, 7])
def test_shards_together_make_what_one_run_makes(whole, tmp_path, parts):
    lines = set()
    for part in range(parts):
        code, out, err = run([*RENDER, "--shard", f"{part}/{parts}"], tmp_path)
        assert code == 0, err
        lines |= set(out.splitlines())
    assert lines == set(whole[0].splitlines())
    assert content(tmp_path / "d") == whole[1]
    assert run(RENDER, tmp_path)[1] == whole[0]  # merging is running once more


def test_told_to_stop_it_says_that_it_can_continue(tmp_path):
    process = start([*RENDER, "--scenes", "200"], tmp_path)
    while not list(tmp_path.glob("d/scenes/*/traj_*")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 75
    assert not [p for p in tmp_path.rglob(".*") if p.is_file()], "a half-written file was left"


def test_a_reader_may_leave_early(tmp_path, whole):
    command = f"{sys.executable} -m w2v {' '.join(RENDER)} | head -1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, env=os.environ
    )
    assert done.stdout == whole[0].splitlines(keepends=True)[0]
    assert b"Traceback" not in done.stderr and b"Error" not in done.stderr


def test_a_full_disk_is_one_message_and_nothing_half_written(tmp_path):
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    code, out, err = run([*RENDER, "--on-error", "fail"], tmp_path, preexec_fn=small_files)
    assert (code, out) == (1, b"")
    assert "Traceback" not in err and "File too large" in err
    assert not list(tmp_path.rglob("traj.json"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "d").write_text("a file is in the way")
    code, out, err = run(RENDER, tmp_path)
    assert code in (1, 2) and out == b""
    assert "Traceback" not in err and "d" in err


def test_another_runs_folder_is_refused_unless_told(whole, tmp_path):
    small = [*RENDER, "--scenes", "1"]
    assert run(small, tmp_path)[0] == 0
    code, out, err = run([*small, "--size", "48x48"], tmp_path)
    assert (code, out) == (1, b"") and "--overwrite" in err
    code, out, _ = run([*small, "--size", "48x48", "--overwrite"], tmp_path)
    assert code == 0 and b'"width":48' in out


SWALLOWED = """
import os, signal, time, weakref
from w2v import cli

class Thing: pass

def gone(_):
    os.kill(os.getpid(), signal.{name})
    for _ in range(1000): pass  # here the signal is heard

cli.listen()
thing = Thing()
watched = weakref.ref(thing, gone)
try:
    del thing
    time.sleep(20)
except {error}:
    print("told")
    raise
"""


@pytest.mark.parametrize(
    ("name", "error", "code"),
    [("SIGTERM", "SystemExit", 75), ("SIGINT", "KeyboardInterrupt", -signal.SIGINT)],
)
def test_a_signal_is_heard_where_no_exception_gets_out(name, error, code):
    script = SWALLOWED.format(name=name, error=error)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "told\n")
    assert "ignored" not in done.stderr
