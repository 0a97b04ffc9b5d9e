"""A reward is attacked before a student can: gold must pass, cheats must not pay."""

import json

import pytest

from w2v import boxes, motion, phrases
from w2v.kinds import Grade
from w2v.provenance import draw
from w2v.records import Message, Move, Question
from w2v.rewards.robust import robust
from w2v.rewards.selftest import cheats, self_test
from w2v.rewards.world2vlm import world2vlm


def ask(number, task, answer, prompt, form="plain", options=()):
    said = (
        Message(role="user", content=f"<image><image>{prompt}"),
        Message(role="assistant", content=answer),
    )
    return Question(
        id=f"{task}-{form}-{number}",
        task_type=task,
        messages=said,
        images=("a.png", "b.png"),
        answer=answer,
        form=form,
        options=options,
    )


def moves(task, number):
    """Return moves as the task asks for, drawn for this number."""
    verbs = {
        "A1": [motion.VERBS[number % 4]],
        "A2": [motion.VERBS[4 + number % 2]],
        "A3": ["move forward", "turn left"] if number % 2 else ["turn right", "move forward"],
        "D3": ["move left", "move forward"] if number % 3 else ["turn right"],
    }[task]
    return [
        Move(verb=verb, amount=(draw(60, task, number, i) + 1) * (0.1 if verb[0] == "m" else 1.5))
        for i, verb in enumerate(verbs)
    ]


def motion_questions(task, number):
    found = moves(task, number)
    answer, prompt = motion.say(found), f"Answer as: {found[0].verb} X."
    wrong = [motion.say(moves(task, number + 97 * k)) for k in range(1, 9)]
    wrong = list(dict.fromkeys(w for w in wrong if w != answer))[:3]
    letter, options = phrases.write_choice(answer, wrong, number % (len(wrong) + 1))
    yield ask(number, task, answer, prompt)
    yield ask(number, task, phrases.say_moves(found), prompt, "sentence")
    yield ask(number, task, letter, f"{prompt}\n{phrases.say_options(options)}", "choice", options)


def truth_questions(task, number):
    prompts = {
        "A4": 'True or false: the camera did "move left 1 meters" to get the second image.',
        "D2": "Does this chair disappear from view? Answer: yes or no.",
        "D4": "Are these the same physical object instance? Answer: yes or no.",
    }
    for form in phrases.FORMS:
        answer, options = phrases.write_truth(
            task, number % 2 == 0, form, object="chair", swap=number % 4 > 1
        )
        prompt = f"{prompts[task]}\n{phrases.say_options(options)}".strip()
        yield ask(number, task, answer, prompt, form, options)


def box_questions(number):
    x, y = (draw(500, "box", number, k) for k in range(2))
    dx, dy = (draw(200, "shift", number, k) + 40 for k in range(2))
    given, target = (x, y, x + 200, y + 150), (x + dx, y + dy, x + dx + 180, y + dy + 160)
    prompt = f"In the first image, the chair is at bbox {boxes.say(given)}. Where is it now?"
    yield ask(number, "D1", boxes.say(target), prompt)
    yield ask(number, "D1", phrases.say_box(target), prompt, "sentence")


def questions(rows=24):
    """Yield questions of every task and form."""
    for number in range(rows):
        for task in ("A1", "A2", "A3", "D3"):
            yield from motion_questions(task, number)
        for task in phrases.PHRASES:
            yield from truth_questions(task, number)
        yield from box_questions(number)


def group_of(report, task, form="plain"):
    return next(g for g in report.groups if (g.task_type, g.form) == (task, form))


def test_robust_passes_on_every_task_and_form():
    report = self_test(questions(), robust())
    assert report.ok, "\n".join(report.lines())
    assert (report.failed, report.failures, report.ungraded) == (0, (), {})
    assert len(report.groups) == 8 * 3 - 1
    for group in report.groups:
        assert (group.gold.rows, group.gold.mean, group.gold.failed) == (24, 1.0, 0)
        assert group.cheats[group.worst].mean <= group.chance.mean


