"""What ``w2v validate`` runs: each fault has its reason, and sound questions pass untouched."""

import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v import bundles, footage, geometry, images
from w2v.checks import answers, rows, sets, w2v_checks
from w2v.checks.labels import off, predicted, thing_at
from w2v.detectors.oracle import Oracle
from w2v.errors import BadFile
from w2v.kinds import Rendered, Thing
from w2v.motion import parse as moves_of
from w2v.plugins import offers
from w2v.records import Clip, Message, Question

CAMERA = geometry.assumed(96, 72, 90.0)
THINGS = (Thing(id=1, label="chair"), Thing(id=2, label="chair"), Thing(id=3, label="lamp"),
          Thing(id=4, label="sofa"))  # fmt: skip
SPOTS = {1: (-1.6, 0.2, 3.0), 2: (0.9, -0.1, 2.6), 3: (2.3, 0.3, 3.2), 4: (-0.4, 1.0, 3.6)}
WIDE, HIGH, WALL = 0.45, 0.4, 7.0
PATHS = (
    "move forward 0.8 meters",
    "move left 1.2 meters",
    "move right 0.7 meters",
    "turn left 30 degrees",
    "turn right 25 degrees",
    "move forward 0.6 meters; turn left 20 degrees",
    "turn right 20 degrees; move backward 1.1 meters",
    "move left 0.9 meters; move forward 0.7 meters; turn right 35 degrees",
)


def shoot(pose):
    """Cast one ray per pixel at upright cards and the wall behind: depth (H, W), ids (H, W)."""
    rays = geometry.lift(np.ones((CAMERA.height, CAMERA.width)), CAMERA) @ pose[:3, :3].T
    depth, ids = np.full(rays.shape[:2], np.inf), np.zeros(rays.shape[:2], np.uint16)
    for number, (x, y, z) in {0: (0.0, 0.0, WALL), **SPOTS}.items():
        with np.errstate(divide="ignore"):
            away = (z - pose[2, 3]) / rays[..., 2]
        at = pose[:3, 3] + away[..., None] * rays
        hit = (away > 0.05) & (away < depth)
        if number:
            hit &= (np.abs(at[..., 0] - x) < WIDE) & (np.abs(at[..., 1] - y) < HIGH)
        depth[hit], ids[hit] = away[hit], number
    return np.where(np.isfinite(depth), depth, 0).astype(np.float32), ids


def share_in_sight(pose, number):
    """Return which share of a card's points lands on its own pixels."""
    x, y, z = SPOTS[number]
    side = np.linspace(-0.95, 0.95, 25)
    across, down = np.meshgrid(side * WIDE + x, side * HIGH + y)
    points = geometry.to_camera(np.stack([across, down, np.full_like(across, z)], -1), pose)
    pixels, away = geometry.project(points, CAMERA)
    inside = (away > 0) & (pixels > 0).all(-1) & (pixels < (CAMERA.width, CAMERA.height)).all(-1)
    ids = shoot(pose)[1]
    return float(np.sum(ids[tuple(pixels[inside].astype(int)[:, ::-1].T)] == number) / inside.size)


def make_clip(root, scene, k, path, masks=True):
    """Write one annotated bundle of two frames and return its clip."""
    moves = moves_of(path)
    poses = geometry.poses(moves, [2] * len(moves))[[0, -1]]
    shots = [shoot(pose) for pose in poses]
    visible = np.array([[share_in_sight(pose, t.id) for t in THINGS] for pose in poses])
    frames = [np.repeat((60 * ids + 5 * k).astype(np.uint8)[..., None], 3, 2) for _, ids in shots]
    folder = root / "run" / "scenes" / scene / f"traj_{k:02d}"
    meta = {"id": f"{scene}/{k:02d}", "scene": scene, "teacher": "cards", "source": "simulated"}
    meta["moves"] = [{"verb": move.verb, "amount": move.amount} for move in moves]
    meta["things"] = footage.things_json(THINGS, visible)
    counts = [2] * len(moves)
    told = bundles.describe(moves, [0, len(moves)], counts, CAMERA, poses, meta)
    rendered = Rendered(frames=frames, depth=[d for d, _ in shots], masks=[m for _, m in shots])
    footage.write(folder, told, rendered)
    seen = footage.BundleFootage(bundles.read(folder, root), folder)
    bundles.write_boxes(folder, Oracle(6).detect(seen), CAMERA, 2, {})
    if not masks:
        for file in (folder / footage.MASK).iterdir():
            file.unlink()
        (folder / footage.MASK).rmdir()
    return bundles.read(folder, root)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def clips(root):
    return [make_clip(root, scene, k, p) for scene in "ab" for k, p in enumerate(PATHS)]


