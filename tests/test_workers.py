"""Several processes: the same lines, counts and errors as one makes, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from w2v.errors import W2VError
from w2v.workers import SMALL, Workers

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
import trees

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are shared on Linux")


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("size", [0, 1, 9, 50])
def test_results_come_in_the_order_of_the_items(number, size):
    def slow_at_first(item):
        time.sleep(0.02 if item < 2 else 0)
        return item**2, os.getpid()

    with Workers(slow_at_first, number) as workers:
        found = list(workers.map(iter(range(size))))
    assert [(item, square) for item, (square, _) in found] == [(k, k * k) for k in range(size)]
    busy = {process for _, (_, process) in found}
    assert os.getpid() not in busy and len(busy) <= number


def test_messages_that_fill_a_pipe_both_ways_do_not_wait_for_each_other():
    items = [bytes([k]) * SMALL * 40 for k in range(12)]
    with Workers(lambda item: item, 2) as workers:
        assert [made for _, made in workers.map(items)] == items


def test_a_worker_that_dies_is_named_and_the_others_end():
    def die_at_last(item):
        if item == 30:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    with pytest.raises(W2VError, match="a worker process died"), Workers(die_at_last, 2) as workers:
        list(workers.map(range(100)))
    assert not any(process.is_alive() for process in workers._processes)


# ── build-tasks ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    trees.make(folder, 11)
    return folder


def run(tree, number, *options):
    """Return the exit code, the lines, what was said and the summary of one run."""
    summary = tree.parent / f"{number}.json"
    done = subprocess.run(
        [sys.executable, "-m", "w2v", "build-tasks", tree.name, "--workers", str(number)]
        + ["--summary", str(summary), *options],
        cwd=tree.parent,
        capture_output=True,
    )
    told = json.loads(summary.read_text()) if summary.exists() else {}
    told.pop("seconds", None)
    summary.unlink(missing_ok=True)
    return done.returncode, done.stdout, done.stderr, told


@pytest.mark.parametrize(
    "options",
    [
        ["--form", "mixed"],
        ["--compat", "world2vlm", "--shard", "1/2"],
        ["--limit", "5", "--dry-run"],
    ],
    ids=" ".join,
)
def test_any_number_of_workers_makes_the_same(tree, options):
    one = run(tree, 1, *options)
    assert one[0] == 0 and one[3]["out"] > 0
    assert bool(one[1]) == ("--dry-run" not in options)
    assert run(tree, 2, *options) == run(tree, 5, *options) == one


@pytest.fixture
def spoilt(tree, tmp_path):
    """The same tree with two broken bundles."""
    subprocess.run(["cp", "-r", tree, tmp_path / "t"], check=True)
    for scene in ("room_00003", "room_00008"):
        next((tmp_path / "t" / "scenes" / scene).iterdir()).joinpath("traj.json").write_text("{")
    return tmp_path / "t"


@pytest.mark.parametrize("policy", ["skip", "fail"])
def test_broken_bundles_fail_alike(spoilt, policy):
    rejects = spoilt.parent / "r.jsonl"
    options = ("--on-error", policy, "--rejects", str(rejects))
    one = run(spoilt, 1, *options)
    listed = rejects.read_text() if policy == "skip" else ""
    assert one[0] == {"skip": 3, "fail": 1}[policy] and b"traj.json" in one[2] and one[1]
    assert run(spoilt, 3, *options) == one
    assert listed == (rejects.read_text() if policy == "skip" else "")


def children(process):
    return len(Path(f"/proc/{process}/task/{process}/children").read_text().split())


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 75), (signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)],
)
@pytest.mark.parametrize("group", [True, False], ids=["all", "parent"])
def test_told_to_stop_no_process_stays(tree, number, code, group):
    command = ["build-tasks", str(tree), "--root", str(tree), "-q", "--workers", "3"]
    with subprocess.Popen(
        [sys.executable, "-m", "w2v", *command],
        stdout=subprocess.PIPE,  # not read until told to stop, so that the end is not reached
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        while children(process.pid) < 3:
            time.sleep(0.01)
        (os.killpg if group else os.kill)(process.pid, number)
        # Reading lets a full pipe take what was under way; until its last copy is closed this
        # does not return.
        assert process.communicate(timeout=30)[1].strip() == b""
        assert process.returncode == code


def test_a_reader_may_leave_early(tree):
    command = f"{sys.executable} -m w2v build-tasks {tree} --root {tree} -q --workers 2 | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True)
    assert done.stdout.startswith(b'{"kind":"question"') and done.stderr == b""
