"""Figures of hand-made answers, and intervals that hold what they promise."""

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from w2v import evaluating, metrics
from w2v.benchmarks import questions as benchmark
from w2v.kinds import Outcome
from w2v.metrics import Sample
from w2v.records import Message, Question
from w2v.testing import check_light


@pytest.fixture
def ours(tmp_path):
    return benchmark(str(tmp_path / "none.jsonl"))


def ask(task, answer, prompt="", form="plain", options=(), number=0, scene="room"):
    return Question(
        id=f"{scene}/{number}/{task}",
        task_type=task,
        messages=(
            Message(role="user", content=f"<image>{prompt}"),
            Message(role="assistant", content=answer),
        ),
        images=("0.png",),
        answer=answer,
        form=form,
        options=options,
        scene=scene,
    )


def outcome(ours, question, response):
    return metrics.sample(evaluating.scored(ours, "questions", question, "me", response)).outcome


def figures(ours, pairs):
    """Return by group the value of every metric of (question, response) pairs."""
    answers = [evaluating.scored(ours, "questions", q, "me", said) for q, said in pairs]
    groups = metrics.summarize(map(metrics.sample, answers))
    return {
        name: {metric: e.value for metric, e in group.estimates.items()}
        for name, group in groups.items()
    }


# ── each task ─────────────────────────────────────────────────────────────────────────────────


def test_amounts_are_measured_where_the_direction_is_right(ours):
    gold = ask("A1", "move left 2 meters")
    said = ["move left 2.3 meters", "move left 3 meters", "move right 2 meters", "no idea", "left"]
    told = figures(ours, [(gold, text) for text in said])["A1"]
    assert told["accuracy"] == 2 / 5
    assert told["within tolerance"] == 1 / 5  # 0.3 is within half a meter, 1 is not
    assert told["error in meters"] == pytest.approx((0.3 + 1.0) / 2)
    assert told["unparsed"] == 2 / 5
    # ratio ** 4 beyond the rounding of 0.05 m (w2v.rewards.robust)
    assert told["reward"] == pytest.approx(((2 / 2.25) ** 4 + (2 / 2.95) ** 4) / 5)


def test_degrees_have_their_own_error_and_tolerance(ours):
    gold = ask("A2", "turn right 40 degrees")
    said = ["turn right 45 degrees", "turn right 46 degrees"]
    told = figures(ours, [(gold, text) for text in said])["A2"]
    assert told["error in degrees"] == 5.5
    assert told["within tolerance"] == 0.5
    assert "error in meters" not in told


def test_two_answers_are_none_and_the_same_one_twice_is_one(ours):
    gold = ask("A2", "turn right 40 degrees")
    hedged = outcome(ours, gold, "turn right 40 degrees or turn left 40 degrees").values
    assert (hedged["accuracy"], hedged["unparsed"]) == (0.0, 1.0)
    twice = outcome(ours, gold, "turn right 40 degrees, turn right 40 degrees").values
    assert (twice["accuracy"], twice["unparsed"]) == (1.0, 0.0)


def test_sequences_are_exact_or_partial(ours):
    gold = ask("A3", "move left 1 meters; turn left 30 degrees; move forward 2 meters")
    exact = outcome(ours, gold, gold.answer).values
    assert exact["accuracy"] == exact["within tolerance"] == exact["partial"] == 1.0
    off = outcome(ours, gold, "move left 1 meters; turn left 36 degrees; move forward 2.2 meters")
    assert (off.values["accuracy"], off.values["within tolerance"]) == (1.0, 0.0)
    assert off.values["error in meters"] == pytest.approx(0.1)
    assert off.values["error in degrees"] == 6.0
    short = outcome(ours, gold, "move left 1 meters; turn left 30 degrees").values
    assert (short["accuracy"], short["partial"]) == (0.0, pytest.approx(2 / 3))
    assert "error in meters" not in short