def ask(clips, **options):
    """Return what every built-in task asks about these clips."""
    made = []
    for name in sorted(offers("task")):
        task = offers("task")[name].make(**options)
        for scene in sorted({clip.scene for clip in clips}):
            made += task([clip for clip in clips if clip.scene == scene], lambda reason: None)
    return made


@pytest.fixture(scope="module")
def asked(clips):
    """Questions of all eight tasks, by task."""
    questions = ask(clips)
    by_task = {q.task_type: q for q in reversed(questions)}
    assert sorted(by_task) == ["A1", "A2", "A3", "A4", "D1", "D2", "D3", "D4"]
    return by_task


def make(name, **options):
    return offers("check")[name].make(**options)


def reason(check, question):
    problem = check.row(question)
    return problem and problem.reason


def answered(question, text, **more):
    """Return the question with another answer, in the last turn too."""
    messages = (*question.messages[:-1], Message(role="assistant", content=text))
    return replace(question, answer=text, messages=messages, **more)


def worded(question, old, new):
    """Return the question with other words in its first turn."""
    assert old in question.messages[0].content
    first = Message(role="user", content=question.messages[0].content.replace(old, new))
    return replace(question, messages=(first, *question.messages[1:]))


# ── sound questions ───────────────────────────────────────────────────────────────────────────

NEED_ROOT = ("images", "boxes", "moves", "geometry")


@pytest.mark.parametrize("templates", ["w2v", "paper"])
@pytest.mark.parametrize("form", ["plain", "choice", "sentence"])
def test_sound_questions_pass_every_row_check(root, clips, templates, form):
    questions = ask(clips, templates=templates, form=form)
    assert len(questions) > 60
    for name in ("grammar", "duplicates", "leaks", *NEED_ROOT):
        check = make(name, **({"root": root} if name in NEED_ROOT else {}))
        problems = [(q.id, q.answer, p) for q in questions if (p := check.row(q))]
        assert problems == [], name
        assert check.whole(questions).failures in ([], ()), name


def test_the_manifest_is_light():
    code = "import w2v.checks, sys; print([m for m in ('numpy', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_every_check_says_in_its_help_what_it_checks():
    for name, offer in w2v_checks().items():
        assert offer.make.__name__ == name
        assert offer.make.__doc__.partition("\n")[0].endswith(".")


# ── grammar ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("A1", "turn left 30 degrees"),
        ("A1", "move forward 1 meters; move left 1 meters"),
        ("A1", "move forward -1 meters"),
        ("A1", "forward 0.6 meters"),
        ("A1", "move forward 1 degrees"),
        ("A1", "I think move forward 1 meters"),
        ("A2", "move forward 1 meters"),
        ("A2", "turn left 0 degrees"),
        ("A3", "turn left 30 degrees"),
        ("A3", "; ".join(["turn left 30 degrees"] * 4)),
        ("A4", "yes"),
        ("A4", "perhaps"),
        ("D1", "[1, 2, 3]"),
        ("D1", "[10, 20, 10, 40]"),
        ("D1", "[10, 20, 1010, 40]"),
        ("D1", "[10, 20, 30.5, 40]"),
        ("D1", "[10,20,30,40]"),
        ("D1", "[10, 20, 30, 40] or [10, 20, 30, 50]"),
        ("D2", "true"),
        ("D3", "2 steps | move forward 1 meters; turn left 20 degrees"),
        ("D3", "; ".join(["turn left 30 degrees"] * 3)),
        ("D4", "maybe"),
    ],
)
def test_an_answer_must_be_what_its_task_asks_for(asked, task, text):
    problem = make("grammar").row(answered(asked[task], text))
    assert problem.reason == "malformed answer"
    assert text.split(";")[0] in problem.detail


@pytest.mark.parametrize("letter", ["C", "a", "The claim is true", ""])
def test_a_choice_is_answered_by_a_letter_of_its_options(clips, letter):
    question = next(q for q in ask(clips, form="choice") if q.task_type == "A4")
    found = reason(make("grammar"), answered(question, letter))
    assert found == ("malformed answer" if letter else "malformed messages")


