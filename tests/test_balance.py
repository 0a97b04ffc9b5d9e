"""Leaving out to make even, and splitting by scene."""

import collections
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v import boxes, motion, split
from w2v.balance import CALIPER, PRESETS, UNMATCHED, balance, fill, pairs
from w2v.errors import BadOption, BadRecord
from w2v.records import Message, Move, Question

TASKS = ("A1", "A2", "A3", "A4", "D1", "D2", "D3", "D4")


def question(id, task="D2", prompt="?", answer="yes", scene="s", source="real", moves=()):
    messages = (Message(role="user", content=prompt), Message(role="assistant", content=answer))
    return Question(
        id=id,
        task_type=task,
        messages=messages,
        images=(),
        answer=answer,
        scene=scene,
        source=source,
        evidence={"moves": list(moves)},
    )


def ids(questions):
    return [q.id for q in questions]


# ── even answers ──────────────────────────────────────────────────────────────────────────────


def gone_by_rule(number, seed=0):
    """D2: far turns and forward moves make things go, and sofas hardly ever do."""
    rng, made = random.Random(seed), []
    for k in range(number):
        label = rng.choice(["chair", "lamp", "sofa", "bed", "plant"])
        verb = rng.choice(motion.VERBS)
        turn = verb.startswith("turn")
        amount = rng.uniform(10, 90) if turn else rng.uniform(0.3, 5)
        lean = (amount - 40) / 15 if turn else amount - 3 if verb == "move forward" else -1.0
        lean += {"sofa": -1.5, "lamp": 0.7}.get(label, 0.0) + 3 * (label == "plant" and turn)
        gone = rng.random() < 1 / (1 + math.exp(-lean))
        words = f"The picture shows the {label}. Now the camera does this: "
        words += f'"{motion.say_one(Move(verb=verb, amount=amount))}". Will the {label} be gone?'
        made.append(question(f"q{k}", "D2", words, ("no", "yes")[gone], f"s{k // 8}"))
    return made


def same_by_rule(number, seed=0):
    """D4: boxes of one object lie nearer and are more alike in size than those of two."""
    rng, made = random.Random(seed), []
    for k in range(number):
        same = rng.random() < 0.6
        x, y, w, h = (rng.randint(100, 400) for _ in range(4))
        far, grown = (130, 0.25) if same else (220, 0.45)
        x2, y2 = max(0, x + rng.gauss(0, far)), max(0, y + rng.gauss(0, far / 2))
        w2, h2 = w * math.exp(rng.gauss(0, grown)), h * math.exp(rng.gauss(0, grown))
        one, two = (x, y, x + w, y + h), (round(x2), round(y2), round(x2 + w2), round(y2 + h2))
        words = f"A chair at {boxes.say(one)}, a chair at {boxes.say(two)}. The same?"
        made.append(question(f"q{k}", "D4", words, ("no", "yes")[same], f"s{k // 8}"))
    return made


def changed_claims(number, seed=0):
    """A4 as World2VLM makes it: presets turn one way, and a false claim often flips the turn."""
    rng, made = random.Random(seed), []
    for k in range(number):
        true = k % 2 == 0
        angle, meters = rng.randrange(20, 90, 10), rng.randint(5, 35) / 10
        turn = "turn right" if not true and rng.random() < 0.7 else "turn left"
        words = f'True or false: the camera did "{turn} {angle} degrees; '
        words += f'move forward {meters} meters" to get the second image.'
        made.append(question(f"q{k}", "A4", words, ("false", "true")[true], f"s{k // 8}"))
    return made


def earned(questions):
    from w2v.checks.text_only import guessed

    told = guessed(questions)
    return told["guessers"][told["best"]]["accuracy"]


@pytest.mark.parametrize(
    ("make", "number"), [(gone_by_rule, 900), (same_by_rule, 900), (changed_claims, 600)]
)
def test_after_even_answers_text_alone_is_worth_half(make, number):
    pytest.importorskip("sklearn")
    questions = make(number)
    assert earned(questions) > 0.65
    done = balance(questions, "answers")
    assert len(done.kept) > number / 10
    assert earned(done.kept) <= 0.55
    said = collections.Counter(q.answer for q in done.kept)
    assert len(set(said.values())) == 1
    task = questions[0].task_type
    assert done.dropped == {f"{task} {UNMATCHED}": number - len(done.kept)}


