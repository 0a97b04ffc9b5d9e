"""World2VLM's own rules, on bundles as its own tools write them; counts by independent formulas."""

import json
import random
import re
from collections import Counter, defaultdict

import pytest

from w2v import boxes, bundles, motion, phrases
from w2v.errors import BadOption, BadRecord
from w2v.records import Box, Clip, Intrinsics
from w2v.tasks import compat
from w2v.tasks.compat import world2vlm

TASKS = ("A1", "A2", "A3", "A4", "D1", "D2", "D3", "D4")
SIDE = 576
LABELS = ("chair", "chair", "table", "lamp", "bed")
PRESETS = {
    "forward_turn_left": (("FWD", 0.5, 3.5, 0.1), ("TL", 20, 80, 10)),
    "turn_right_forward": (("TR", 20, 80, 10), ("FWD", 0.3, 3.0, 0.1)),
    "shift_left_forward_turn_right": (
        ("LEFT", 0.3, 3.0, 0.1),
        ("FWD", 0.5, 3.5, 0.1),
        ("TR", 20, 60, 10),
    ),
}
SINGLES = {
    "forward": "FWD",
    "backward": "BACK",
    "turn_left": "TL",
    "turn_right": "TR",
    "shift_left": "LEFT",
    "shift_right": "RIGHT",
}


# ── a tree as World2VLM's SVC teacher and detector leave it ───────────────────────────────────


def grid(rng, low, high, step):
    return round(low + step * rng.randrange(round((high - low) / step) + 1), 6)


