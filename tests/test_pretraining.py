"""The base of ``tiny``: its questions are true of the pictures, and a killed run goes on."""

import os
import random
import re
import signal
from collections import Counter

import numpy
import pytest

from w2v import boxes
from w2v.pretraining import asking, views

pytest.importorskip("trl")
SIDE = 128


@pytest.fixture(scope="module")
def room():
    return views.take(0, 6, SIDE, seed=5)


def test_a_room_is_the_same_whenever_it_is_taken(room):
    again = views.take(0, 6, SIDE, seed=5)
    assert all(
        (a.frame == b.frame).all() and a.sights == b.sights
        for a, b in zip(room, again, strict=True)
    )
    other = views.take(1, 6, SIDE, seed=5)
    assert not (room[0].frame == other[0].frame).all()


def test_boxes_are_tight_and_lie_in_the_picture(room):
    for view in room:
        assert len(view.sights) >= 2
        for sight in view.sights:
            x1, y1, x2, y2 = sight.box
            assert 0 <= x1 < x2 <= SIDE and 0 <= y1 < y2 <= SIDE and sight.depth > 0
            assert sight.share * SIDE * SIDE <= (x2 - x1) * (y2 - y1) + 0.1


def test_pictures_come_back_from_disk_as_they_were_taken(room, tmp_path):
    views.make(tmp_path, 0, 6, SIDE, seed=5)
    found = views.Room(tmp_path, 0)
    assert len(found) == 6
    assert (found[2].frame == room[2].frame).all()
    assert [s.label for s in found[2].sights] == [s.label for s in room[2].sights]
    assert found[2].sights[0].box == pytest.approx(room[2].sights[0].box, abs=0.05)


def _about(view, name):
    """Return the one thing that a name fits."""
    fits = [s for s in view.sights if name in (s.label, f"{s.color} {s.label}")]
    by_label = [s for s in fits if s.label == name]
    (found,) = by_label or fits
    return found


def test_every_answer_is_true_of_the_picture_it_is_about(room):
    seen = Counter()
    for k in range(60):
        rng = random.Random(k)
        shown = [rng.choice(room) for _ in range(1 + k % 2)]
        for asked in list(asking.ask(shown, rng))[:30]:
            view = shown["in the second picture" in asked.text] if len(shown) > 1 else shown[0]
            seen[asked.kind] += 1
            if asked.kind in ("both", "match", "shift", "claim shift", "which"):
                _judge_both(asked, shown)
            else:
                _judge(asked, view)
    assert set(seen) == set(asking.KINDS)


def _judge_both(asked, shown):
    if asked.kind == "match":
        told = boxes.find(asked.text)[0], boxes.find(asked.answer)[0]
        labels = [
            {s.label for s in view.sights if boxes.to_grid(s.box, SIDE, SIDE) == box}
            for view, box in zip(shown, told, strict=True)
        ]
        assert labels[0] & labels[1]
        return
    about = {
        "both": r"Where is the (.+) in the first and second picture\?",
        "shift": r"How far is the middle of the (.+) in the second picture from that in",
        "claim shift": r'Someone claims: "the (.+?) is (?:left|right) \d',
        "which": r"In which picture is the (.+?) (?:farther|higher|lower|larger|smaller)",
    }
    name = re.match(about[asked.kind], asked.text)[1]
    found = [boxes.to_grid(_about(view, name).box, SIDE, SIDE) for view in shown]
    if asked.kind == "both":
        assert boxes.find(asked.answer) == found
    elif asked.kind == "shift":
        _judge_way(asked.answer, *found)
    elif asked.kind == "claim shift":
        side, far = re.search(r"(left|right) (\d+),", asked.text).groups()
        across = _middle_of(found[1])[0] - _middle_of(found[0])[0]
        near = abs(int(far) * (1 if side == "right" else -1) - across) < 1
        assert asked.answer == ("true" if near else "false") and abs(across) > 99
    else:
        _judge_compared(re.search(f"is the {name} (.+?),", asked.text)[1], asked.answer, *found)


def _judge_way(answer, one, two):
    (x, y), (u, v) = _middle_of(one), _middle_of(two)
    across, far, along, deep = re.fullmatch(r"(\w+) (\d+), (\w+) (\d+)", answer).groups()
    assert {"right": 1, "left": -1}[across] * int(far) == pytest.approx(u - x, abs=0.5)
    assert {"down": 1, "up": -1}[along] * int(deep) == pytest.approx(v - y, abs=0.5)