def test_claims_that_are_paired_already_stay_untouched():
    pytest.importorskip("sklearn")
    rng, questions = random.Random(0), []
    for scene in range(60):
        claims = [f"turn left {rng.randint(10, 80)} degrees" for _ in range(4)]
        for k, claim in enumerate(claims):
            for answer, words in (("true", claim), ("false", claims[k - 1])):
                id = f"{scene}/{k}/{answer}"
                questions.append(question(id, "A4", f'"{words}"?', answer, f"s{scene}"))
    assert ids(balance(questions, "answers").kept) == ids(questions)


def test_even_answers_even_out_numbers_and_leave_other_tasks_alone():
    pytest.importorskip("sklearn")
    others = [question(f"o{k}", "A1", "?", "move left 1 meters", f"s{k}") for k in range(20)]
    yes = [question(f"y{k}", "D2", "?", "yes", f"s{k % 9}") for k in range(60)]
    no = [question(f"n{k}", "D2", "?", "no", f"s{k % 9}") for k in range(25)]
    done = balance([*others, *yes, *no], "answers")
    assert collections.Counter(q.answer for q in done.kept) == {
        "move left 1 meters": 20,
        "yes": 25,
        "no": 25,
    }


def test_even_answers_of_one_scene_or_one_answer():
    pytest.importorskip("sklearn")
    one_scene = [question(f"q{k}", answer=("yes", "no")[k % 3 > 0]) for k in range(30)]
    kept = balance(one_scene, "answers").kept
    assert collections.Counter(q.answer for q in kept) == {"yes": 10, "no": 10}
    assert balance([replace(q, answer="yes") for q in one_scene], "answers").kept == []
    assert balance([], "answers").kept == []


CHANCES = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60)


@given(CHANCES)
def test_pairs_are_even_within_the_caliper_and_as_many_as_can_be(drawn):
    chances, truths = [c for c, _ in drawn], [t for _, t in drawn]
    kept = pairs(chances, truths)
    yes = sorted(chances[k] for k in kept if truths[k])
    no = sorted(chances[k] for k in kept if not truths[k])
    assert len(yes) == len(no)
    assert all(abs(a - b) <= CALIPER + 1e-8 for a, b in zip(yes, no, strict=True))
    used = set(kept)
    left = [(c, t) for k, (c, t) in enumerate(drawn) if k not in used]
    assert not any(a and not b and abs(x - y) <= CALIPER - 1e-8 for x, a in left for y, b in left)


# ── even numbers ──────────────────────────────────────────────────────────────────────────────


def many(per_task, sources=("real", "simulated"), groups=3):
    """Return ``per_task`` questions of each task and source, over kinds of trajectory in turn."""
    kinds = [["turn left 30 degrees"], ["move forward 1 meters"], ["move left 1 meters"] * 2]
    return [
        question(f"{task}/{source}/{k}", task, f"{k}", "x", f"s{k}", source, kinds[k % groups])
        for task in TASKS
        for source in sources
        for k in range(per_task)
    ]


def counts(questions, *names):
    return collections.Counter(tuple(getattr(q, n) for n in names) for q in questions)


def test_grpo_draws_the_papers_subset():
    done = balance(many(300), "grpo")
    assert len(done.kept) == 1000
    assert set(counts(done.kept, "task_type").values()) == {125}
    assert set(counts(done.kept, "task_type", "source").values()) == {62, 63}
    buckets = collections.Counter((q.source, q.task_type[0]) for q in done.kept)
    assert set(buckets.values()) == {250}
    kinds = collections.Counter(
        (q.task_type, q.source, tuple(q.evidence["moves"])) for q in done.kept
    )
    assert set(kinds.values()) <= {20, 21}
    assert done.short == {}


def test_grpo_takes_what_there_is_and_says_what_was_short():
    scarce = [q for q in many(300) if q.task_type != "D3" or int(q.id.rpartition("/")[2]) < 40]
    scarce = [q for q in scarce if (q.task_type, q.source) != ("D1", "real") or q.id.endswith("7")]
    done = balance(scarce, "grpo")
    by_task = counts(done.kept, "task_type")
    assert by_task[("D3",)] == 80 and by_task[("D1",)] == 125
    assert counts(done.kept, "task_type", "source")[("D1", "real")] == 30
    assert done.short == {
        "D3": 45,
        "D3 from real": 22,
        "D3 from simulated": 22,
        "D1 from real": 32,
    }
    assert len(set(ids(done.kept))) == len(done.kept)


