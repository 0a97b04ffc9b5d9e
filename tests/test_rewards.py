"""The paper's reward to nine digits, and a reward that pays for one right answer only."""

import json
import math

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from w2v import boxes, motion, phrases
from w2v.errors import BadOption, BadRecord
from w2v.records import Gold, Move
from w2v.rewards import w2v_rewards
from w2v.rewards.robust import TASKS, robust
from w2v.rewards.rows import grade_row
from w2v.rewards.world2vlm import world2vlm

PAPER, ROBUST = world2vlm(), robust()
FORWARD, LEFT = "move forward 3 meters", "turn left 40 degrees"
PAIR = f"{FORWARD}; {LEFT}"
BOX = "[100, 200, 300, 400]"


def test_both_are_offered():
    offers = w2v_rewards()
    assert {name: type(offer.make()).__name__ for name, offer in offers.items()} == {
        "world2vlm": "World2VLM",
        "robust": "Robust",
    }


# ── world2vlm: every figure worked out by hand from Appendix C ────────────────────────────────


@pytest.mark.parametrize(
    ("task", "answer", "said", "score"),
    [
        # 0.10 + 0.35 + 0.55; within 0.5 m and 5 degrees nothing is lost
        ("A1", FORWARD, FORWARD, 1.0),
        ("A1", FORWARD, "Move Forward 3.5 meter.", 1.0),
        ("A2", LEFT, "turn left 45 degree", 1.0),
        # error 2.25 m: 1 - (2.25 - 0.5) / 4.5 = 11/18; 0.45 + 0.55 * 11/18
        ("A1", FORWARD, "move forward 5.25 meters", 0.7861111111111111),
        # error 20 degrees: 1 - (20 - 5) / 85 = 14/17; 0.45 + 0.55 * 14/17
        ("A2", LEFT, "turn left 60 degrees", 0.9029411764705882),
        # error 5 m, 90 degrees and more: verb and format alone
        ("A1", FORWARD, "move forward 8 meters", 0.45),
        ("A2", "turn left 10 degrees", "turn left 350 degrees", 0.45),
        # negative amounts are compared as such: errors 6 and 4; 1 - 3.5 / 4.5 = 2/9
        ("A1", FORWARD, "move forward -3 meters", 0.45),
        ("A1", FORWARD, "move forward -1 meters", 0.5722222222222222),
        # the wrong verb earns the format; no number, or no unit of the paper, nothing
        ("A1", FORWARD, "move backward 3 meters", 0.10),
        ("A1", FORWARD, "move forward meters", 0.0),
        ("A1", FORWARD, "move forward 3 m", 0.0),
        ("A1", FORWARD, "move forward .5 meters", 0.0),
        ("A1", FORWARD, "move forward +3 meters", 0.0),
        ("A1", FORWARD, "move forward by 3 meters", 0.0),
        ("A1", FORWARD, "move forward 1e3 meters", 0.0),
        ("A1", FORWARD, "move forward 3,5 meters", 0.0),
        ("A2", LEFT, "turn left 40°", 0.0),
        # no word boundaries, and the best of all candidates counts
        ("A1", FORWARD, "remove forward 3 metersish", 1.0),
        ("A2", LEFT, "turn right 40 degrees or turn left 40 degrees", 1.0),
        # nearest of five distances is 3.2
        ("A1", FORWARD, "; ".join(f"move forward {v} meters" for v in (0.8, 2, 3.2, 4.4)), 1.0),
        ("A3", PAIR, PAIR, 1.0),
        # reversed: 0.10 + 0.25, nothing in its place
        ("A3", PAIR, f"{LEFT}; {FORWARD}", 0.35),
        # one of two: 0.10 + (0.25 + 0.35 + 0.30) / 2
        ("D3", PAIR, FORWARD, 0.55),
        # two extra turns: 0.10 + 0.25 * 2/4 + 0.35 + 0.30 - 0.06
        ("A3", PAIR, f"{PAIR}; {LEFT}; {LEFT}", 0.815),
        # both amounts off: (11/18 + 14/17) / 2 = 439/612; 0.70 + 0.30 * 439/612
        ("A3", PAIR, "move forward 5.25 meters; turn left 60 degrees", 0.9151960784313725),
        # a wrong direction in second place: 0.10 + (0.25 + 0.35 + 0.30) / 2
        ("D3", PAIR, f"{FORWARD}; turn right 40 degrees", 0.55),
        ("A3", PAIR, "nothing", 0.0),
        # 0.20 + 0.80; yes is true and no is false; only the bare word is read
        ("A4", "true", "True.", 1.0),
        ("A4", "true", " YES! ", 1.0),
        ("D2", "no", "false", 1.0),
        ("D4", "no", "yes", 0.20),
        ("A4", "true", '"true"', 0.0),
        ("A4", "true", "**true**", 0.0),
        ("A4", "true", "\\boxed{true}", 0.0),
        ("A4", "true", "true, it matches", 0.0),
        ("D2", "A", "A", 0.0),
        ("D2", "The chair disappears from view.", "yes", 0.0),
        # 0.20 + 0.15 + 0.65; a box prefix is exact, anything else around it is format 0.4
        ("D1", BOX, BOX, 1.0),
        ("D1", BOX, f" BBox {BOX}\n", 1.0),
        ("D1", BOX, "[100.0,200.0,300.0,400.0]", 1.0),
        ("D1", BOX, f"{BOX}.", 0.88),
        ("D1", BOX, f'{{"bbox_2d": {BOX}}}', 0.88),
        ("D1", BOX, f"```\n{BOX}\n```", 0.88),
        ("D1", BOX, "(100, 200, 300, 400)", 0.0),
        # moved 20 right: IoU 36/44, center 1 - 20 / (0.6 * 200 sqrt 2), L1 1 - 10/180, size 1
        ("D1", BOX, "[120, 200, 320, 400]", 0.9242753126702511),
        # swapped corners: valid 0.3, geometry 0.3 + 0.7 * 0.3 = 0.51; 0.2 + 0.045 + 0.65 * 0.51
        ("D1", BOX, "[300, 400, 100, 200]", 0.5765),
        # a point in the center: valid 0.3, geometry 0.51 * (0.20 + 0.20 * (1 - 100/180))
        ("D1", BOX, "[200, 300, 200, 300]", 0.3407666666666667),
        # overflow (100 + 0 + 100 + 0) / 4 = 50: valid 0.7 + 0.3 * 0.75 = 0.925, clipped it is
        # right: 0.2 + 0.15 * 0.925 + 0.65 * (0.3 + 0.7 * 0.925)
        ("D1", "[0, 0, 1000, 500]", "[-100, 0, 1100, 500]", 0.954625),
        # overflow (0 + 0 + 1000 + 1000) / 4 = 500 is beyond 200: valid 0.7
        # 0.2 + 0.15 * 0.7 + 0.65 * (0.3 + 0.7 * 0.7)
        ("D1", "[0, 0, 1000, 1000]", "[0, 0, 2000, 2000]", 0.8185),
        # far off, same size: 0.2 + 0.15 + 0.65 * 0.15
        ("D1", "[0, 0, 100, 100]", "[800, 800, 900, 900]", 0.4475),
        # half as wide and high: IoU 1/4, center 1, L1 1 - 50/180, size 1 - 2 ln 2 / 1.6
        ("D1", "[0, 0, 200, 200]", "[50, 50, 150, 150]", 0.6600365762581455),
        # a reference that cannot be read earns nothing, not even for format
        ("A1", "forward 0.6 meters", FORWARD, 0.0),
        ("A3", "", PAIR, 0.0),
        ("D1", "gone", BOX, 0.0),
        # any other task: exact words after the same cleaning
        ("X9", "The Same", "the  same.", 1.0),
        ("X9", "the same", "same", 0.0),
        ("X9", "", "", 0.0),
    ],
)
def test_world2vlm_agrees_with_the_paper(task, answer, said, score):
    grade = PAPER(Gold(task, answer), said)
    assert grade.score == pytest.approx(score, abs=1e-9)
    assert all(0 <= part <= 1 for part in grade.parts.values())