def test_moves_that_commute_may_come_in_any_order(ours):
    gold = ask("D3", "move left 1 meters; move forward 2 meters")
    turned = outcome(ours, gold, "move forward 2 meters; move left 1 meters").values
    assert turned["accuracy"] == turned["within tolerance"] == 1.0
    gold = ask("D3", "turn left 30 degrees; move forward 2 meters")
    turned = outcome(ours, gold, "move forward 2 meters; turn left 30 degrees").values
    assert turned["accuracy"] == 0.0


def test_boxes_are_right_from_half_an_overlap_on(ours):
    gold = ask("D1", "[0, 0, 100, 100]")
    told = figures(
        ours,
        [
            (gold, "[0, 0, 100, 50]"),  # IoU 0.5
            (gold, "[0, 0, 100, 49]"),  # IoU 0.49
            (gold, "[0, 0, 100, 100] or [5, 5, 9, 9]"),
        ],
    )["D1"]
    assert told["accuracy"] == 1 / 3
    assert told["iou"] == pytest.approx((0.5 + 0.49) / 3)
    assert told["unparsed"] == 1 / 3


@pytest.mark.parametrize(("task", "yes", "no"), [("A4", "true", "false"), ("D2", "yes", "no")])
def test_classes_count_alike_in_balanced_accuracy(ours, task, yes, no):
    pairs = [(ask(task, yes, number=k), yes) for k in range(8)]  # always says yes
    pairs += [(ask(task, no, number=k), yes) for k in range(8, 10)]
    told = figures(ours, pairs)[task]
    assert told["accuracy"] == 0.8
    assert told["balanced accuracy"] == 0.5


def test_what_cannot_be_read_is_wrong_and_counted_by_itself(ours):
    pairs = [(ask("D4", "no", number=k), said) for k, said in enumerate(["no", "", "yes or no"])]
    told = figures(ours, pairs)["D4"]
    assert told["unparsed"] == pytest.approx(2 / 3)
    assert told["accuracy"] == told["reward"] == pytest.approx(1 / 3)


def test_choices_are_read_by_letter(ours):
    gold = ask("A2", "B", form="choice", options=("turn left 30 degrees", "turn right 30 degrees"))
    assert outcome(ours, gold, "B").values == {"reward": 1.0, "accuracy": 1.0, "unparsed": 0.0}
    assert outcome(ours, gold, "A").values["accuracy"] == 0.0
    assert outcome(ours, gold, "both").values["unparsed"] == 1.0


def test_a_plugins_task_is_judged_by_its_reward_else_by_its_words(ours, tmp_path):
    gold = ask("room", "kitchen")
    assert outcome(ours, gold, " Kitchen ").values == {"accuracy": 1.0, "unparsed": 0.0}
    assert outcome(ours, gold, "").values == {"accuracy": 0.0, "unparsed": 1.0}
    graded = benchmark(str(tmp_path), reward="world2vlm")
    assert outcome(graded, gold, "kitchen").values["reward"] == 1.0


def test_the_whole_is_the_mean_of_the_tasks_not_of_the_questions(ours):
    pairs = [(ask("D2", "yes", number=k), "yes") for k in range(9)]
    pairs += [(ask("A2", "turn left 20 degrees"), "turn right 20 degrees")]
    told = figures(ours, pairs)
    assert list(told) == ["A2", "D2", "all"]
    assert told["all"] == {"reward": 0.5, "accuracy": 0.5, "unparsed": 0.0}


# ── intervals ─────────────────────────────────────────────────────────────────────────────────


def samples(values, per_scene, name="accuracy", truths=None):
    return [
        Sample(
            f"q{k}", f"s{k // per_scene}", Outcome("g", {name: value}, (truths or {}).get(k, ""))
        )
        for k, value in enumerate(values)
    ]


def test_an_interval_is_the_same_whatever_the_order_and_the_run():
    chance = np.random.default_rng(0)
    made = samples(chance.random(60), 3)
    one = metrics.summarize(made)["g"].estimates["accuracy"]
    two = metrics.summarize(made[::-1])["g"].estimates["accuracy"]
    assert (one.low, one.high) == (two.low, two.high)
    assert one.low < one.value < one.high