def test_tasks_are_cut_to_the_rarest_and_sources_alike():
    questions = [q for q in many(30) if q.task_type != "A3" or q.source == "real"]
    done = balance(questions, "tasks")
    assert set(counts(done.kept, "task_type").values()) == {30}
    assert counts(done.kept, "task_type", "source")[("D1", "real")] == 15
    assert done.dropped.total() == len(questions) - len(done.kept)
    assert len(balance(questions, "tasks", per_task=10).kept) == 80


@pytest.mark.parametrize(("preset", "number"), [("tasks", 7), ("grpo", 9), ("answers", None)])
def test_what_is_kept_does_not_depend_on_the_order(preset, number):
    if preset == "answers":
        pytest.importorskip("sklearn")
    questions = gone_by_rule(250) if preset == "answers" else many(20)
    shuffled = random.Random(1).sample(questions, len(questions))
    kept = ids(balance(questions, preset, per_task=number).kept)
    assert set(kept) == set(ids(balance(shuffled, preset, per_task=number).kept))
    assert kept == [id for id in ids(questions) if id in set(kept)]


def test_another_seed_keeps_others():
    questions = many(20)
    one, other = (balance(questions, "tasks", seed, 5).kept for seed in (1, 2))
    assert len(one) == len(other) and ids(one) != ids(other)


@pytest.mark.parametrize(
    ("preset", "number"), [("fair", None), ("", None), ("tasks", 0), ("grpo", -1), ("answers", 3)]
)
def test_an_unknown_balance_is_refused(preset, number):
    with pytest.raises(BadOption):
        balance([], preset, per_task=number)
    assert set(PRESETS) == {"answers", "tasks", "grpo"}


@given(
    st.dictionaries(st.text(min_size=1, max_size=3), st.integers(0, 50), max_size=6),
    st.integers(0, 200),
    st.integers(0, 9),
)
def test_fill_is_full_fair_and_within_the_room(room, number, turn):
    got = fill(room, number, turn)
    assert sum(got.values()) == min(number, sum(room.values()))
    assert all(0 <= got[name] <= room[name] for name in room)
    unsated = [got[name] for name in room if got[name] < room[name]]
    assert all(max(got.values()) - value <= 1 for value in unsated)


# ── splits ────────────────────────────────────────────────────────────────────────────────────


def test_shares_are_read_and_scaled():
    assert split.parse("train=.99,val=.01") == {"train": 0.99, "val": 0.01}
    assert split.parse(" train = 3 , val=1 ,") == {"train": 0.75, "val": 0.25}


@pytest.mark.parametrize(
    "text",
    ["", "train", "train=", "=1", "train=x", "train=-1", "train=nan", "train=inf",
     "train=0,val=0", "train=.5,train=.5", "train=1e308,val=1e308"],
)  # fmt: skip
def test_bad_shares_are_refused(text):
    with pytest.raises(BadRecord):
        split.parse(text)


SHARES = st.dictionaries(
    st.sampled_from(["train", "val", "test"]), st.floats(0.001, 1), min_size=1
).map(lambda shares: {name: v / sum(shares.values()) for name, v in shares.items()})
SCENES = st.lists(st.text(min_size=1, max_size=4), unique=True, max_size=60)


@given(SCENES, SHARES, st.integers(0, 5))
def test_every_scene_is_in_one_split_whatever_the_order(scenes, shares, seed):
    found = split.assign_all(scenes, shares, seed)
    assert found == split.assign_all(scenes[::-1] * 2, shares, seed)
    assert set(found) == set(scenes)
    sizes = collections.Counter(found.values())
    assert set(sizes) <= set(shares)
    assert len(sizes) == min(len(scenes), len(shares))
    if all(share * len(scenes) >= 1 for share in shares.values()):
        assert all(abs(sizes[n] - share * len(scenes)) < 1 + 1e-9 for n, share in shares.items())


def test_a_small_split_is_not_left_empty():
    scenes = [f"scene_{k}" for k in range(20)]
    sizes = collections.Counter(split.assign_all(scenes, {"train": 0.99, "val": 0.01}).values())
    assert sizes == {"train": 19, "val": 1}


def test_a_scene_is_assigned_without_looking_at_others():
    shares = {"train": 0.9, "val": 0.1, "none": 0.0}
    found = [split.assign(f"scene_{k}", shares) for k in range(4000)]
    sizes = collections.Counter(found)
    assert set(sizes) == {"train", "val"}
    assert 340 < sizes["val"] < 460  # 400 expected, standard deviation 19
    assert found[17] == split.assign("scene_17", shares)
    assert found != [split.assign(f"scene_{k}", shares, seed=1) for k in range(4000)]