def test_a_sentence_must_say_one_thing(clips):
    question = next(q for q in ask(clips, form="sentence") if q.task_type == "D2")
    for text in ("yes", "The lamp is gone but the lamp is visible."):
        assert reason(make("grammar"), answered(question, text)) == "malformed answer"


def test_options_must_differ_and_stand_in_the_prompt(clips):
    question = next(q for q in ask(clips, form="choice") if q.task_type == "A1")
    grammar = make("grammar")
    for options in (question.options[:1], question.options[:1] * 4, ("x", *question.options[1:])):
        assert reason(grammar, replace(question, options=options)) == "malformed options"
    assert reason(grammar, replace(question, form="plain")) == "malformed options"


def test_unknown_tasks_and_forms_are_refused(asked):
    grammar = make("grammar")
    assert reason(grammar, replace(asked["A1"], task_type="A9")) == "unknown task"
    assert reason(grammar, replace(asked["A1"], form="poem")) == "unknown task"


@pytest.mark.parametrize("task", ["A1", "D2"])
@pytest.mark.parametrize("tags", [0, 1, 2, 3])
@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_tags_pictures_and_task_agree_in_number(asked, task, tags, number):
    question = asked[task]
    words = question.messages[0].content.replace("<image>", "")
    turn = Message(role="user", content="<image>" * tags + words)
    question = replace(question, messages=(turn, question.messages[1]), images=("a.png",) * number)
    sound = tags == number == (1 if task == "D2" else 2)
    assert reason(make("grammar"), question) == (None if sound else "image count")


def turns(question, *pairs):
    return replace(question, messages=tuple(Message(role=r, content=c) for r, c in pairs))


def test_system_message_and_several_turns_are_kept(asked):
    question = asked["A2"]
    user, gold = question.messages[0].content, question.answer
    several = [("system", "Be brief."), ("user", user), ("assistant", "A turn."),
               ("user", "How far?"), ("assistant", gold)]  # fmt: skip
    assert make("grammar").row(turns(question, *several)) is None


def test_malformed_conversations_are_refused(asked):
    question = asked["A2"]
    user, gold = question.messages[0].content, question.answer
    bad = [
        [],
        [("user", user)],
        [("assistant", gold), ("user", user)],
        [("user", user), ("user", user), ("assistant", gold)],
        [("user", user), ("system", "x"), ("assistant", gold)],
        [("user", user), ("assistant", "turn left 1 degrees")],
        [("user", user), ("assistant", gold), ("user", "and?")],
        [("user", "<image><image>"), ("assistant", gold)],
        [("user", user), ("assistant", "<image>"), ("user", "?"), ("assistant", gold)],
        [("system", " "), ("user", user), ("assistant", gold)],
    ]
    for pairs in bad:
        assert reason(make("grammar"), turns(question, *pairs)) == "malformed messages", pairs


@given(st.sampled_from(sorted(answers.IMAGES)), st.text(max_size=60))
def test_grammar_never_fails_on_any_text(task, text):
    messages = (Message(role="user", content="<image>?"), Message(role="assistant", content=text))
    question = Question(id="q", task_type=task, messages=messages, images=("a",), answer=text)
    rows.Grammar().row(question)


# ── pictures ──────────────────────────────────────────────────────────────────────────────────


def broken(name, data):
    return pytest.param(name, data, id=name)


