"""Asking a student: the log survives everything, and the figures stand beside blindness."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from w2v import blind, boxes, evaluating, motion
from w2v.errors import ForeignOutput
from w2v.records import Message, Move, Question
from w2v.stream import line

STUDENT = '''
import time
from w2v import hookimpl
from w2v.errors import W2VError
from w2v.kinds import Offer
from w2v.provenance import draw

@hookimpl
def w2v_students():
    return {"parrot": Offer(make=Parrot)}

class Parrot:
    """Say the right answer, or nothing, by chance."""

    def __init__(self, right: int = 70, tokens: int = 64, wait: float = 0.0, fail: str = ""):
        self.right, self.tokens, self.wait, self.fail = right, tokens, wait, fail
        self.asked = 0

    def describe(self):
        return {"image_tokens": self.tokens, "weights": "none"}

    def answer(self, questions):
        time.sleep(self.wait)
        if any(question.id == self.fail for question in questions):
            raise RuntimeError("no such thing")
        # What a model says depends on its company in the batch: so does this.
        company = questions[0].id
        return [
            q.answer if draw(100, q.id) < self.right else f"{company} {draw(9, q.id, company)}"
            for q in questions
        ]
'''


def room(k):
    """Return the questions of one scene."""
    turn = f"turn {'left' if k % 2 else 'right'} {20 + 5 * (k % 9)} degrees"
    x = 100 + 40 * (k % 10)
    seen = "yes" if k % 3 else "no"
    for task, prompt, answer in (
        ("A2", "How did the camera turn?", turn),
        ("D1", f"It was at [{x}, 200, {x + 100}, 300]. Where is it?", f"[{x}, 220, {x + 90}, 320]"),
        ("D2", "Will it be gone?", seen),
    ):
        yield Question(
            id=f"room{k}/{task}",
            task_type=task,
            messages=(
                Message(role="user", content=f"<image>{prompt}"),
                Message(role="assistant", content=answer),
            ),
            images=("0.png",),
            answer=answer,
            scene=f"room{k}",
        )


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a picture, 60 questions about 20 scenes, and a student."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0.png").write_bytes(b"a picture")
    (tmp_path / "parrot.py").write_text(STUDENT)
    asked = [question for k in range(20) for question in room(k)]
    (tmp_path / "questions.jsonl").write_text("".join(map(line, asked)))
    return tmp_path


@pytest.fixture
def run(here, w2v):
    def run(*more, student="parrot", output="d", questions="questions.jsonl"):
        plugin = ("--plugin", "parrot.py") if not run.loaded else ()
        run.loaded = True
        arguments = ("eval", questions, "--student", student, "-o", output, *more)
        return w2v(*plugin, *arguments)

    from w2v import plugins

    run.loaded = False
    yield run
    plugins.pm.unregister(name="parrot.py")


def figures(folder="d"):
    return json.loads(Path(folder, "metrics.json").read_text())


# ── what comes out ────────────────────────────────────────────────────────────────────────────


def test_answers_go_to_the_pipe_and_to_the_log_in_the_order_of_the_questions(run, here):
    code, rows, err = run("--batch-size", 7, "--no-blind")
    assert code == 0, err
    assert [row["question"] for row in rows] == [q.id for k in range(20) for q in room(k)]
    assert [json.loads(x) for x in (here / "d/answers.jsonl").read_text().splitlines()] == rows
    assert {row["kind"] for row in rows} == {"answer"}
    right = next(row for row in rows if row["score"] == 1.0)
    assert (right["student"], right["benchmark"]) == ("parrot", "questions")
    assert "60 in, 60 out" in err


def test_figures_count_what_was_said(run):
    _, rows, err = run()
    told = figures()
    groups = told["groups"]
    assert list(groups) == ["A2", "D1", "D2", "all"]
    assert (told["questions"], told["answered"]) == (60, 60)
    for task in ("A2", "D1", "D2"):
        mine = [row for row in rows if row["meta"]["group"] == task]
        metric = groups[task]["metrics"]
        assert groups[task]["questions"] == groups[task]["scenes"] == len(mine) == 20
        assert metric["reward"]["value"] == pytest.approx(sum(r["score"] for r in mine) / 20)
        unread = sum(row["parsed"] is None for row in mine)
        assert metric["unparsed"]["value"] == pytest.approx(unread / 20)
        low, high = metric["reward"]["interval"]
        assert low <= metric["reward"]["value"] <= high
    assert 0 < groups["all"]["metrics"]["unparsed"]["value"] < 1
    assert "above the best blind answer" in err


def test_blind_answers_stand_beside_the_students(run, here):
    run(student="parrot:right=100")
    told = figures()["groups"]
    assert told["D1"]["metrics"]["reward"]["value"] == 1.0
    # D1 pays nothing for the box in the question, whatever its IoU
    copied = told["D1"]["blind"]["copy the box"]
    assert copied["reward"] == 0.0
    assert copied["iou"] == pytest.approx(7200 / (10000 + 9000 - 7200))
    # every third scene is "no": a constant says yes and is right 13 times in 20
    assert told["D2"]["blind"]["constant"]["accuracy"] == 0.65
    for task in ("A2", "D1", "D2"):
        best = told[task]["best blind"]
        gain = told[task]["above blind"]["reward"]
        assert gain["value"] == pytest.approx(1 - told[task]["blind"][best]["reward"])
    chosen = [json.loads(x) for x in (here / "d/blind.jsonl").read_text().splitlines()]
    assert len(chosen) == 60 and all(row["student"].startswith("blind: ") for row in chosen)
    means = [told[t]["blind"][told[t]["best blind"]]["reward"] for t in ("A2", "D1", "D2")]
    assert told["all"]["above blind"]["reward"]["value"] == pytest.approx(1 - sum(means) / 3)


def test_baselines_can_learn_from_other_questions(run, here):
    others = [question for k in range(100, 160) for question in room(k)]
    (here / "train.jsonl").write_text("".join(map(line, others)))
    code, _, err = run("--train", "train.jsonl")
    assert code == 0, err
    assert figures()["groups"]["D2"]["blind"]["constant"]["accuracy"] == 0.65


def test_no_blind_leaves_the_baselines_out(run, here):
    run("--no-blind")
    assert "blind" not in figures()["groups"]["A2"]
    assert not (here / "d/blind.jsonl").exists()


def test_a_dry_run_asks_nothing_and_writes_nothing(run, here):
    code, rows, err = run("--dry-run", student="nobody")
    assert (code, rows) == (0, []) and not (here / "d").exists()
    assert "60 in" in err


def test_rows_of_world2vlm_are_read_too(run, here):
    row = {"task_type": "A2", "messages": [], "images": ["0.png"]}
    row["messages"] = [
        {"role": "user", "content": "<image>How did it turn?"},
        {"role": "assistant", "content": "turn left 30 degrees"},
    ]
    (here / "rows.jsonl").write_text(json.dumps(row) + "\n")
    code, rows, err = run("--no-blind", questions="rows.jsonl", student="parrot:right=100")
    assert code == 0, err
    assert rows[0]["score"] == 1.0


def test_questions_that_are_alike_are_asked_together(here):
    asked = [question for k in range(60) for question in room(k)]
    exam = evaluating.Exam(
        benchmark=None,
        benchmark_name="questions",
        student=None,
        student_name="parrot",
        questions=asked,
        shown=asked,
        folder=here,
        batch=5,
    )
    batches = exam.batches
    for batch in batches:
        assert len({asked[place].task_type for place in batch}) == 1
        assert max(batch) - min(batch) < evaluating.WINDOW * 5  # so that none waits for long
    assert sorted(place for batch in batches for place in batch) == list(range(180))
    parts = [replace(exam, shard=(k, 4)).batches for k in range(4)]
    assert sorted(batch for part in parts for batch in part) == sorted(batches)


# ── stopped and continued ─────────────────────────────────────────────────────────────────────


def start(here, *more, output="d"):
    command = [sys.executable, "-m", "w2v", "--plugin", "parrot.py", "eval", "questions.jsonl"]
    command += ["--student", "parrot:wait=0.05", "--batch-size", "4", "--no-blind", "-o", output]
    return subprocess.Popen(
        [*command, *more],
        cwd=here,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def as_asked(log):
    """Return the lines of a log as they stand before its end, those of one task together."""
    return sorted(log.splitlines(True), key=lambda text: json.loads(text)["meta"]["group"])


def test_killed_and_run_again_the_log_is_that_of_one_run(here):
    process = start(here, output="whole")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err.decode()
    whole = (here / "whole/answers.jsonl").read_bytes()
    log, kills = here / "d/answers.jsonl", 0
    for answers in (3, 25, 41):
        process = start(here)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and process.poll() is None:
            if log.exists() and log.read_bytes().count(b"\n") >= answers:
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        left = log.read_bytes()
        assert answers <= left.count(b"\n") and b"".join(as_asked(whole)).startswith(left)
        log.write_bytes(left[:-20])  # and the disk did not get the last of it
    assert kills == 3
    process = start(here)
    again, err = process.communicate(timeout=60)
    assert process.returncode == 0, err.decode()
    assert "40 answers are there already" in err.decode()
    assert log.read_bytes() == whole and again == out == whole


def test_a_finished_run_asks_nothing_again(run, here):
    _, first, _ = run("--no-blind")
    log = here / "d/answers.jsonl"
    before = log.stat().st_mtime_ns
    code, rows, err = run("--no-blind")
    assert (code, rows) == (0, first)
    assert "60 answers are there already" in err
    assert log.stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", [b"", b"{", b'{"kind":"answer"}\n', b"\xff\xfe\n", b"[]\n"])
def test_a_damaged_log_is_mended(run, here, damage):
    run("--batch-size", 8, "--no-blind")
    log = here / "d/answers.jsonl"
    whole = log.read_bytes()
    lines = as_asked(whole)
    log.write_bytes(b"".join(lines[:19]) + damage)
    code, _, err = run("--batch-size", 8, "--no-blind")
    assert code == 0 and "16 answers are there already" in err
    assert log.read_bytes() == whole
    log.write_bytes(b"".join([*lines[:5], damage, *lines[6:]]))
    code, _, err = run("--batch-size", 8, "--no-blind")
    assert code == 0 and "52 answers are there already" in err
    assert log.read_bytes() == whole


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_shards_together_make_what_one_run_makes(run, here, order):
    _, rows, _ = run("--batch-size", 8, output="whole")
    parts = []
    for place, part in enumerate(order):
        more = ("--batch-size", 8, "--shard", f"{part}/3")
        code, got, err = run(*more)
        assert code == 0
        parts += got
        assert ("come with the last" in err) == (place < 2)
    assert sorted(r["id"] for r in parts) == sorted(r["id"] for r in rows)
    for name in ("answers.jsonl", "metrics.json", "blind.jsonl", "protocol.json"):
        assert (here / "d" / name).read_bytes() == (here / "whole" / name).read_bytes()


def test_two_at_once_are_not_let_into_one_log(tmp_path):
    log = evaluating.Log(tmp_path / "answers.jsonl", [["a"]])
    with pytest.raises(ForeignOutput, match="another w2v eval is writing it"):
        evaluating.Log(tmp_path / "answers.jsonl", [["a"]])
    evaluating.Log(tmp_path / "answers.0-of-2.jsonl", [["a"]]).close()
    log.close()
    evaluating.Log(tmp_path / "answers.jsonl", [["a"]]).close()


# ── refused ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("student", "more", "what"),
    [
        ("parrot:tokens=256", (), "image_tokens is 64 and 256 now"),
        ("parrot:right=1", (), "student is parrot and parrot:right=1 now"),
        ("parrot", ("--limit", 9), "questions is"),
        ("parrot", ("--benchmark", "questions:reward=world2vlm"), "version is"),
    ],
)
def test_the_folder_of_another_run_is_refused_before_anything_is_asked(run, student, more, what):
    run("--no-blind")
    before = Path("d/answers.jsonl").read_text()
    code, rows, err = run("--no-blind", *more, student=student)
    assert (code, rows) == (1, [])
    assert "holds the answers of another run" in err and what in err
    assert Path("d/answers.jsonl").read_text() == before
    code, rows, _ = run("--no-blind", "--overwrite", *more, student=student)
    assert code == 0 and len(rows) == (9 if more[:1] == ("--limit",) else 60)


def test_answers_of_unknown_origin_are_not_touched(run, here):
    (here / "d").mkdir()
    (here / "d/answers.jsonl").write_text("mine\n")
    code, _, err = run()
    assert code == 1 and "w2v eval did not write it" in err
    assert (here / "d/answers.jsonl").read_text() == "mine\n"


def edited(here, **change):
    """Write the questions with the fifth one changed."""
    rows = [json.loads(x) for x in (here / "questions.jsonl").read_text().splitlines()]
    rows[4] |= change
    (here / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"images": ["gone.png"]}, "room1/D1: gone.png: no such file"),
        ({"images": ["0.png", "0.png"]}, "room1/D1: 1 <image> tags, 2 images"),
        ({"images": ["../../etc/passwd"]}, "leads out of the root"),
        ({"answer": " "}, "room1/D1: no answer"),
        ({"id": "room0/A2"}, "two questions have the id 'room0/A2'"),
        ({"answer": 3}, "bad.jsonl:5: question.answer should be str"),
        ({"colour": "red"}, "bad.jsonl:5: question has no key 'colour'"),
    ],
)
def test_bad_questions_are_told_before_a_student_is_built(run, here, change, what):
    edited(here, **change)
    code, rows, err = run(questions="bad.jsonl", student="nobody")
    assert (code, rows) == (1, []) and what in err
    assert not (here / "d").exists()


def test_bad_questions_are_skipped_if_that_is_wanted(run, here):
    edited(here, images=["gone.png"])
    more = ("--no-blind", "--on-error", "skip", "--rejects", "rejects.jsonl")
    code, rows, _ = run(*more, questions="bad.jsonl")
    assert (code, len(rows)) == (3, 59)
    assert "room1/D1" in (here / "rejects.jsonl").read_text()


def test_a_student_that_fails_is_named_with_the_question(run):
    code, rows, err = run("--batch-size", 6, student="parrot:fail=room5/D1")
    assert code == 1 and len(rows) == 24  # four whole batches
    assert "student 'parrot:fail=room5/D1' at room4/D1: RuntimeError: no such thing" in err


def test_a_question_that_fails_is_left_out_if_that_is_wanted_and_asked_again(run, here):
    more = ("--batch-size", 6, "--on-error", "skip", "--no-blind")
    code, rows, err = run(*more, student="parrot:fail=room5/D1")
    assert (code, len(rows)) == (3, 59)
    assert figures()["answered"] == 59 and "no answer 1" in err
    code, rows, err = run(*more, student="parrot:fail=room5/D1")
    assert (code, len(rows)) == (3, 59) and "54 answers are there already" in err


def test_no_questions_are_an_error(run, here):
    (here / "none.jsonl").write_text("")
    code, _, err = run(questions="none.jsonl")
    assert code == 1 and "no questions to ask" in err


def test_an_unknown_student_is_told(run):
    code, _, err = run(student="parrott")
    assert code == 6 and "did you mean 'parrot'?" in err


# ── protocols ─────────────────────────────────────────────────────────────────────────────────


def told(asked, **more):
    given = {"image_tokens": 64, "max_new_tokens": 32, "weights": "a"} | more
    return evaluating.protocol("questions", "1", asked, "me", given)


def test_a_protocol_is_what_must_be_equal_and_no_more():
    asked = list(room(1))
    same = told(asked)["protocol"]
    assert told(asked, weights="b", transformers="9")["protocol"] == same
    assert told(asked, image_tokens=65)["protocol"] != same
    assert told(asked, max_new_tokens=33)["protocol"] != same
    assert told(asked[::-1])["protocol"] != same
    assert told(list(room(2)))["protocol"] != same
    assert evaluating.protocol("questions", "2", asked, "me", told(asked)["described"]) != same


# ── without looking ───────────────────────────────────────────────────────────────────────────


def question(k, task, prompt, answer, form="plain", options=()):
    return Question(
        id=f"{task}/{k}",
        task_type=task,
        messages=(
            Message(role="user", content=prompt),
            Message(role="assistant", content=answer),
        ),
        images=(),
        answer=answer,
        form=form,
        options=options,
        scene=f"s{k}",
    )


def test_a_constant_has_the_commonest_verb_and_the_median_amount():
    asked = [
        question(k, "A1", "How far?", f"move {'left' if k % 4 else 'right'} {1 + k % 4} meters")
        for k in range(40)
    ]
    train = [question(k, "A1", q.prompt, q.answer) for k, q in enumerate(asked, start=100)]
    said = blind.answer_all(asked, train)["constant"]
    assert set(said) == {"move left 3 meters"}


def test_a_blind_choice_is_the_option_nearest_to_the_guess():
    options = ("turn left 30 degrees", "move left 1 meters", "turn right 30 degrees")
    asked = [question(0, "A2", "Which?", "A", "choice", options)]
    train = [question(k, "A2", "Which?", "turn right 35 degrees") for k in range(1, 9)]
    assert blind.answer_all(asked, train)["constant"] == ["C"]
    asked = [
        question(0, "D2", "?", "A", "choice", ("It remains visible", "It disappears from view"))
    ]
    train = [question(k, "D2", "?", "yes") for k in range(1, 9)]
    assert blind.answer_all(asked, train)["constant"] == ["B"]


def test_trees_find_what_the_numbers_of_a_question_give_away():
    pytest.importorskip("sklearn")

    def moved(k):  # the box goes 100 to the right, always
        x, y = 50 + 13 * k % 600, 100 + 29 * k % 500
        before, after = [x, y, x + 100, y + 100], [x + 100, y, x + 200, y + 100]
        return question(k, "D1", f"It was at {boxes.say(before)}.", boxes.say(after))

    asked = [moved(k) for k in range(200)]
    said = blind.answer_all(asked)
    right = [boxes.find(q.answer)[0] for q in asked]
    near = [boxes.iou(boxes.find(s)[0], r) for s, r in zip(said["trees"], right, strict=True)]
    copied = [
        boxes.iou(boxes.find(s)[0], r) for s, r in zip(said["copy the box"], right, strict=True)
    ]
    assert sum(near) / 200 > 0.7 and max(copied) == 0.0


def test_words_find_what_the_wording_of_a_question_gives_away():
    pytest.importorskip("sklearn")
    asked = [
        question(k, "D2", f"Is the {'lamp' if k % 2 else 'door'} gone?", "yes" if k % 2 else "no")
        for k in range(60)
    ]
    said = blind.answer_all(asked)
    assert said["words"] == said["trees"] == [q.answer for q in asked]


def test_amounts_are_guessed_from_the_numbers():
    pytest.importorskip("sklearn")

    def shifted(k):
        angle = 10 + 7 * k % 50
        said = motion.say([Move(verb="turn left", amount=float(angle))])
        prompt = f"From [100, 100, 200, 200] to [{100 + 10 * angle}, 100, {200 + 10 * angle}, 200]."
        return question(k, "D3", prompt, said)

    asked = [shifted(k) for k in range(150)]
    said = blind.answer_all(asked)
    off = [
        abs(motion.parse(s)[0].amount - motion.parse(q.answer)[0].amount)
        for s, q in zip(said["trees"], asked, strict=True)
    ]
    assert sum(off) / len(off) < 3
    assert len(set(said["words"])) < 6  # medians of five folds


def test_nothing_is_learned_from_the_question_itself_or_its_scene():
    # every scene has its own answer: whoever has seen it would know it
    asked = [question(k, "A2", f"Scene {k}?", f"turn left {10 + k} degrees") for k in range(50)]
    own = [question(k, "A2", q.prompt, q.answer) for k, q in enumerate(asked)]  # the same ids
    assert blind.answer_all(asked, own)["constant"] == [None] * 50
    alone = [q for q in room(3) if q.task_type == "A2"]
    assert blind.answer_all(alone)["constant"] == [None]