def walk(parts):
    """Return the original's step and prefix tokens, one list per frame."""
    steps, prefix, prefixes = [[]], [], [[]]
    for name, amount in parts:
        turn = name in ("TL", "TR")
        number = max(7, -(-round(amount * 1000) // (5000 if turn else 200)))
        for _ in range(number):
            share = amount / number
            steps.append([f"{name}_{share:.6f}"])
            if share >= (1.0 if turn else 0.02):
                if prefix and prefix[-1][0] == name:
                    prefix[-1] = (name, prefix[-1][1] + share)
                else:
                    prefix = [*prefix, (name, share)]
            prefixes.append([f"{n}_{a:.6f}".rstrip("0").rstrip(".") for n, a in prefix])
    return steps, prefixes


def write_bundle(folder, name, asked, parts, detections):
    steps, prefixes = walk(parts)
    last = len(steps) - 1
    frames = [
        {"file_path": f"samples-rgb/{k:03d}.png", "width": SIDE, "height": SIDE}
        | {"fx": 288.0, "fy": 288.0, "cx": 288.0, "cy": 288.0}
        for k in range(last + 1)
    ]
    told = {"actions_step": steps, "actions_prefix": prefixes, "traj_params": asked}
    folder = folder / f"traj_{name}"
    folder.mkdir(parents=True)
    (folder / "traj.json").write_text(json.dumps(told | {"transforms": {"frames": frames}}))
    lines = [
        {"frame_idx": index, "width": SIDE, "height": SIDE, "detections": found}
        for index, found in zip((0, last), detections, strict=True)
    ]
    (folder / "detect_result.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))


def detect(rng):
    """Detections of one frame: some outside the filter, some without an id."""
    found = []
    for _ in range(rng.randint(3, 9)):
        x, y = rng.uniform(0, 400), rng.uniform(0, 400)
        wide, high = rng.uniform(30, 200), rng.uniform(30, 200)
        found.append(
            {
                "label": rng.choice(LABELS),
                "bbox": [x, y, min(SIDE, x + wide), min(SIDE, y + high)],
                "score": round(rng.uniform(0.2, 1), 4),
            }
        )
    for one, track in zip(found, rng.sample(range(1, 10), len(found)), strict=True):
        one["track_id"] = None if rng.random() < 0.1 else track
    return found


def write_scene(root, name):
    rng = random.Random(name)
    for slot, (action, token) in enumerate(SINGLES.items()):
        ranges = (10, 100, 10) if token in ("TL", "TR") else (0.1, 6.0, 0.1)
        amount = grid(rng, *ranges)
        asked = {"kind": "single_step", "action": action, "magnitude": amount}
        found = detect(rng), detect(rng)
        write_bundle(root / name, f"{action}_{slot:02d}", asked, [(token, amount)], found)
    actions = {token: action for action, token in SINGLES.items()}
    for slot, (label, ranges) in enumerate(PRESETS.items(), start=6):
        parts = [(token, grid(rng, *r)) for token, *r in ranges]
        acts = [{"act": actions[token], "magnitude": amount} for token, amount in parts]
        asked = {"kind": "multi_step", "num_actions": len(parts), "actions": acts}
        found = detect(rng), detect(rng)
        write_bundle(root / name, f"multi_step_{slot:02d}_{label}", asked, parts, found)


SCENES = 40


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """The clips of all scenes, read from disk."""
    root = tmp_path_factory.mktemp("tree")
    for k in range(SCENES):
        write_scene(root / "scenes", f"room_{k:03d}")
    found = defaultdict(list)
    for folder in bundles.find(root):
        clip = bundles.read(folder, root)
        found[clip.scene].append(clip)
    assert [len(clips) for clips in found.values()] == [9] * SCENES
    return list(found.values())


@pytest.fixture(scope="module")
def asked(scenes):
    """All questions, and what was dropped."""
    dropped = Counter()
    build = world2vlm(TASKS, seed=42)
    found = [q for clips in scenes for q in build(clips, lambda why: dropped.update((why,)))]
    return found, dropped


def of(asked, task):
    return [q for q in asked[0] if q.task_type == task]


# ── counts ────────────────────────────────────────────────────────────────────────────────────


def test_motion_counts_follow_from_the_grids(scenes, asked):
    short = sum(
        len(c.moves) == 1 and not motion.is_turn(c.moves[0]) and c.moves[0].amount < 0.14
        for clips in scenes
        for c in clips
    )
    assert short > 0  # 0.1 m over seven steps is 0.0143 m a step, below the original's 0.02 m
    counts = Counter(q.task_type for q in asked[0])
    assert counts["A1"] == 4 * SCENES - short
    assert counts["A2"] == 2 * SCENES
    assert counts["A3"] == counts["A4"] == 3 * SCENES
    assert asked[1] == {"A1 steps too short": short}


def passes(box):
    x1, y1, x2, y2 = box.xyxy
    share = (x2 - x1) * (y2 - y1) / SIDE**2
    return (
        box.score >= 0.3
        and 0.01 <= share <= 0.6
        and min(x1, y1) >= 5.76
        and max(x2, y2) <= SIDE - 5.76
    )


def valid(clip):
    found = [b for b in clip.boxes if passes(b)]
    return [b for b in found if b.frame == 0], [b for b in found if b.frame == clip.last_frame]


def test_object_counts_follow_from_the_boxes(scenes, asked):
    wanted = Counter()
    for clip in (c for clips in scenes for c in clips):
        first, last = valid(clip)
        shared = {b.track for b in first} & {b.track for b in last} - {None}
        wanted["D1"] += bool(shared)
        wanted["D3"] += bool(shared) and len(compat.walked(clip)) in (1, 2)
        if first:
            top = max(first, key=lambda b: b.score)
            wanted["D2"] += top.track is not None
            alike = [b for b in last if b.label == top.label]
            if top.track is None:
                wanted["D4"] += 2 * bool(alike)
            else:
                wanted["D4"] += any(b.track == top.track for b in last)
                wanted["D4"] += any(b.track != top.track for b in alike)
    counts = Counter(q.task_type for q in asked[0])
    assert {task: counts[task] for task in wanted} == wanted
    assert min(wanted.values()) > 20


def test_every_clip_gives_at_most_five_object_questions(asked):
    counts = Counter((q.clip, q.task_type) for q in asked[0])
    most = {"D4": 2}
    assert all(n <= most.get(task, 1) for (_, task), n in counts.items())
    assert len({q.id for q in asked[0]}) == len(asked[0])


# ── answers ───────────────────────────────────────────────────────────────────────────────────


def test_motion_answers_are_the_moves_and_the_direction_is_told(scenes, asked):
    clips = {c.id: c for found in scenes for c in found}
    for question in of(asked, "A1") + of(asked, "A2"):
        (move,) = clips[question.clip].moves
        assert question.answer == f"{move.verb} {move.amount:g} {motion.UNITS[move.verb]}"
        assert f"Answer as: {move.verb} X " in question.prompt
    for question in of(asked, "A3"):
        assert motion.parse(question.answer) == clips[question.clip].moves


def test_half_the_claims_are_true_and_false_ones_differ_in_one_move(scenes, asked):
    clips = {c.id: c for found in scenes for c in found}
    kinds = Counter()
    for question in of(asked, "A4"):
        said, made = motion.parse(question.prompt), clips[question.clip].moves
        changed = [(s, m) for s, m in zip(said, made, strict=True) if s != m]
        assert len(changed) == (question.answer == "false")
        for one, other in changed:
            if one.verb == other.verb:
                step = {"meters": 0.1, "degrees": 5.0}[motion.UNITS[one.verb]]
                assert one.amount == pytest.approx(other.amount + step)
            else:
                assert (one.verb, one.amount) == (motion.opposite(other.verb), other.amount)
            kinds["longer" if one.verb == other.verb else "turned round"] += 1
        kinds[question.answer] += 1
    per_scene = Counter((q.scene, q.answer) for q in of(asked, "A4"))
    assert set(per_scene.values()) == {1, 2}
    assert abs(kinds["true"] - kinds["false"]) < 3 * SCENES**0.5
    assert abs(kinds["longer"] - kinds["turned round"]) < 3 * kinds["false"] ** 0.5


def test_claims_are_listed_with_commas_and_and(asked):
    long = [q.prompt for q in of(asked, "A4") if "multi_step_08" in q.clip]
    pattern = (
        r'True or false: the camera did "(move|turn) \w+ [\d.]+ \w+, (move|turn) \w+ [\d.]+ \w+ '
        r'and (move|turn) \w+ [\d.]+ \w+" to get the second image\.'
    )
    assert long and all(re.fullmatch(pattern, prompt) for prompt in long)


def test_gone_means_no_valid_box_of_the_track(scenes, asked):
    clips = {c.id: c for found in scenes for c in found}
    answers = Counter()
    for question in of(asked, "D2"):
        first, last = valid(clips[question.clip])
        top = max(first, key=lambda b: b.score)
        gone = not any(b.track == top.track for b in last)
        said = phrases.read_truth("D2", question.form, question.options, question.answer)
        assert said is gone
        assert question.evidence["from"] == list(top.xyxy)
        answers[gone] += 1
    assert min(answers.values()) > 20


def test_pair_has_the_best_sum_of_scores_whatever_the_labels(scenes, asked):
    clips = {c.id: c for found in scenes for c in found}
    for question in of(asked, "D1"):
        first, last = valid(clips[question.clip])
        sums = {
            one.score + other.score: (one, other)
            for one in first
            for other in last
            if one.track is not None and one.track == other.track
        }
        one, other = sums[max(sums)]
        assert question.evidence["from"] == list(one.xyxy)
        assert question.answer == boxes.say([round(v / SIDE * 1000) for v in other.xyxy])
        assert one.label in question.prompt


def test_answers_come_in_the_originals_three_variants(asked):
    for task in ("D2", "D4"):
        forms = Counter(q.form for q in of(asked, task))
        assert set(forms) == set(phrases.FORMS)
        assert all(0.15 < n / sum(forms.values()) < 0.55 for n in forms.values())
    kinds = Counter("steps" if " steps | " in q.answer else q.form for q in of(asked, "D3"))
    assert set(kinds) == {"plain", "steps", "sentence"}
    for question in of(asked, "D3"):
        assert 1 <= len(motion.parse(question.answer)) <= 2


@pytest.mark.parametrize(("label", "form"), [("chair", 0), ("chaiq", 2), ("chais", 1)])
def test_variant_is_the_sum_of_character_codes(label, form):
    clip = made([], trajectory="forward_00", last_frame=7)
    key = f"forward_00:{label}:7"
    assert compat.variant(clip, label) == sum(ord(c) for c in key) % 3 == form


def test_same_form_has_the_same_letter_for_the_same_truth(asked):
    for task, right in (("D2", "It disappears from view"), ("D4", "The same object")):
        choices = [q for q in of(asked, task) if q.form == "choice"]
        assert choices and {q.options[0] for q in choices} == {right}


# ── single rules ──────────────────────────────────────────────────────────────────────────────

CAMERA = Intrinsics(width=SIDE, height=SIDE, fx=288, fy=288, cx=288, cy=288)


def made(boxes, moves="move forward 2 meters", last_frame=9, **meta):
    return Clip(
        id="s/c",
        scene="s",
        teacher="svc",
        moves=motion.read(moves),
        bundle="b",
        first="b/000.png",
        last="b/009.png",
        last_frame=last_frame,
        intrinsics=CAMERA,
        boxes=tuple(boxes),
        meta=meta,
    )


def ask(clip, *tasks):
    return list(world2vlm(tasks or TASKS, 0)([clip], lambda why: None))


def box(frame, track, xyxy, label="chair", score=0.9):
    return Box(frame=frame, track=track, label=label, xyxy=xyxy, score=score)


HERE, THERE = (100.0, 100.0, 250.0, 250.0), (300.0, 300.0, 450.0, 450.0)


def test_box_without_a_track_is_the_same_and_another():
    clip = made([box(0, None, HERE), box(9, None, THERE)])
    found = ask(clip, "D1", "D2", "D3", "D4")
    said = [phrases.read_truth("D4", q.form, q.options, q.answer) for q in found]
    assert [q.task_type for q in found] == ["D4", "D4"] and said == [True, False]
    assert found[0].evidence["to"] == found[1].evidence["to"] == list(THERE)


@pytest.mark.parametrize(
    "there",
    [
        box(9, 1, THERE, score=0.2999),
        box(9, 1, (5.0, 100.0, 250.0, 250.0)),
        box(9, 1, (100.0, 100.0, 150.0, 150.0)),
        box(9, 1, (50.0, 50.0, 560.0, 560.0)),
        box(9, 2, THERE),
        box(9, 1, None),
    ],
)
def test_filtered_box_counts_as_gone(there):
    (question,) = ask(made([box(0, 1, HERE), there]), "D2")
    assert phrases.read_truth("D2", question.form, question.options, question.answer) is True


def test_first_of_equal_scores_wins_and_kept_is_ignored():
    seen = [Box(frame=0, track=1, label="a", xyxy=HERE, kept=False), box(0, 2, THERE, score=1.0)]
    (question,) = ask(made(seen), "D2")
    assert question.evidence["track"] == 1


def test_numbers_have_up_to_three_decimals():
    clip = made([], prefix=["FWD_1.23456", "TL_30"], trajectory="multi_step_06_x")
    (question,) = ask(clip, "A3")
    assert question.answer == "move forward 1.235 meters; turn left 30 degrees"


def test_single_move_is_the_larger_axis_of_the_prefix():
    clip = made([], prefix=["FWD_1", "LEFT_1.5", "BACK_0.5"], trajectory="T2_00")
    assert [q.answer for q in ask(clip, "A1")] == ["move left 1.5 meters"]


def test_short_moves_leave_object_questions_without_moves():
    clip = made([box(0, 1, HERE), box(9, 1, THERE)], "move forward 0.1 meters")
    found = ask(clip)
    assert [q.task_type for q in found] == ["D1", "D2", "D4"]
    assert all('the camera does ""' in q.prompt for q in found)


@pytest.mark.parametrize(
    ("moves", "left"),
    [
        ("move forward 0.13 meters", ""),
        ("move forward 0.14 meters", "move forward 0.14 meters"),
        ("turn left 6.9 degrees", ""),
        ("turn left 7 degrees", "turn left 7 degrees"),
        ("move left 0.1 meters; turn right 50 degrees", "turn right 50 degrees"),
        ("move forward 2 meters; move backward 0.5 meters", "move forward 1.5 meters"),
        ("move forward 2 meters; move backward 1.99 meters", ""),
    ],
)
def test_steps_below_the_threshold_are_lost(moves, left):
    found = compat.canonical(motion.read(moves))
    assert [(m.verb, round(m.amount, 6)) for m in found] == (
        [(m.verb, m.amount) for m in motion.read(left)] if left else []
    )


def test_without_a_prefix_the_same_moves_are_seen(scenes):
    for clip in (c for clips in scenes for c in clips):
        summed, told = compat.canonical(clip.moves), compat.walked(clip)
        assert [m.verb for m in summed] == [m.verb for m in told]
        assert [m.amount for m in summed] == pytest.approx([m.amount for m in told], abs=1e-4)


def test_scene_is_asked_about_the_same_in_any_shard(scenes, asked):
    alone = [q for q in asked[0] if q.scene == scenes[7][0].scene]
    assert list(world2vlm(TASKS, 42)(scenes[7], lambda why: None)) == alone
    assert list(world2vlm(TASKS, 43)(scenes[7], lambda why: None)) != alone


def test_only_what_is_named_is_asked(scenes):
    found = list(world2vlm(["A2", "D1"], 0)(scenes[0], lambda why: None))
    assert {q.task_type for q in found} == {"A2", "D1"}


def test_rows_say_where_they_came_from(scenes, asked):
    clips = {c.id: c for found in scenes for c in found}
    for question in asked[0]:
        clip = clips[question.clip]
        images = (clip.first,) if question.task_type == "D2" else (clip.first, clip.last)
        assert question.images == images
        assert question.messages[0].content.count("<image>") == len(images)
        assert question.messages[1].content == question.answer
        assert question.evidence["template"].startswith(f"world2vlm/{question.task_type}")
        assert "{" not in question.prompt


def test_unknown_task_and_broken_prefix_are_named():
    with pytest.raises(BadOption, match="World2VLM has no task 'E1'"):
        world2vlm(["E1"], 0)
    for prefix in (["FORWARD"], ["FWD_x"], [3], "FWD_1"):
        with pytest.raises(BadRecord, match="s/c: "):
            ask(made([], prefix=prefix), "A1")


def test_clip_without_boxes_or_with_one_frame_gives_what_it_can():
    clip = made([])
    bare = Clip.from_json({**json.loads(json.dumps(clip.to_json())), "boxes": None})
    dropped = []
    found = list(world2vlm(TASKS, 0)([bare, made([], last_frame=0)], dropped.append))
    assert [q.task_type for q in found] == ["A1"]
    assert dropped == ["not annotated", "one frame"]