def test_world2vlm_parts_have_the_same_names_for_the_same_thing():
    names = {task: list(PAPER(Gold(task, a), a).parts) for task, a in GOLDS.items()}
    assert names["A1"] == names["A2"] == ["format", "semantic", "numeric"]
    assert names["A3"] == names["D3"] == ["format", "semantic", "order", "numeric"]
    assert names["A4"] == names["D2"] == names["D4"] == ["format", "semantic"]
    assert names["D1"] == ["format", "validity", "geometry", "iou", "center", "size", "l1"]
    for task, answer in GOLDS.items():
        assert list(PAPER(Gold(task, answer), "?").parts) == names[task]


def test_world2vlm_box_parts():
    # hand-computed: see "moved 20 right" above
    parts = PAPER(Gold("D1", BOX), "[120, 200, 320, 400]").parts
    assert parts["iou"] == pytest.approx(36 / 44)
    assert parts["center"] == pytest.approx(1 - math.sqrt(2) / 12)
    assert parts["l1"] == pytest.approx(17 / 18)
    assert (parts["size"], parts["validity"], parts["format"]) == (1.0, 1.0, 1.0)


def test_world2vlm_punishes_length_before_anything_else():
    padded = FORWARD + " " * 50 + "x" * (200 - len(FORWARD) - 50)
    assert PAPER(Gold("A1", FORWARD), f"\n{padded}  ").score == 1.0
    for gold in (Gold("A1", FORWARD), Gold("D1", "unreadable"), Gold("X9", "a")):
        grade = PAPER(gold, padded + "x")
        assert (grade.score, grade.parts, grade.parsed) == (-1.0, {"format": 0.0}, None)
    assert world2vlm(201)(Gold("A1", FORWARD), padded + "x").score == 1.0


