"""Several processes: the same lines, counts and errors as one makes, and nothing left behind."""

import collections
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from w2v import stream, validating
from w2v.checks import w2v_checks
from w2v.errors import W2VError
from w2v.kinds import Problem, RowCheck, Verdict
from w2v.records import Message, Question
from w2v.workers import BATCH, SMALL, Workers

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


def test_messages_that_fill_a_pipe_keep_all_workers_busy():
    together = multiprocessing.get_context("fork").Barrier(2)

    def meet(item):
        if item[0] % BATCH == 0:
            together.wait(timeout=20)  # breaks where the other worker has nothing to do
        return item[0]

    items = [bytes([k]) * SMALL for k in range(6 * BATCH)]
    with Workers(meet, 2) as workers:
        assert [made for _, made in workers.map(items)] == list(range(6 * BATCH))


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


# ── validate ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def questions(tree):
    """A file of questions, one in nineteen with a wrong answer, one in fifty asked again."""
    lines = run(tree, 1)[1].decode().splitlines()
    file = tree.parent / "questions.jsonl"
    with open(file, "w", encoding="utf-8") as out:
        for k, line in enumerate(lines):
            if k % 19 == 7:
                told = json.loads(line)
                told["answer"] = told["messages"][-1]["content"] = "[1, 2, 3, 4]"
                line = json.dumps(told)
            out.write(line + "\n")
            if k % 50 == 0:
                out.write(line + "\n")
    return file


def validated(questions, number, *options):
    """Return all that a run of validate leaves behind but how long it took."""
    report, rejects = questions.with_name("report.json"), questions.with_name("rejects.jsonl")
    checks = ("grammar", "boxes", "moves", "geometry", "duplicates", "leaks", "balance")
    command = [sys.executable, "-m", "w2v", "validate", questions.name, "--balance", "none"]
    command += [f"--check={name}" for name in checks]
    command += ["--report", report.name, "--rejects", rejects.name, "--max-rejects", "1"]
    done = subprocess.run(
        [*command, "--workers", str(number), *options], cwd=questions.parent, capture_output=True
    )
    told = json.loads(report.read_text())
    del told["seconds"]
    return done.returncode, done.stdout, done.stderr, told, rejects.read_text()


@pytest.mark.parametrize("options", [[], ["--shard", "1/3"], ["--limit", "400"]], ids=" ".join)
def test_any_number_of_workers_finds_the_same(questions, options):
    one = validated(questions, 1, *options)
    told = one[3]
    if not options:  # a shard and the first few rows may hold no row twice
        assert told["dropped"]["duplicates: duplicate"] > 0
    assert sum(n for reason, n in told["dropped"].items() if reason.startswith("grammar")) > 1
    assert sum(task["agreed"] for task in told["checks"]["geometry"].values()) > 10
    assert validated(questions, 2, *options) == validated(questions, 3, *options) == one


def asked(number):
    """Return so many questions, each of a scene of its own."""
    said = (Message(role="user", content="Which way?"), Message(role="assistant", content="left"))
    return [
        Question(id=f"q{k}", task_type="T", images=(), messages=said, answer="left", scene=f"s{k}")
        for k in range(number)
    ]


class Odd:
    """Counts all rows and rejects each third; ``wrong`` breaks it."""

    def __init__(self, wrong=""):
        self.tally, self.wrong = collections.Counter(), wrong

    def row(self, question):
        self.tally["seen"] += 1
        if question.id == self.wrong:
            raise ValueError(f"cannot look at {question.id}")
        return Problem(reason="third") if int(question.id[1:]) % 3 == 0 else None

    def whole(self, kept):
        return Verdict(figures=dict(self.tally))


class InOrder:
    """Remembers the rows it sees, so that no other process may look at them."""

    def __init__(self):
        self.seen = []

    def row(self, question):
        self.seen.append(question.id)
        return None

    def whole(self, kept):
        return Verdict()


def judged(checks, number):
    settings = stream.Settings(quiet=True)
    stage = stream.Stage(name="validate", settings=settings, out=sys.stderr)
    return stage, validating.rows(stage, asked(40), checks, number)


def test_checks_that_remember_see_what_is_left_in_order():
    odd, after = Odd(), InOrder()
    stage, kept = judged({"odd": odd, "after": after}, 2)
    left = [f"q{k}" for k in range(40) if k % 3]
    assert [question.id for question in kept] == after.seen == left
    assert odd.whole(kept).figures == {"seen": 40}
    assert (stage.inputs, stage.dropped) == (40, {"odd: third": 14})


def test_a_check_after_one_that_remembers_is_not_shared():
    first, odd = InOrder(), Odd()
    _, kept = judged({"first": first, "odd": odd}, 2)
    assert [question.id for question in kept] == [f"q{k}" for k in range(40) if k % 3]
    assert first.seen == [f"q{k}" for k in range(40)]
    assert odd.whole(kept).figures == {"seen": 40}


def test_a_check_that_breaks_in_a_worker_tells_its_own_error():
    with pytest.raises(ValueError, match="cannot look at q31"):
        judged({"odd": Odd("q31")}, 2)


def test_the_checks_of_single_rows_are_shared():
    made = {name: offer.make() for name, offer in w2v_checks().items()}
    shared = {name for name, check in made.items() if isinstance(check, RowCheck)}
    assert shared == {"grammar", "images", "boxes", "moves", "geometry", "contamination"}