def _middle_of(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _judge_compared(word, answer, one, two):
    (x, y), (u, v) = _middle_of(one), _middle_of(two)
    first = {
        "farther left": x < u,
        "farther right": x > u,
        "higher": y < v,
        "lower": y > v,
        "larger": boxes.area(one) > boxes.area(two),
        "smaller": boxes.area(one) < boxes.area(two),
    }[word]
    assert answer == ("first" if first else "second")


def _judge(asked, view):
    told = boxes.find(asked.text)
    scale = boxes.GRID / view.frame.shape[1]
    middle = {s: (s.box[0] + s.box[2]) / 2 for s in view.sights}
    if asked.kind == "where":
        sight = _about(view, re.search(r"Where is the (.+?)(?: in the|\?)", asked.text)[1])
        assert boxes.find(asked.answer)[0] == pytest.approx([v * scale for v in sight.box], abs=1)
    elif asked.kind == "what":
        fits = [
            s for s in view.sights if boxes.to_grid(s.box, SIDE, SIDE) == tuple(map(int, told[0]))
        ]
        assert asked.answer in [s.label for s in fits]
    elif asked.kind == "count":
        label = re.search(r"called (.+?) are", asked.text)[1]
        assert asked.answer == str(sum(s.label == label for s in view.sights))
    elif asked.kind == "exists":
        label = re.search(r"there a (.+?)(?: in the|\?)", asked.text)[1]
        assert asked.answer == ("yes" if any(s.label == label for s in view.sights) else "no")
    elif asked.kind == "beside":
        one, two = re.search(
            r"Is the (.+?) left or right of the (.+?)(?: in the|\?)", asked.text
        ).groups()
        left = middle[_about(view, one)] < middle[_about(view, two)]
        assert asked.answer == ("left" if left else "right")
    elif asked.kind == "compared":
        _judge_compared(re.match(r"Which box is (.+?),", asked.text)[1], asked.answer, *told)
    elif asked.kind == "between":
        _judge_way(asked.answer, told[1], told[0])
    elif asked.kind == "shifted":
        way, (box,) = (
            re.match(r"Which box is (.+) from \[", asked.text)[1],
            boxes.find(asked.answer),
        )
        _judge_way(way, told[0], box)
        assert (box[2] - box[0], box[3] - box[1]) == (
            told[0][2] - told[0][0],
            told[0][3] - told[0][1],
        )
    elif asked.kind in ("nearer", "higher"):
        names = re.search(r", the (.+?) or the (.+?)\?", asked.text).groups()
        if asked.kind == "nearer":
            assert asked.answer == min(names, key=lambda name: _about(view, name).depth)
        else:
            assert asked.answer == min(
                names, key=lambda name: _middle_of(_about(view, name).box)[1]
            )
    elif asked.kind == "far":
        depth = _about(view, re.search(r"away is the (.+?)(?: in the|\?)", asked.text)[1]).depth
        number, unit = asked.answer.split()
        assert float(number) == pytest.approx(depth, abs=0.051) and unit == "meters"
    elif asked.kind == "where color":
        color = re.search(r"Where is the (.+?) object", asked.text)[1]
        (sight,) = [s for s in view.sights if s.color == color]
        assert boxes.find(asked.answer) == [boxes.to_grid(sight.box, SIDE, SIDE)]
    elif asked.kind == "exactly":
        sight = _about(view, re.match(r"The (.+?)(?: in the \w+ picture)? is at", asked.text)[1])
        assert boxes.find(asked.answer) == [boxes.to_grid(sight.box, SIDE, SIDE)]
    elif asked.kind == "color":
        name = re.search(r"color is the (.+?)(?: in the|\?)", asked.text)[1]
        assert asked.answer == _about(view, name).color
    elif asked.kind in ("color at", "letter"):
        fits = [s for s in view.sights if boxes.to_grid(s.box, SIDE, SIDE) == told[0]]
        if asked.kind == "letter":
            options = dict(re.findall(r"^([A-H])\W+(.+)$", asked.text, re.MULTILINE))
            labels = {s.label for s in view.sights}
            assert options[asked.answer] in {s.label for s in fits}
            assert not labels & {o for letter, o in options.items() if letter != asked.answer}
        else:
            assert asked.answer in {s.color for s in fits}
    elif asked.kind == "half":
        sight = _about(view, re.search(r"Is the (.+?) in the left or", asked.text)[1])
        assert asked.answer == ("left" if middle[sight] < SIDE / 2 else "right")
    elif asked.kind == "claim":
        name, side = re.search(r'"the (.+?) is in the (\w+) half"', asked.text).groups()
        there = (middle[_about(view, name)] < SIDE / 2) == (side == "left")
        assert asked.answer == ("true" if there else "false")
    else:
        raise AssertionError(f"{asked.kind} is not judged")


def test_no_question_tells_of_a_move(room):
    words = {"camera", "turn", "forward", "backward", "move", "moved"}
    said = {
        word
        for k in range(20)
        for a in asking.ask(room[:2], random.Random(k))
        for word in a.text.split()
    }
    assert not words & said


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A random model of the base's size, and its processor."""
    import transformers

    from w2v.students import tiny

    folder = tiny.build(tmp_path_factory.mktemp("base"), **tiny.BASE, texts=asking.corpus())
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder)
    return model, transformers.AutoProcessor.from_pretrained(folder)