def test_world2vlm_floors_the_cost_of_extra_actions():
    # 0.10 - 0.03 * 39 < 0
    said = "; ".join(["turn right 10 degrees"] * 40)
    assert world2vlm(max_length=2000)(Gold("D3", FORWARD), said).score == 0.0


# ── robust ────────────────────────────────────────────────────────────────────────────────────

GOLDS = {
    "A1": FORWARD,
    "A2": LEFT,
    "A3": PAIR,
    "A4": "true",
    "D1": BOX,
    "D2": "yes",
    "D3": PAIR,
    "D4": "no",
}


def questions():
    """Yield a gold answer and a wrong one, for every task in every form."""
    wrong_moves = {"A1": "move backward 3 meters", "A2": "turn right 40 degrees"}
    for task in TASKS:
        for form in phrases.FORMS:
            if task in phrases.PHRASES:
                for truth in (True, False):
                    answer, options = phrases.write_truth(task, truth, form, object="chair")
                    wrong, _ = phrases.write_truth(task, not truth, form, object="chair")
                    yield Gold(task, answer, form, options), wrong
                continue
            answer, wrong = GOLDS[task], wrong_moves.get(task, f"{LEFT}; {FORWARD}")
            if task == "D1":
                wrong = "[110, 210, 310, 410]"
            if form == "choice":
                answer, options = phrases.write_choice(answer, [wrong, "none of these"], 1)
                yield Gold(task, answer, form, options), "A"
            elif form == "sentence" and task == "D1":
                yield Gold(task, phrases.say_box((1, 2, 30, 40)), form), wrong
            elif form == "sentence":
                yield Gold(task, phrases.say_moves(motion.parse(answer)), form), wrong
            else:
                yield Gold(task, answer, form), wrong


def name_of(value):
    return f"{value.task_type}-{value.form}" if isinstance(value, Gold) else str(value)[:12]


WRAPPERS = (
    "{}",
    " {}\n",
    "<think>Maybe left, maybe right. yes no A B [1, 2, 3, 4]</think>\n{}",
    "<answer>{}</answer>",
    "<think>so</think><answer>\\boxed{{{}}}</answer>",
    "\\boxed{{{}}}",
    "$\\boxed{{\\text{{{}}}}}$",
    "**{}**",
    '"{}"',
    "```\n{}\n```",
    "`{}`",
    '{{"answer": "{}"}}',
    "Answer: {}",
    "**Final answer:** {}",
    "The final answer is {}",
)


@pytest.mark.parametrize(("gold", "wrong"), list(questions()), ids=name_of)
def test_robust_gives_gold_full_marks_however_it_is_wrapped(gold, wrong):
    for wrapper in WRAPPERS:
        said = wrapper.format(gold.answer)
        assert ROBUST(gold, said).score == 1.0, said
        assert ROBUST(gold, wrapper.format(wrong)).score < 1.0, wrapper
        assert ROBUST(gold, f"{said}.").score == 1.0, said


@pytest.mark.parametrize(("gold", "wrong"), list(questions()), ids=name_of)
def test_robust_pays_nothing_for_two_answers(gold, wrong):
    for said in (
        f"{gold.answer} or {wrong}",
        f"{wrong}\n{gold.answer}\n{wrong}",
        f"Final answer: {gold.answer} or {wrong}",
        f"\\boxed{{{gold.answer}}} \\boxed{{{wrong}}}",
        f"<answer>{wrong}</answer><answer>{gold.answer}</answer>",
    ):
        assert ROBUST(gold, said).score == 0.0, said
    assert ROBUST(gold, "").score == 0.0