def test_world2vlm_is_found_out():
    report = self_test(questions(), world2vlm())
    assert not report.ok
    # five distances: the nearest is at most 0.8 m away, 1 - 0.3 / 4.5 of the numeric part
    five = group_of(report, "A1").cheats["five amounts"]
    assert five.mean > 0.95 and five.failed == 24
    # two thirds of the published D2 and D4 rows can earn nothing
    assert group_of(report, "D2", "choice").gold.mean == 0.0
    assert group_of(report, "D4", "sentence").gold.mean == 0.0
    assert group_of(report, "D2").gold.mean == 1.0
    assert group_of(report, "D1").cheats["the given box"].mean > 0.1


def test_a_reward_that_pays_for_anything_fails_everywhere():
    report = self_test(questions(4), lambda gold, said: Grade(1.0, {}, said))
    assert all(group.cheats["empty"].failed == group.rows for group in report.groups)
    assert not any(group.ok for group in report.groups)


@pytest.mark.parametrize("gold_score", [0.999, 0.0])
def test_gold_must_score_exactly_one(gold_score):
    def reward(gold, said):
        return Grade(gold_score if said == gold.answer else 0.0, {}, said)

    report = self_test(list(truth_questions("A4", 0))[:1], reward)
    assert not report.ok
    assert report.failures[0].answer == "gold"
    assert (report.failures[0].score, report.failures[0].limit) == (gold_score, 1.0)


def test_a_near_miss_may_score_but_less_than_gold():
    def lax(gold, said):
        """Pay for the right verb only."""
        right = [m.verb for m in motion.parse(gold.answer)] == [m.verb for m in motion.parse(said)]
        return Grade(float(right), {}, said)

    report = self_test([ask(0, "A1", "move left 2 meters", "")], lax)
    assert [failure.answer for failure in report.failures] == ["amounts off by half"]
    assert report.failures[0].said == "move left 3 meters"


def test_a_constant_answer_is_judged_on_average():
    lopsided = [ask(n, "A4", "false" if n % 10 == 0 else "true", "") for n in range(400)]
    group = group_of(self_test(lopsided, robust()), "A4")
    assert (group.constant, group.constant_score.mean) == ("true", 0.9)
    assert group.ok  # not the reward's fault: other golds score as much

    def always_likes_true(gold, said):
        return Grade(float(said == "true" or said == gold.answer), {}, said)

    balanced = [ask(n, "A4", "true" if n % 2 else "false", "") for n in range(400)]
    balanced += [ask(400, "A4", "true", "")]
    group = group_of(self_test(balanced, always_likes_true), "A4")
    assert group.constant_score.mean == 1.0
    assert not group.ok


def test_rows_that_are_not_graded_are_counted():
    report = self_test([ask(0, "X9", "yes", ""), ask(0, "A4", "true", "")], robust())
    assert report.ungraded == {"X9": 1}
    assert [group.task_type for group in report.groups] == ["A4"]


def test_nothing_graded_is_no_pass():
    assert not self_test([], robust()).ok


def test_the_report_is_the_same_again_and_is_plain_json():
    reports = [self_test(questions(20), world2vlm(), keep=5).to_json() for _ in range(2)]
    assert reports[0] == reports[1] == json.loads(json.dumps(reports[0], allow_nan=False))
    assert len(reports[0]["failures"]) == 5 < reports[0]["failed"]


def test_the_report_can_be_read_by_people():
    lines = list(self_test(questions(4), world2vlm()).lines())
    assert "gold" in lines[0] and "worst cheat" in lines[0]
    assert any(line.startswith("D4 sentence") and line.endswith("FAILED") for line in lines)


def test_every_task_is_attacked_in_its_own_way():
    by_task = {}
    for question in questions(1):
        names = [name for name, _ in cheats(question.gold, "another")]
        assert len(names) == len(set(names))
        by_task[question.task_type, question.form] = set(names)
    everyone = {"empty", "blanks", "echo of the prompt", "right or another", "overlong padding"}
    assert all(everyone <= names for names in by_task.values())
    assert {"five amounts", "every move", "other directions"} <= by_task["A2", "plain"]
    assert {"moves in reverse order"} <= by_task["A3", "sentence"]
    assert {"all letters", "another option"} <= by_task["D2", "choice"]
    assert {"yes or no", "the opposite"} <= by_task["D4", "sentence"]
    assert {"the given box", "many boxes", "the whole picture"} <= by_task["D1", "plain"]