def _asked(shown, number, seed=3):
    return list(asking.ask(shown, random.Random(seed)))[:number]


def _by_the_processor(processor, shown, question):
    """What the real processor makes of a question and its answer."""
    from PIL import Image

    said = [
        {
            "role": "user",
            "content": [*[{"type": "image"}] * len(shown), {"type": "text", "text": question.text}],
        },
        {"role": "assistant", "content": [{"type": "text", "text": question.answer}]},
    ]
    text = processor.apply_chat_template(said, tokenize=False)
    frames = [[Image.fromarray(view.frame) for view in shown]]
    return processor(text=[text], images=frames, return_tensors="pt")


@pytest.mark.parametrize("number", [1, 2])
def test_rows_read_as_the_chat_template_writes_them(number, room, base):
    from w2v.pretraining import rows
    from w2v.students import lean

    _, processor = base
    shown = room[:number]
    questions = _asked(shown, 5)
    made = rows.Writer(processor).row(tuple(range(number)), questions)
    shared = made.blocks.count(0)
    for block, question in enumerate(questions, 1):
        theirs = _by_the_processor(processor, shown, question)
        own = [i for i, k in zip(made.ids, made.blocks, strict=True) if k in (0, block)]
        assert own == theirs["input_ids"][0].tolist()
        places = [i for i, k in zip(made.places, made.blocks, strict=True) if k == block]
        assert places == [*range(shared, len(own))]
        answer = made.answers[block - 1]
        answered = made.ids[answer.start : answer.stop]
        assert processor.tokenizer.decode(answered) == f"{question.answer}<|im_end|>"
    ours = lean.patches([view.frame for view in shown], processor.image_processor)
    assert ours.flatten(0, 1).numpy() == pytest.approx(theirs["pixel_values"].numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("[10, 205, 7, 999]", (0.01, 0.205, 0.007, 0.999, None, None)),
        ("left 120, down 45", (None, None, None, None, -0.12, 0.045)),
        ("[1, 2, 3, 4] and [5, 6, 7, 8]", (None,) * 6),
        ("mug", (None,) * 6),
    ],
)
def test_what_an_answer_tells_in_numbers(answer, told, base):
    from w2v.pretraining import rows

    plain = asking.Asked("where", "Where is the mug?", answer)
    color = asking.Asked("color", "What color is the mug?", "red")
    row = rows.Writer(base[1]).row((0,), [color, plain])
    padded = rows.pad([row], filler=0)
    said = padded.said[0].nonzero().flatten().tolist()
    assert said == [*row.answers[0], *row.answers[1]]
    nan = float("nan")
    for place in row.answers[1]:
        wanted = [nan if v is None else v for v in told]
        assert padded.targets[0, place].tolist() == pytest.approx(wanted, nan_ok=True)
    assert padded.targets[0, row.answers[0]].isnan().all()


@pytest.mark.parametrize("number", [1, 2])
def test_the_short_way_computes_what_the_real_classes_do(number, room, base):
    import torch

    from w2v.pretraining import rows
    from w2v.pretraining.learning import Seer

    model, processor = base
    shown = room[:number]
    writer = rows.Writer(processor)
    questions, places = _asked(shown, 3), tuple(range(number))
    row = writer.row(places, questions)
    shorter = writer.row(places, questions[:1])
    with torch.no_grad():
        seer = Seer(model, writer)
        padded = rows.pad([row, shorter], seer.filler)
        ours = seer.states(padded, seer.tokens(shown), [places, places])[-1]
        for block, question in enumerate(questions, 1):
            theirs = _by_the_processor(processor, shown, question)
            real = model.model(**theirs).last_hidden_state[0]
            for number, alone in ((0, False), (1, True)):
                own = (padded.blocks[number] == 0) | (padded.blocks[number] == block)
                if block == 1 or not alone:
                    assert (ours[number, own] - real).abs().max() < 1e-4 * real.abs().max()