def test_robust_counts_the_stated_answer_only():
    said = "It could be move forward 2 meters or move left 1 meters. Final answer: {}"
    assert ROBUST(Gold("A1", FORWARD), said.format(FORWARD)).score == 1.0
    assert ROBUST(Gold("A1", FORWARD), said.format("move left 1 meters")).score == 0.0
    assert ROBUST(Gold("A1", FORWARD), f"<think>{FORWARD}").score == 0.0
    assert ROBUST(Gold("D2", "yes"), "<answer>no</answer> yes").score == 0.0


@pytest.mark.parametrize(
    "said",
    [
        "move forward 3 m",
        "Move forward 3.0 metres.",
        "The camera moved forward by about 3 meters.",
        "moved 3 meters forward",
        "move forward 300 cm",
        "It is moving forwards 3.04 m",
    ],
)
def test_robust_reads_other_words_for_the_same_move(said):
    assert ROBUST(Gold("A1", FORWARD), said).score == 1.0


def test_robust_reads_steps_on_lines_and_in_prose():
    for said in (
        "1. move forward 3 meters\n2. turn left 40 degrees",
        "First, it moved forward 3 meters, then turned 40° to the left.",
        f"{FORWARD};\n{LEFT}",
        f"{PAIR}\n{PAIR}",
    ):
        assert ROBUST(Gold("A3", PAIR), said).score == 1.0, said
    assert ROBUST(Gold("A3", PAIR), f"{PAIR}\n{FORWARD}").score == 0.0


def test_robust_grades_amounts_by_ratio():
    def score(answer, said):
        return ROBUST(Gold("A1", answer), said).score

    # (2.05 / 3) ** 4: the ratio after rounding's share, to the power 1 / slack
    assert score(FORWARD, "move forward 2 meters") == pytest.approx((2.05 / 3) ** 4)
    assert score(FORWARD, "move forward 4 meters") == pytest.approx((3 / 3.95) ** 4)
    assert ROBUST(Gold("A2", LEFT), "turn left 20 degrees").score == pytest.approx((20.5 / 40) ** 4)
    assert score(FORWARD, "move forward 3.05 meters") == 1.0
    assert score(FORWARD, "move backward 3 meters") == 0.0
    assert score(FORWARD, "move forward -3 meters") == 0.0
    assert score(FORWARD, "move forward 0 meters") == 0.0
    assert score(FORWARD, f"move forward {'9' * 400} meters") == 0.0
    assert robust(slack=0.5)(Gold("A1", FORWARD), "move forward 2 meters").score == (
        pytest.approx((2.05 / 3) ** 2)
    )


AMOUNTS = st.floats(0.1, 100).map(lambda v: round(v, 1))


@given(st.sampled_from(motion.VERBS), AMOUNTS, AMOUNTS, AMOUNTS)
def test_robust_never_pays_more_for_a_larger_error(verb, wanted, one, two):
    def score(amount):
        gold = Gold("A1", f"{verb} {wanted} {motion.UNITS[verb]}")
        return ROBUST(gold, f"{verb} {amount} {motion.UNITS[verb]}").score

    assume((one - wanted) * (two - wanted) > 0)
    near, far = sorted((one, two), key=lambda v: abs(v - wanted))
    assert score(near) >= score(far) > 0


@pytest.mark.parametrize(
    ("said", "score"),
    [
        (PAIR, 1.0),
        (FORWARD, 0.5),  # one of two
        (f"{LEFT}; {FORWARD}", 0.5),  # only one fits in order
        ("move forward 3 meters; turn right 40 degrees", 0.5),
        (f"{PAIR}; move left 1 meters", 0.5),  # the extra one cancels one of two
        (f"move left 1 meters; {PAIR}", 0.5),
        (f"{PAIR}; {PAIR}", 0.0),
        # verb share 0.25 + 0.75 * (20.5 / 40) ** 4, and a right move
        ("move forward 3 meters; turn left 20 degrees", (1 + 0.25 + 0.75 * 0.5125**4) / 2),
        ("turn right 40 degrees; move backward 3 meters", 0.0),
    ],
)
def test_robust_aligns_sequences_in_order(said, score):
    for task in ("A3", "D3"):
        assert ROBUST(Gold(task, PAIR), said).score == pytest.approx(score)