def test_an_interval_agrees_with_the_normal_one_where_scenes_have_one_question():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    told = metrics.summarize(samples(values, 1))["g"].estimates["accuracy"]
    reach = 1.96 * values.std() / math.sqrt(400)
    assert told.value == pytest.approx(values.mean())
    assert told.low == pytest.approx(values.mean() - reach, abs=0.1 * reach)
    assert told.high == pytest.approx(values.mean() + reach, abs=0.1 * reach)


def test_questions_of_one_scene_do_not_narrow_the_interval():
    scenes = np.random.default_rng(2).random(30)
    once = metrics.summarize(samples(scenes, 1))["g"].estimates["accuracy"]
    often = metrics.summarize(samples(np.repeat(scenes, 10), 10))["g"].estimates["accuracy"]
    assert (often.low, often.high) == pytest.approx((once.low, once.high))
    assert (once.number, often.number) == (30, 300)


def test_intervals_hold_the_truth_as_often_as_they_promise():
    chance, held, trials = np.random.default_rng(3), 0, 200
    for trial in range(trials):
        values = 0.5 + np.repeat(chance.normal(0, 1, 40), 2) + chance.normal(0, 1, 80)
        made = [
            Sample(f"q{k}", f"{trial}/{k // 2}", Outcome("g", {"x": v}))
            for k, v in enumerate(values)
        ]
        told = metrics.summarize(made)["g"].estimates["x"]
        held += told.low <= 0.5 <= told.high
    # 95 % of 200 is 190; four standard deviations of chance and the known shortfall of 40 scenes
    assert 174 <= held <= 200


def test_one_scene_gives_no_interval():
    told = metrics.summarize(samples([1.0, 0.0], 2))["g"].estimates["accuracy"]
    assert (told.value, told.low, told.high) == (0.5, None, None)


def test_a_paired_difference_is_sharper_than_the_two_figures():
    chance = np.random.default_rng(4)
    base = np.repeat(chance.normal(0, 1, 50), 2)
    one = metrics.tables(samples(base, 2))["g"]["accuracy"]
    two = metrics.tables(samples(base + 0.1 + chance.normal(0, 0.05, 100), 2))["g"]["accuracy"]
    apart = metrics.difference(one, two)
    assert apart.value == pytest.approx(two.value - one.value)
    assert 0 < apart.low < 0.1 < apart.high < 0.2
    alone = metrics.estimate(one, metrics.drawn([one])[0])
    assert alone.high - alone.low > 10 * (apart.high - apart.low)


def test_a_draw_without_a_class_is_balanced_over_the_others():
    # one scene holds the only "no": where it is not drawn, the figure is that of "yes"
    made = samples([1.0, 1.0, 0.0], 1, truths={0: "yes", 1: "yes", 2: "no"})
    sums = metrics.tables(made)["g"][metrics.BALANCED]
    drawn = sums.drawn(np.array([[2, 1, 0], [1, 1, 1], [0, 0, 3]]), ["s0", "s1", "s2"])
    assert drawn.tolist() == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("worse", "better"), [(0, 0), (0, 5), (3, 3), (2, 9), (40, 61), (900, 1000)]
)
def test_mcnemar_is_the_exact_binomial_test(worse, better):
    number = worse + better
    wanted = stats.binomtest(better, number).pvalue if number else 1.0
    assert metrics.mcnemar(worse, better) == pytest.approx(wanted, rel=1e-9)


def test_mcnemar_by_hand():
    assert metrics.mcnemar(1, 4) == pytest.approx(2 * (1 + 5) / 32)


def test_a_mean_is_what_statistics_says():
    values = [0.1] * 7 + [0.3]
    told = metrics.tables(samples(values, 2))["g"]["accuracy"]
    assert told.value == pytest.approx(statistics.fmean(values))
    assert told.number == 8


def test_the_manifest_is_light():
    check_light("w2v.benchmarks")