def _arguments(folder, pictures):
    plan = ["--rooms", "3", "--eyes", "3", "--steps", "4", "--workers", "1"]
    return ["pretrain", "-o", str(folder), *plan, "--pictures", str(pictures)]


def test_a_stopped_run_goes_on_and_ends_with_the_same_weights(tmp_path, w2v, monkeypatch):
    from w2v.pretraining import learning

    whole, part, pictures = tmp_path / "whole", tmp_path / "part", tmp_path / "pictures"
    code, lines, err = w2v(*_arguments(whole, pictures))
    assert code == 0, err
    assert lines[0]["method"] == "pretrain" and "box error" in lines[0]["metrics"]
    told = (whole / "README.md").read_text()
    assert "w2v pretrain -o base --rooms 3 --eyes 3 --steps 4" in told
    take = learning.Lesson.step

    def stop(lesson, step):
        made = take(lesson, step)
        if step in (1, 4):  # once in each half
            os.kill(os.getpid(), signal.SIGTERM)
        return made

    monkeypatch.setattr(learning.Lesson, "step", stop)
    assert w2v(*_arguments(part, pictures))[0] == 75
    assert "config.json" in [p.name for p in part.iterdir()] and (part / "state.pt").exists()
    assert w2v(*_arguments(part, pictures))[0] == 75
    assert w2v(*_arguments(part, pictures))[0] == 0
    weights = [(folder / "model.safetensors").read_bytes() for folder in (whole, part)]
    assert weights[0] == weights[1]
    assert not (part / "state.pt").exists()
    code, again, _ = w2v(*_arguments(part, pictures))
    assert code == 0 and again[0]["metrics"] == lines[0]["metrics"]


def test_a_base_goes_on_from_an_earlier_one_and_its_card_tells_of_both(tmp_path, w2v):
    import safetensors.torch

    first, second, pictures = tmp_path / "first", tmp_path / "second", tmp_path / "pictures"
    assert w2v(*_arguments(first, pictures))[0] == 0
    more = [*_arguments(second, pictures), "--start", first, "--eyes", 0, "--steps", 1]
    code, lines, err = w2v(*more)
    assert code == 0, err
    assert lines[0]["settings"]["start"]
    told = (second / "README.md").read_text().splitlines()
    assert "w2v pretrain -o base0 --rooms 3 --eyes 3 --steps 4 --seed 0" in told
    assert "w2v pretrain -o base --rooms 3 --eyes 0 --steps 1 --seed 0 --start base0" in told
    old, new = (
        safetensors.torch.load_file(folder / "model.safetensors") for folder in (first, second)
    )
    moved = [float((new[name] - old[name]).abs().max()) for name in old]
    assert 0 < max(moved) < 1e-3  # one step at a small rate away, not drawn anew
    code, _, err = w2v(*[*more[:-4], "--steps", 2])  # the same folder, other settings
    assert code == 1 and "other settings" in err


def test_a_base_of_another_size_is_no_start(tmp_path, w2v):
    from w2v.students import tiny

    other = tiny.build(tmp_path / "other", width=64, vision_width=32, layers=1, vision_layers=1)
    arguments = [*_arguments(tmp_path / "base", tmp_path / "pictures"), "--start", other]
    code, _, err = w2v(*arguments)
    assert code == 1 and "sees pictures of 112 pixels, not 128" in err


def test_only_what_has_a_name_of_its_own_is_to_be_found():
    from w2v.pretraining import finding

    mug = views.Sight("mug", "red", (0.0, 32.0, 64.0, 128.0), 0.01, 2.0)
    chairs = [views.Sight("chair", "blue", (8.0, 8.0, 16.0, 16.0 + k), 0.1, 1.0) for k in (1, 2)]
    rug = views.Sight("rug", "", (0.0, 64.0, 128.0, 128.0), 0.5, 12.0)
    blank = numpy.zeros((128, 128, 3), numpy.uint8)
    shown = [views.View(blank, tuple(chairs)), views.View(blank, (rug, *chairs, mug))]
    told = finding.truth(shown, 4)
    assert told.picture.tolist() == [1, 1]
    assert told.name.tolist() == [asking.NAMES.index("rug"), asking.NAMES.index("mug")]
    assert told.box.tolist() == [[0, 0.5, 1, 1], [0, 0.25, 0.5, 1]]
    assert told.depth.tolist() == [1.5, 0.25]
    assert told.tint.tolist() == [-1, finding.COLORS.index("red")]
    assert told.cells[1, :, :, asking.NAMES.index("mug")].tolist() == [
        *([[0.0] * 4]),
        *([[1.0, 1.0, 0.0, 0.0]] * 3),
    ]
    chair = told.cells[0, :, :, asking.NAMES.index("chair")]
    assert chair[0, 0] == pytest.approx(8 * 10 / 32**2)  # the larger of two that overlap
    assert chair.sum() == chair[0, 0]
    assert told.cells[0].sum() == chair.sum()