def test_robust_pays_nothing_for_the_box_in_the_question():
    gold = Gold("D1", BOX, prompt="the chair is at bbox [200, 200, 400, 400]. After …")
    assert ROBUST(gold, BOX).score == 1.0
    assert ROBUST(gold, "[200, 200, 400, 400]").score == 0.0
    # IoU 3/5 against 1/3 of the given box: (3/5 - 1/3) / (1 - 1/3)
    grade = ROBUST(gold, "[150, 200, 350, 400]")
    assert grade.score == pytest.approx(0.4)
    assert grade.parts["iou"] == pytest.approx(0.6)
    assert grade.parts["baseline"] == pytest.approx(1 / 3)
    still = Gold("D1", BOX, prompt=f"the chair is at bbox {BOX}.")
    assert ROBUST(still, BOX).score == 1.0
    assert ROBUST(still, "[150, 200, 350, 400]").score == pytest.approx(0.6)


@pytest.mark.parametrize(
    "said",
    [
        f'[{{"bbox_2d": {BOX}, "label": "chair"}}]',
        f'```json\n{{"answer": {BOX}}}\n```',
        "<|box_start|>(100,200),(300,400)<|box_end|>",
        "(100, 200, 300, 400)",
        f"The chair is now at {BOX}.",
        f"{BOX} {BOX}",
    ],
)
def test_robust_reads_boxes_as_models_write_them(said):
    assert ROBUST(Gold("D1", BOX), said).score == 1.0


def test_robust_survives_absurd_boxes():
    for said in ("[300, 400, 100, 200]", "[0, 0, 0, 0]", f"[0, 0, {'9' * 400}, 5]"):
        assert ROBUST(Gold("D1", BOX), said).score == 0.0
    assert ROBUST(Gold("D1", "[5, 5, 5, 5]"), "[5, 5, 5, 5]").score == 1.0


def test_robust_charges_for_length_smoothly():
    scores = [ROBUST(Gold("A4", "true"), "true" + "." * n).score for n in range(1500)]
    assert scores[:197] == [1.0] * 197
    # twice the free length: exp(-1)
    assert scores[396] == pytest.approx(math.exp(-1))
    falls = [a - b for a, b in zip(scores, scores[1:], strict=False)]
    assert min(falls) >= 0 and max(falls) < 0.005
    assert scores[-1] == 0.0
    # thoughts are free, and so is a gold answer that is itself long
    assert ROBUST(Gold("A4", "true"), f"<think>{'so ' * 999}</think>true").score == 1.0
    long = "; ".join([FORWARD, LEFT] * 8)
    assert ROBUST(Gold("A3", long), long).score == 1.0


def test_robust_leaves_other_tasks_alone():
    assert ROBUST(Gold("X9", "yes"), "yes") is None


def test_robust_says_what_it_read():
    grade = ROBUST(Gold("A3", PAIR), "moved forward 3.25 m, then turned left 40°")
    assert grade.parsed == "move forward 3.25 meters; turn left 40 degrees"
    assert ROBUST(Gold("A4", "true"), "Yes, it matches").parsed == "true"
    assert ROBUST(Gold("D2", "B", "choice", ("gone", "there")), "there").parsed == "B"
    assert ROBUST(Gold("D1", BOX), BOX).parsed == BOX
    assert ROBUST(Gold("D1", BOX), "no idea").parsed is None


PIECES = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "\\boxed{",
        "}",
        "{",
        '{"answer":',
        "```",
        "\n",
    ]
    + ["yes", "no", "not", "?", " or ", "A", "B.", BOX, "[", "(1,2),(3,4)", "NaN", "1e999", "-"]
    + [FORWARD, LEFT, "move forward ", "9" * 330, " meters", "final answer", "answer:", "visible"]
)
TEXTS = st.one_of(st.text(max_size=300), st.lists(PIECES, max_size=25).map("".join))


@given(st.sampled_from(sorted(GOLDS.items())), st.sampled_from(["", *phrases.FORMS]), TEXTS, TEXTS)
@example(("A3", PAIR), "plain", "<answer>" * 2000, "")
@example(("D2", "yes"), "plain", "[" * 1100, "\\boxed{" * 150)
@example(("D2", "yes"), "plain", '{"answer":' * 100, "")
def test_any_text_gets_a_score(question, form, said, prompt):
    task, answer = question
    options = ("one", "two") if form == "choice" else ()
    grade = ROBUST(Gold(task, answer, form, options, prompt), said)
    assert 0.0 <= grade.score <= 1.0
    assert all(0.0 <= part <= 1.0 for part in grade.parts.values())
    assert -1.0 <= PAPER(Gold(task, answer), said).score <= 1.0
    assert 0.0 <= ROBUST(Gold(task, said, form, options), answer).score <= 1.0