WHOLE = images.encode(np.random.default_rng(0).integers(0, 255, (72, 96, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        broken("zero", b""),
        broken("cut", WHOLE[: len(WHOLE) // 2]),
        broken("header", WHOLE[:40]),
        broken("text", b"not a picture"),
        broken("huge", WHOLE[:16] + struct.pack(">II", 1 << 20, 1 << 20) + WHOLE[24:]),
        broken("flipped", WHOLE[:200] + bytes(b ^ 255 for b in WHOLE[200:400]) + WHOLE[400:]),
    ],
)
def test_a_picture_that_does_not_decode_is_found(root, asked, name, data):
    (root / f"{name}.png").write_bytes(data)
    question = replace(asked["A1"], images=(asked["A1"].images[0], f"{name}.png"))
    problem = make("images", root=root).row(question)
    assert problem.reason == "unreadable image"
    assert f"{name}.png" in problem.detail


def test_missing_and_foreign_pictures_are_found(root, asked, tmp_path):
    first = asked["A1"].images[0]
    (tmp_path / "x.png").write_bytes(WHOLE)
    (root / "link.png").unlink(missing_ok=True)
    (root / "link.png").symlink_to(tmp_path / "x.png")
    check = make("images", root=root)
    for name, expected in [
        ("nowhere.png", "unreadable image"),
        ("", "unreadable image"),
        (str(tmp_path / "x.png"), "outside root"),
        ("link.png", "outside root"),
        ("../../x.png", "outside root"),
    ]:
        assert reason(check, replace(asked["A1"], images=(first, name))) == expected, name


def test_sizes_must_agree_with_each_other_and_with_the_bundle(root, asked):
    (root / "small.png").write_bytes(images.encode(np.zeros((36, 48, 3), np.uint8)))
    question, check = asked["A1"], make("images", root=root)
    mixed = replace(question, images=(question.images[0], "small.png"))
    assert reason(check, mixed) == "image sizes differ"
    both = replace(question, images=("small.png", "small.png"))
    assert reason(check, both) == "image size"
    assert reason(check, replace(both, bundle="")) is None


def test_each_picture_is_decoded_once(root, asked, monkeypatch):
    opened = []
    load = images.load
    monkeypatch.setattr(images, "load", lambda path: opened.append(path) or load(path))
    check = make("images", root=root)
    for _ in range(3):
        assert check.row(asked["A1"]) is None
    assert len(opened) == 2


# ── boxes and moves ───────────────────────────────────────────────────────────────────────────


def test_boxes_in_words_are_those_of_the_evidence(root, asked):
    check, question = make("boxes", root=root), asked["D1"]
    assert reason(check, answered(question, "[1, 2, 300, 400]")) == "wrong box"
    other = replace(question, evidence=question.evidence | {"from": [1.0, 2.0, 30.0, 40.0]})
    assert reason(check, other) == "wrong box"
    swapped = asked["D4"].evidence | {"to": asked["D4"].evidence["from"]}
    assert reason(check, replace(asked["D4"], evidence=swapped)) == "wrong box"


def test_boxes_lie_in_the_frame_and_on_the_grid(root, asked):
    check, question = make("boxes", root=root), asked["D1"]
    for box in ([0.0, 0.0, 97.0, 20.0], [-1.0, 0.0, 9.0, 9.0], [9.0, 9.0, 9.0, 20.0]):
        outside = replace(question, evidence=question.evidence | {"to": box})
        assert reason(check, outside) == "box out of frame"
    assert reason(check, answered(question, "[1, 2, 300, 1400]")) == "box off grid"
    assert reason(check, answered(question, "[300, 2, 1, 400]")) == "box off grid"


def test_boxes_without_evidence_are_counted_not_refused(root, asked):
    check = make("boxes", root=root)
    assert check.row(replace(asked["D1"], evidence={"from": "here"})) is None
    assert check.row(replace(asked["D1"], bundle="gone/away")) is None
    assert check.whole([]).figures == {"unverifiable": 2}


def test_moves_in_words_are_those_of_the_bundle(root, asked):
    check = make("moves", root=root)
    wrong = {
        "A1": "move backward 9 meters",
        "A2": "turn left 5 degrees",
        "A3": "move forward 1 meters; turn left 20 degrees",
        "D3": "turn left 31 degrees",
    }
    for task, text in wrong.items():
        assert reason(check, answered(asked[task], text)) == "wrong moves"
    true, false = ("true", "false") if asked["A4"].answer == "true" else ("false", "true")
    assert reason(check, answered(asked["A4"], false)) == "wrong moves"
    assert check.row(answered(asked["A4"], true)) is None
    for task in ("D1", "D2"):
        claim = asked[task].evidence["moves"][0]
        assert reason(check, worded(asked[task], claim, "turn left 77 degrees")) == "wrong moves"


def test_a_broken_bundle_is_named_and_a_missing_one_counted(root, asked):
    (root / "half").mkdir(exist_ok=True)
    (root / "half" / "traj.json").write_text("{")
    check = make("moves", root=root)
    assert reason(check, replace(asked["A1"], bundle="half")) == "broken bundle"
    assert reason(check, replace(asked["A1"], bundle="..")) == "outside root"
    assert check.row(replace(asked["A1"], bundle="nowhere")) is None
    assert check.whole([]).figures == {"unverifiable": 1}


# ── geometry ──────────────────────────────────────────────────────────────────────────────────

WRONG = {
    "A1": "move backward 0.8 meters",
    "A2": "turn right 33 degrees",
    "A3": "turn left 20 degrees; move forward 0.6 meters",
    "D1": "[10, 10, 200, 200]",
    "D3": "move forward 1.1 meters",
}


def flipped(question):
    other = {"true": "false", "false": "true", "yes": "no", "no": "yes"}
    return answered(question, other.get(question.answer) or WRONG[question.task_type])


@pytest.mark.parametrize("masks", [True, False], ids=["masks", "depth"])
def test_geometry_derives_every_task_and_finds_every_wrong_label(tmp_path, masks):
    clips = [make_clip(tmp_path, "a", k, path, masks=masks) for k, path in enumerate(PATHS)]
    questions = ask(clips)
    check, other = make("geometry", root=tmp_path), make("geometry", root=tmp_path)
    assert [q.id for q in questions if check.row(q)] == []
    told = check.whole(questions)
    assert told.failures == []
    assert {task: figures["agreement"] for task, figures in told.figures.items()} == dict.fromkeys(
        answers.IMAGES, 1.0
    )
    sure = [q for q in questions if masks or q.task_type in ("A1", "A2", "A3", "A4")]
    for question in sure:
        assert reason(other, flipped(question)) == "geometry disagrees", question
    if masks:
        figures = check.whole(questions).figures.values()
        assert sum(f["unverifiable"] for f in figures) == 0
    assert [f.partition(":")[0] for f in other.whole([]).failures] == sorted(
        {q.task_type for q in sure}
    )


def test_geometry_does_not_believe_the_record_of_the_moves(root, clips, tmp_path):
    clip = make_clip(tmp_path, "a", 0, PATHS[0])
    file = tmp_path / clip.bundle / "traj.json"
    file.write_text(file.read_text().replace('"amount":0.8', '"amount":2.5'))
    question = next(q for q in ask([bundles.read(file.parent, tmp_path)]) if q.task_type == "A1")
    assert question.answer == "move forward 2.5 meters"
    assert make("moves", root=tmp_path).row(question) is None
    assert reason(make("geometry", root=tmp_path), question) == "geometry disagrees"


def test_agreement_below_the_limit_fails(root, asked):
    check = make("geometry", root=root, limit=0.6)
    check.row(asked["A1"])
    check.row(flipped(asked["A1"]))
    told = check.whole([])
    assert told.figures["A1"] == {
        "agreement": 0.5, "agreed": 1, "disagreed": 1, "unverifiable": 0,
    }  # fmt: skip
    assert told.failures == ["A1: geometry agrees with 50.0% of 2 answers, less than 60.0%"]


def test_without_a_bundle_nothing_is_derived_and_nothing_refused(root, asked):
    check = make("geometry", root=root)
    for question in asked.values():
        assert check.row(replace(question, bundle="")) is None
    told = check.whole([])
    assert told.failures == []
    assert {f["unverifiable"] for f in told.figures.values()} == {1}


def test_a_broken_mask_is_a_broken_bundle(tmp_path):
    clip = make_clip(tmp_path, "a", 0, PATHS[0])
    questions = {q.task_type: q for q in ask([clip])}
    next((tmp_path / clip.bundle / "samples-mask").iterdir()).write_bytes(b"")
    check = make("geometry", root=tmp_path)
    assert reason(check, questions["D1"]) == "broken bundle"
    assert check.row(questions["A1"]) is None  # moves are derived from poses


def test_masks_of_another_size_are_a_broken_bundle(tmp_path):
    clip = make_clip(tmp_path, "a", 0, PATHS[0])
    question = next(q for q in ask([clip]) if q.task_type == "D1")
    for file in (tmp_path / clip.bundle / "samples-mask").iterdir():
        file.write_bytes(images.encode(np.zeros((2, 3), np.uint16)))
    assert reason(make("geometry", root=tmp_path), question) == "broken bundle"


AMOUNTS = st.tuples(
    st.sampled_from(["move forward", "move backward", "move left", "move right"]),
    st.floats(0.3, 5),
    st.sampled_from(["turn left", "turn right"]),
    st.floats(5, 90),
)


@given(AMOUNTS, st.booleans())
def test_rounding_alone_never_disagrees_and_a_visible_change_always_does(drawn, turn_first):
    walk, meters, turn, degrees = drawn
    exact = [
        moves_of(f"{walk} {meters:.4f} meters")[0],
        moves_of(f"{turn} {degrees:.4f} degrees")[0],
    ]
    exact = exact[::-1] if turn_first else exact
    pose = geometry.poses(exact, [2, 2])[-1]
    said = [replace(m, amount=round(m.amount, 0 if "turn" in m.verb else 1)) for m in exact]
    assert off(said, pose) <= 1
    for k, more in enumerate(15.0 if "turn" in m.verb else 0.5 for m in said):
        longer = [replace(m, amount=m.amount + more * (i == k)) for i, m in enumerate(said)]
        assert off(longer, pose) > 1.5


def test_the_thing_in_a_box_is_found_by_its_outline():
    mask = np.zeros((40, 60), np.uint16)
    mask[5:25, 10:30], mask[10:15, 12:18] = 7, 9
    assert thing_at((10, 5, 30, 25), mask) == (7, 1.0)
    assert thing_at((12, 10, 18, 15), mask) == (9, 1.0)
    assert thing_at((35, 5, 55, 25), mask) is None


def test_depth_carries_a_box_to_where_the_card_is_seen(tmp_path):
    from w2v.checks.labels import View

    clip = make_clip(tmp_path, "a", 0, "move left 0.6 meters")
    view = View(clip, tmp_path / clip.bundle)
    before, after = (b for b in clip.boxes if b.track == 2)
    box, share = predicted(before.xyxy, view)
    assert share > 0.9
    assert np.abs(np.subtract(box, after.xyxy)).max() < 2.5  # pixels; the ends are quantiles


# ── sets ──────────────────────────────────────────────────────────────────────────────────────


def test_repeats_are_dropped_and_contradictions_fail(asked):
    check, question = make("duplicates"), asked["D4"]
    again = replace(question, id="another")
    assert [reason(check, q) for q in (question, again, again)] == [None, "duplicate", "duplicate"]
    assert check.whole([]).failures == []
    assert reason(check, flipped(question)) == "contradiction"
    elsewhere = replace(flipped(question), images=("c.png", "d.png"))
    assert check.row(elsewhere) is None
    told = check.whole([])
    assert told.figures == {"duplicates": 2, "contradictions": 1}
    assert told.failures == ["1 questions have a second, different answer"]


def leak(task, prompt, answer, template="w2v/A1", **more):
    messages = (Message(role="user", content=prompt), Message(role="assistant", content=answer))
    return Question(
        id="q", task_type=task, messages=messages, images=(), answer=answer,
        evidence={"template": template}, **more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("question", "leaks"),
    [
        (leak("A1", "How far? Answer as: move forward X meters.", "move forward 3 meters"), True),
        (leak("A1", "move <forward|backward|left|right> X", "move forward 3 meters"), False),
        (leak("A2", "How far did it turn left?", "turn left 30 degrees"), True),
        (leak("A2", "Did it turn left or right?", "turn left 30 degrees"), False),
        (leak("A3", "e.g. Move forward 1 meters; turn left 5 degrees",
              "move forward 1 meters; turn left 5 degrees"), True),
        (leak("D1", "The box [1, 2, 3, 4] moves", "[1, 2, 3, 4]"), True),
        (leak("D1", "The box [1, 2, 3, 5] moves", "[1, 2, 3, 4]"), False),
        (leak("D2", "Is it gone? Answer yes or no.", "yes"), False),
        (leak("A4", 'True or false: "move left 1 meters"', "true"), False),
        (leak("A1", "A. move left 1 meters\nB. move right 1 meters", "A", form="choice",
              options=("move left 1 meters", "move right 1 meters")), False),
    ],
)  # fmt: skip
def test_a_question_must_not_hold_its_answer(question, leaks):
    check = make("leaks")
    assert reason(check, question) == ("answer in the question" if leaks else None)
    assert bool(check.whole([]).failures) is leaks


def test_the_papers_wording_leaks_and_is_counted_not_refused(clips):
    check = make("leaks")
    questions = ask(clips, templates="paper")
    assert [q.id for q in questions if check.row(q)] == []
    told = check.whole([])
    assert told.figures["A1"] == {"leaks": 0.0, "leaks in the paper's wording": 1.0}
    assert told.figures["A3"] == {"leaks": 0.0, "leaks in the paper's wording": 0.0}
    assert told.failures == []


def test_leaks_up_to_the_limit_do_not_fail():
    told = leak("A2", "turn left?", "turn left 30 degrees")
    sound = leak("A2", "turn?", "turn left 30 degrees")
    for limit, failures in ((0.5, []), (0.4, ["A2: 1 of 2 questions contain their answer"])):
        check = make("leaks", limit=limit)
        check.row(told)
        check.row(sound)
        assert check.whole([]).failures == failures


def test_a_scene_in_two_splits_is_a_leak(asked):
    check = make("leaks")
    train = replace(asked["A1"], meta={"split": "train"})
    assert check.row(train) is None
    assert check.row(replace(train, scene="other", meta={"split": "val"})) is None
    assert reason(check, replace(train, meta={"split": "val"})) == "scene in two splits"
    assert check.whole([]).failures == ["1 scenes are in two splits"]


def truths(yes, no, task="D2", **more):
    return [leak(task, "?", "yes", **more)] * yes + [leak(task, "?", "no", **more)] * no


def test_balance_counts_answers_and_fails_lopsided_tasks():
    told = make("balance").whole(truths(80, 20) + truths(50, 50, "D4"))
    assert told.figures["D2"] == {
        "questions": 100, "commonest": "yes", "share": 0.8, "interval": [0.7112, 0.8666],
        "different": 2, "answers": {"yes": 80, "no": 20},
    }  # fmt: skip
    assert told.failures == ["D2: 80.0% of 100 answers say 'yes', more than 60.0%"]


def test_few_answers_prove_no_imbalance():
    assert make("balance").whole(truths(2, 1)).failures == []


def test_balance_sees_through_the_letters_of_a_choice():
    options = ("It remains visible", "It disappears from view")
    gone = [leak("D2", "?", "B", form="choice", options=options)] * 40
    gone += [leak("D2", "?", "A", form="choice", options=options[::-1])] * 40
    told = make("balance").whole(gone)
    assert told.figures["D2"]["letters"] == {"A": 40, "B": 40}
    assert told.failures == ["D2: 100.0% of 80 answers say 'yes', more than 60.0%"]


@pytest.mark.parametrize(
    ("hits", "number", "low", "high"),
    [(0, 0, 0, 1), (0, 10, 0, 0.2775), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_the_interval_is_wilsons(hits, number, low, high):
    assert sets.interval(hits, number) == pytest.approx((low, high), abs=1e-4)


# ── blind guesses ─────────────────────────────────────────────────────────────────────────────


def by_rule(number, task, text, rule):
    """Return questions of 40 scenes, whose text and answer are functions of their number."""
    made = []
    for k in range(number):
        words = ("yes", "no") if task != "A4" else ("true", "false")
        question = leak(task, text(k), words[not rule(k)])
        made.append(replace(question, id=f"q{k}", scene=f"s{k % 40}"))
    return made


def test_a_word_that_gives_the_answer_away_fails():
    pytest.importorskip("sklearn")
    labels = ("lamp", "sofa", "bed")
    questions = by_rule(300, "D2", lambda k: f"the {labels[k % 3]}?", lambda k: k % 3 == 0)
    told = make("blind").whole(questions)
    assert told.figures["D2"]["guessers"]["words"]["accuracy"] == 1.0
    assert told.failures == [
        "D2: words alone answers 100.0% of 300 questions without the picture, more than 55.0%"
    ]


def test_how_far_a_box_went_gives_the_answer_away():
    pytest.importorskip("sklearn")
    generator = np.random.default_rng(0)
    near = generator.random(400) < 0.5
    start, shift = generator.integers(100, 500, (400, 2)), generator.integers(-15, 15, (400, 2))
    end = np.where(near[:, None], start + shift, generator.integers(100, 500, (400, 2)))

    def text(k):
        (a, b), (c, d) = start[k], end[k]
        return f"[{a}, {b}, {a + 90}, {b + 90}] and [{c}, {d}, {c + 90}, {d + 90}]"

    told = make("blind").whole(by_rule(400, "D4", text, lambda k: bool(near[k])))
    guessers = told.figures["D4"]["guessers"]
    assert guessers["trees"]["accuracy"] > 0.9 > guessers["words"]["accuracy"]
    assert len(told.failures) == 1


def test_text_that_says_nothing_passes():
    pytest.importorskip("sklearn")
    coin = np.random.default_rng(1).random(600) < 0.5
    questions = by_rule(
        600, "A4", lambda k: f"turn left {k % 7 * 10 + 10} degrees", lambda k: bool(coin[k])
    )
    told = make("blind").whole(questions)
    assert told.failures == []
    assert told.figures["A4"]["scenes"] == 40


def test_a_scene_learned_from_is_never_guessed():
    pytest.importorskip("sklearn")
    # Each scene has one word and one answer: known scenes would be guessed, new ones cannot be.
    coin = np.random.default_rng(2).random(40) < 0.5
    questions = by_rule(800, "D2", lambda k: f"word{'x' * (k % 40)}", lambda k: bool(coin[k % 40]))
    accuracy = make("blind").whole(questions).figures["D2"]["guessers"]["trees"]["accuracy"]
    assert accuracy < 0.8


def test_blind_samples_by_hash_and_judges_one_scene_by_its_commonest_answer():
    pytest.importorskip("sklearn")
    from w2v.checks.text_only import sample

    questions = by_rule(100, "D2", str, lambda k: k % 2 == 0)
    ids = {q.id for q in sample(questions, 10)["D2"]}
    assert len(ids) == 10
    assert ids == {q.id for q in sample(questions[::-1], 10)["D2"]}
    one = [replace(q, scene="only") for q in questions]
    assert list(make("blind").whole(one).figures["D2"]["guessers"]) == ["constant"]


def test_what_copying_the_box_earns():
    pytest.importorskip("sklearn")
    near = leak("D1", "at [0, 0, 100, 100]", "[0, 0, 100, 80]")  # IoU 0.8
    far = leak("D1", "at [0, 0, 100, 100]", "[500, 0, 600, 80]")  # IoU 0
    told = make("blind").whole([near, far]).figures["D1"]["guessers"]
    assert told["copy the box"] == {"mean iou": 0.4, "iou >= 0.5": 0.5}


# ── contamination ─────────────────────────────────────────────────────────────────────────────


def photo(seed):
    """Return a smooth random picture, (120, 160, 3) uint8."""
    from PIL import Image

    small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC))


def test_a_benchmarks_picture_is_found_even_resized(tmp_path, asked):
    pytest.importorskip("imagehash")
    from PIL import Image

    (tmp_path / "bench" / "deep").mkdir(parents=True)
    for seed in range(3):
        (tmp_path / "bench" / "deep" / f"{seed}.png").write_bytes(images.encode(photo(seed)))
    (tmp_path / "bench" / "empty.png").write_bytes(b"")
    Image.fromarray(photo(1)).resize((96, 72)).save(tmp_path / "mine.jpg", quality=80)
    (tmp_path / "fresh.png").write_bytes(images.encode(photo(9)))
    check = make("contamination", root=tmp_path, against=tmp_path / "bench")
    assert check.row(replace(asked["A1"], images=("fresh.png", "fresh.png"))) is None
    problem = check.row(replace(asked["A1"], images=("fresh.png", "mine.jpg")))
    assert problem.reason == "benchmark image"
    assert str(Path("deep") / "1.png") in problem.detail
    figures = {"compared": 3, "unreadable": 1, "matched": 1, "distance": 4}
    assert check.whole([]).figures == figures


def test_without_a_folder_nothing_is_compared(asked):
    check = make("contamination")
    assert check.row(asked["A1"]) is None
    assert check.whole([]).figures["compared"] == 0


def test_a_folder_without_pictures_is_an_error(tmp_path):
    pytest.importorskip("imagehash")
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BadFile):
            make("contamination", against=folder)


def test_a_clip_kept_in_memory_is_the_one_on_disk(root, clips):
    from w2v.checks.clips import Clips

    found = Clips(root).find(ask(clips)[0])
    assert isinstance(found, Clip) and found == clips[0]


def test_checks_of_one_run_read_a_bundle_once_and_those_of_the_next_again(root, clips, monkeypatch):
    from w2v import bundles

    times, read = [], bundles.read

    def counted(folder, *rest):
        times.append(folder)
        return read(folder, *rest)

    monkeypatch.setattr(bundles, "read", counted)
    for run in (1, 2):
        checks = [make(name, root=root) for name in ("images", "boxes", "moves", "geometry")]
        for question in ask(clips):
            for check in checks:
                check.row(question)
        assert len(times) == run * len({question.bundle for question in ask(clips)})
        del checks, check