def test_a_token_is_asked_about_the_cells_that_it_shows(base):
    import torch

    from w2v.pretraining import finding

    width, side = 32, 4 * finding.FINE
    finder = finding.Finder(width, 16, base[1].tokenizer, 5000)
    mug = views.Sight("mug", "red", (40.0, 16.0, 72.0, 100.0), 0.01, 2.0)
    shown = [views.View(numpy.zeros((128, 128, 3), numpy.uint8), (mug,))]
    told = finding.truth(shown, side).cells
    name = asking.NAMES.index("mug")
    with torch.no_grad():  # each token knows its place alone, and the layer what lies there
        said = finder.cells.weight.view(finding.FINE, finding.FINE, -1, width).zero_()
        finder.cells.bias.fill_(-30.0)
        for row in range(side):
            for column in range(side):
                token = 4 * (row // finding.FINE) + column // finding.FINE
                inside = 60.0 if told[0, row, column, name] else 0.0
                said[row % finding.FINE, column % finding.FINE, name, token] = inside
        tokens = torch.eye(16, width).unsqueeze(0)
        assert float(finder._map(tokens, (told > 0).float())) < 1e-6
        assert float(finder._map(tokens.flip(1), (told > 0).float())) > 0.01


def test_the_base_that_comes_with_w2v_sees(tmp_path):
    import transformers

    from w2v.pretraining import measuring, rows
    from w2v.students import BASE

    for number in (0, 1):  # room 0 is one of those that it did not learn from
        views.make(tmp_path, number, 12, SIDE, seed=0)
    model = transformers.AutoModelForImageTextToText.from_pretrained(BASE)
    processor = transformers.AutoProcessor.from_pretrained(BASE)
    kept = rows.Rooms(tmp_path, 2, rows.Writer(processor), seed=0)
    asked = kept.apart(20)
    said = measuring.answers(model, processor, asked)
    told = [
        (boxes.find(text), boxes.find(question.answer))
        for text, (_, question) in zip(said, asked.asked, strict=True)
        if len(boxes.find(question.answer)) == 1
    ]
    assert told and all(len(found) == 1 for found, _ in told)
    errors = [numpy.abs(numpy.subtract(a[0], b[0])).mean() for a, b in told]
    assert numpy.median(errors) < 0.1 * boxes.GRID  # 0.2 and more without looking


@pytest.mark.parametrize(
    ("say", "right"), [(lambda asked: asked.answer, True), (lambda asked: "none", False)]
)
def test_right_answers_measure_as_right_and_others_as_wrong(
    say, right, base, tmp_path, monkeypatch
):
    from w2v.pretraining import measuring, rows

    views.make(tmp_path, 0, 6, SIDE, seed=5)
    rooms = rows.Rooms(tmp_path, 1, rows.Writer(base[1]), seed=0)
    batch = rooms.apart(20)
    shift = asking.Asked("shift", "How far?", "left 12, down 0")
    both = asking.Asked("both", "Where?", "[1, 2, 30, 40] and [5, 6, 70, 80]")
    far = asking.Asked("far", "How far away?", "2.5 meters")
    more = [((0, 1), shift), ((0, 1), both), ((0,), far)]
    monkeypatch.setattr(rooms, "apart", lambda most: batch._replace(asked=[*batch.asked, *more]))
    monkeypatch.setattr(
        measuring, "answers", lambda model, _, batch: [say(asked) for _, asked in batch.asked]
    )
    figures = measuring.measure(None, rooms)
    assert {"shift error", "box error", "both", "where"} <= set(figures)
    for kind, figure in figures.items():
        assert figure == float(right != kind.endswith("error")), kind


def test_a_folder_of_something_else_is_left_alone(tmp_path, w2v):
    (tmp_path / "notes.txt").write_text("mine")
    code, _, err = w2v("pretrain", "-o", tmp_path, "--steps", 1)
    assert code == 1 and "not a run" in err
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_cut_room_is_named(tmp_path):
    from w2v.errors import BadFile

    views.make(tmp_path, 0, 2, 32, seed=1)
    path = views.file_of(tmp_path, 0)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadFile, match="room-000000.npy"):
        views.Room(tmp_path, 0)