GRID = st.integers(0, 999)


@given(GRID, GRID, GRID, GRID, st.text(max_size=20))
def test_gold_boxes_earn_full_marks_whatever_the_prompt(x, y, width, height, prompt):
    box = (x, y, min(1000, x + width + 1), min(1000, y + height + 1))
    for given_box in ("", "[0, 0, 500, 500]", boxes.say(box)):
        gold = Gold("D1", boxes.say(box), "plain", (), prompt + given_box)
        assert ROBUST(gold, gold.answer).score == 1.0
        assert PAPER(gold, gold.answer).score == pytest.approx(1.0, abs=1e-9)


MOVES = st.builds(Move, verb=st.sampled_from(motion.VERBS), amount=st.integers(1, 100).map(float))


@given(st.lists(MOVES, min_size=1, max_size=4))
def test_gold_moves_earn_full_marks(moves):
    answer = motion.say(moves)
    task = "A3" if len(moves) > 1 else "A1"
    assert ROBUST(Gold(task, answer, "plain"), answer).score == 1.0
    assert ROBUST(Gold(task, phrases.say_moves(moves), "sentence"), answer).score == 1.0
    assert PAPER(Gold(task, answer), answer).score == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(
    "make",
    [
        lambda: robust(length=0),
        lambda: robust(slack=0),
        lambda: robust(slack=math.nan),
        lambda: robust(slack=math.inf),
        lambda: world2vlm(max_length=0),
    ],
)
def test_impossible_options_are_refused(make):
    with pytest.raises(BadOption, match="must be"):
        make()


# ── rows ──────────────────────────────────────────────────────────────────────────────────────


def test_a_row_is_graded_and_kept():
    row = {"id": "7", "task_type": "A1", "answer": FORWARD, "response": "move forward 8 meters"}
    graded = grade_row(row, PAPER)
    assert graded == {
        **row,
        "score": pytest.approx(0.45),
        "parts": {"format": 1.0, "semantic": 1.0, "numeric": 0.0},
        "parsed": "move forward 8",
    }
    assert json.loads(json.dumps(graded)) == graded


def test_a_row_may_carry_form_options_and_prompt():
    row = {"task_type": "D2", "answer": "A", "response": "gone", "options": ["gone", "there"]}
    assert grade_row({**row, "form": "choice"}, ROBUST)["score"] == 1.0
    copied = {"task_type": "D1", "answer": BOX, "response": "[9, 9, 99, 99]"}
    assert grade_row({**copied, "prompt": "at [9, 9, 99, 99]"}, ROBUST)["score"] == 0.0


def test_a_row_of_another_task_is_not_graded():
    row = {"task_type": "X9", "answer": "yes", "response": "yes"}
    assert grade_row(row, ROBUST) == {**row, "score": None, "parts": {}, "parsed": None}


def test_a_missing_response_is_an_error_and_none_is_empty():
    row = {"task_type": "A4", "answer": "true"}
    assert grade_row({**row, "response": None}, ROBUST)["score"] == 0.0
    with pytest.raises(BadRecord, match="lacks 'response'"):
        grade_row(row, ROBUST)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": True}, "answer should be a text, got bool"),
        ({"task_type": None}, "lacks 'task_type'"),
        ({"response": ["yes"]}, "response should be a text, got list"),
        ({"options": "AB"}, "options should be a list of texts"),
        ({"options": [1]}, "options should be a list of texts"),
        ({"prompt": 3}, "prompt should be a text, got int"),
    ],
)
def test_a_bad_row_is_named(change, message):
    row = {"task_type": "A4", "answer": "true", "response": "true"}
    with pytest.raises(BadRecord, match=message):
        grade_row({**row, **change}, ROBUST)


def test_robust_does_not_ask_for_an_order_that_no_picture_shows():
    gold = Gold("A3", "move left 1 meters; move forward 2 meters; turn left 40 degrees", "plain")
    swapped = "move forward 2 meters; move left 1 meters; turn left 40 degrees"
    earlier = "turn left 40 degrees; move left 1 meters; move forward 2 meters"
    assert ROBUST(gold, swapped).score == 1.0
    assert ROBUST(gold, earlier).score < 1.0
