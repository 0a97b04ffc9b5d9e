"""Contact sheets and the page: what a person sees is what the records say."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor

from w2v import bundles, footage
from w2v.commands.report import report
from w2v.kinds import Rendered
from w2v.records import Box, Intrinsics, Message, Move, Question
from w2v.report import answers, page, sheets
from w2v.stream import dumps

CAMERA = Intrinsics(width=320, height=240, fx=200.0, fy=200.0, cx=160.0, cy=120.0)
MOVES = (Move(verb="turn left", amount=30.0),)
START, END, OTHER = (
    (60.0, 100.0, 120.0, 180.0),
    (200.0, 100.0, 260.0, 180.0),
    (20.0, 20.0, 80.0, 80.0),
)
ORANGE, BLUE = (ImageColor.getrgb(colour) for colour in sheets.COLOURS[:2])
WHITE = (255, 255, 255)


@pytest.fixture
def clip(tmp_path):
    """A grey bundle of five frames; track 1 moves from START to END, track 2 stays at OTHER."""
    folder = tmp_path / "d" / "scenes" / "room" / "traj_turn_left_00"
    frames = [np.full((240, 320, 3), 128, np.uint8)] * 5
    told = bundles.describe(
        MOVES,
        range(5),
        [5],
        CAMERA,
        [np.eye(4)] * 5,
        {
            "id": "room/x",
            "scene": "room",
            "moves": [{"verb": m.verb, "amount": m.amount} for m in MOVES],
        },
    )
    footage.write(folder, told, Rendered(frames=frames))
    annotate(folder, END)
    return bundles.read(folder, tmp_path)


def annotate(folder, end):
    found = [Box(frame=k, track=2, label="plant", xyxy=OTHER, visible=1.0) for k in range(5)] + [
        Box(frame=0, track=1, label="chair", xyxy=START, visible=1.0),
        Box(frame=4, track=1, label="chair", xyxy=end, visible=float(end is not None)),
    ]
    bundles.write_boxes(folder, found, CAMERA, 5, {})


def ask(clip, task="D1", answer="yes", both=True, number=0, text="Where is it?", **fields):
    shown = (clip.first, clip.last) if both else (clip.first,)
    return Question(
        id=f"{task}/{number}",
        task_type=task,
        messages=(
            Message(role="user", content="<image>" * len(shown) + text),
            Message(role="assistant", content=answer),
        ),
        images=shown,
        answer=answer,
        bundle=clip.bundle,
        **fields,
    )


def corners(picture, box, left):
    """Return the colours at the corners of a box in a thumbnail whose left edge is there."""
    first = sheets.place(box, (224, 168), (320, 240))
    top = picture_top(picture)
    return {
        picture.getpixel((left + x, top + y))
        for x in (first[0], first[2])
        for y in (first[1], first[3])
    }


def picture_top(picture):
    """Return the first row in which the left edge shows a picture."""
    column = np.asarray(picture)[:, sheets.GAP]
    grey = np.abs(column.astype(int) - 128).max(axis=1) < 2
    return int(np.argmax(grey))


FIRST, SECOND = sheets.GAP, 2 * sheets.GAP + 224


def test_a_sheet_has_a_row_of_pictures_and_words(clip, tmp_path):
    one = sheets.sheet([ask(clip)], tmp_path)
    two = sheets.sheet([ask(clip, number=k) for k in range(2)], tmp_path)
    width = 2 * 224 + sheets.GAP + 2 * sheets.GAP + sheets.TEXT_WIDTH + 2 * sheets.GAP
    assert one.width == two.width == width
    assert 168 < one.height < two.height < 2 * one.height
    many = [ask(clip, number=k) for k in range(9)]
    assert sheets.sheet(many, tmp_path, number=2).height == two.height
    assert sheets.sheet(many, tmp_path, number=2, thumb=112).width == width - 224


def test_boxes_are_drawn_where_the_evidence_says_in_one_colour_per_track(clip, tmp_path):
    same = ask(clip, evidence={"from": [*START], "to": [*END]})
    drawn = sheets.sheet([same], tmp_path)
    assert corners(drawn, START, FIRST) == corners(drawn, END, SECOND) == {ORANGE}
    other = ask(clip, "D4", "yes", evidence={"from": [*START], "to": [*OTHER]})
    drawn = sheets.sheet([other], tmp_path)
    assert corners(drawn, START, FIRST) == {ORANGE}
    assert corners(drawn, OTHER, SECOND) == {BLUE}  # though the answer says: the same object
    unknown = ask(clip, evidence={"from": [*START], "to": [270.0, 10.0, 310.0, 50.0]})
    drawn = sheets.sheet([unknown], tmp_path)
    assert corners(drawn, (270.0, 10.0, 310.0, 50.0), SECOND) == {WHITE}


def test_two_objects_never_share_a_colour_by_chance(clip, tmp_path):
    boxes = [Box(frame=0, track=1, label="chair", xyxy=START)]
    boxes += [Box(frame=0, track=k, label="x", xyxy=(0.0, 0.0, 9.0, 9.0)) for k in range(2, 8)]
    boxes += [Box(frame=4, track=8, label="chair", xyxy=END)]
    bundles.write_boxes(tmp_path / clip.bundle, boxes, CAMERA, 5, {})
    question = ask(clip, "D4", evidence={"from": [*START], "to": [*END]})
    drawn = sheets.sheet([question], tmp_path)
    assert corners(drawn, START, FIRST) == {ORANGE}
    assert corners(drawn, END, SECOND) == {BLUE}


def test_boxes_in_words_are_drawn_where_there_is_no_evidence(clip, tmp_path):
    text = "Where is the chair at [188, 417, 375, 750]?"
    question = ask(clip, "D1", "[625, 417, 812, 750]", text=text)
    drawn = sheets.sheet([question], tmp_path)
    near = [(187.5 * 0.32, 417 * 0.24, 375 * 0.32, 180), (200, 417 * 0.24, 812 * 0.32, 180)]
    assert corners(drawn, near[0], FIRST) == corners(drawn, near[1], SECOND) == {ORANGE}


def test_an_object_out_of_sight_is_dashed_where_it_was(clip, tmp_path):
    annotate(tmp_path / clip.bundle, None)
    question = ask(clip, "D2", both=False, evidence={"from": [*START]})
    drawn = sheets.sheet([question], tmp_path)
    left, top, right, bottom = sheets.place(START, (224, 168), (320, 240))
    y = picture_top(drawn) + bottom
    edge = [drawn.getpixel((SECOND + x, y)) for x in range(left, right + 1)]
    assert ORANGE in edge and (128, 128, 128) in edge
    solid = [drawn.getpixel((FIRST + x, y)) for x in range(left, right + 1)]
    assert set(solid) == {ORANGE}


def test_further_frames_stand_between_the_first_and_the_last(clip, tmp_path):
    question = ask(clip, evidence={"from": [*START], "to": [*END]})
    plain = sheets.sheet([question], tmp_path)
    more = sheets.sheet([question], tmp_path, between=2)
    assert more.width == plain.width + 2 * (224 + sheets.GAP)
    third = FIRST + 3 * (224 + sheets.GAP)
    assert corners(more, END, third) == {ORANGE}


def test_a_missing_picture_is_grey_and_counted(clip, tmp_path):
    (tmp_path / clip.last).unlink()
    missing = []
    outside = replace(ask(clip, number=1), images=(clip.first, "../../etc/passwd"))
    drawn = sheets.sheet([ask(clip), outside], tmp_path, missing=missing.append)
    assert sorted(missing) == ["../../etc/passwd", clip.last]
    grey = ImageColor.getrgb(sheets.MISSING)
    assert drawn.getpixel((SECOND + 2, picture_top(drawn) + 2)) == grey


def test_a_broken_bundle_leaves_the_pictures(clip, tmp_path):
    (tmp_path / clip.bundle / "traj.json").write_text("{")
    question = ask(clip, evidence={"from": [*START], "to": [*END]})
    drawn = sheets.sheet([question], tmp_path)
    assert corners(drawn, START, FIRST) == corners(drawn, END, SECOND) == {ORANGE}


def test_a_bundle_cannot_show_files_outside_the_root(clip, tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (320, 240), "red").save(secret)
    told = json.loads((tmp_path / clip.bundle / "traj.json").read_text())
    told["transforms"]["frames"][2] = {**told["transforms"]["frames"][2], "file_path": str(secret)}
    (tmp_path / clip.bundle / "traj.json").write_text(json.dumps(told))
    missing = []
    sheets.sheet([replace(ask(clip), bundle="scenes/room/traj_turn_left_00",
                          images=tuple(n.removeprefix("d/") for n in ask(clip).images))],
                 tmp_path / "d", between=1, missing=missing.append)  # fmt: skip
    assert len(missing) == 1 and missing[0].endswith("secret.png")


def test_a_clip_sheet_shows_frames_with_all_boxes(clip, tmp_path):
    drawn = sheets.clip_sheet(clip, tmp_path, number=3)
    assert drawn.width == 3 * 224 + 2 * sheets.GAP + 2 * sheets.GAP
    assert corners(drawn, START, FIRST) == {ORANGE}
    assert corners(drawn, OTHER, FIRST) == corners(drawn, OTHER, SECOND) == {BLUE}
    assert corners(drawn, END, FIRST + 2 * (224 + sheets.GAP)) == {ORANGE}


def test_sheets_are_written_per_task_and_are_the_same_bytes_again(clip, tmp_path):
    asked = [ask(clip, task, number=k) for task in ("A/1", "D2") for k in range(3)]
    first = sheets.write_sheets(asked, tmp_path, tmp_path / "one")
    again = sheets.write_sheets(asked[::-1], tmp_path, tmp_path / "two")
    assert [path.name for path in first] == ["sheet_A-1.png", "sheet_D2.png"]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again]
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == [p.name for p in first]


@given(
    st.tuples(*[st.floats(-50, 400)] * 4),
    st.integers(1, 300),
    st.integers(1, 300),
)
@settings(max_examples=100, deadline=None)
def test_a_box_is_always_placed_inside_the_thumbnail(box, width, height):
    left, top, right, bottom = sheets.place(box, (width, height), (320, 240))
    assert 0 <= left <= right < width and 0 <= top <= bottom < height


# ── answers ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("task", "answer", "form", "options", "kind"),
    [
        ("A1", "move forward 1.5 meters", "plain", (), "move forward"),
        ("A3", "turn left 3 degrees; move left 1 meters", "plain", (), "turn left; move left"),
        ("A1", "B", "choice", ("turn left 3 degrees", "turn right 3 degrees"), "turn right"),
        ("D1", "[0, 0, 100, 100]", "plain", (), "top left"),
        ("D1", "[400, 400, 600, 600]", "plain", (), "centre middle"),
        ("D1", "[900, 900, 1000, 1000]", "plain", (), "bottom right"),
        ("D2", "The chair remains visible.", "sentence", (), "no"),
        ("D4", "A", "choice", ("A different object", "The same object"), "no"),
        ("other", "seven", "plain", (), "seven"),
    ],
)
def test_answers_are_sorted_by_what_a_guesser_would_say(clip, task, answer, form, options, kind):
    assert answers.kind(ask(clip, task, answer, form=form, options=options)) == kind


def test_a_sample_takes_every_kind_of_answer_and_no_order_changes_it(clip):
    asked = [ask(clip, "D2", "no", number=k) for k in range(50)]
    asked += [ask(clip, "D2", "yes", number=k) for k in range(50, 53)]
    drawn = answers.sample(asked, 8)
    assert [q.answer for q in drawn].count("yes") == 3
    assert answers.sample(asked[::-1], 8) == drawn
    assert answers.sample(asked, 8, seed=1) != drawn
    counted = answers.tally(asked, 8)["D2"]
    assert counted.sample(8) == drawn
    assert (counted.count, counted.constant) == (53, 50 / 53)


# ── the page ───────────────────────────────────────────────────────────────────────────────────

HOSTILE = "</svg><script>alert('x')</script><img src=x onerror=alert(1)>\"'&{title}"


@pytest.fixture
def folder(clip, tmp_path):
    """A folder with questions, summaries of two stages in three parts, and a bundle."""
    made = tmp_path / "d"
    asked = [ask(clip, "D2", "no" if k else "yes", number=k) for k in range(4)]
    (made / "questions.jsonl").write_text("".join(dumps(q.to_json()) + "\n" for q in asked))
    for name, kept in (("a", 5), ("b", 6)):
        told = {"stage": "render", "in": 10, "out": kept, "dropped": {"collision": 2}, "failed": {}}
        (made / f"{name}.summary.json").write_text(json.dumps(told))
    told = {"stage": "scenes", "in": 20, "out": 20, "dropped": {}, "failed": {}}
    (made / "z.summary.json").write_text(json.dumps(told))
    (made / "other.json").write_text('{"stage": "x"}')
    return made


def page_of(folder, root):
    found = page.gather(folder, 12, 0)
    return page.document("d", page.sections(found, page.draw(found, root)))


def text_of(markup):
    return re.sub(r"<[^>]+>", " ", markup)


def test_the_page_adds_up_the_stages_in_order(folder):
    found = page.gather(folder, 12, 0)
    assert [(s["stage"], s["in"], s["out"]) for s in found.stages] == [
        ("scenes", 20, 20),
        ("render", 20, 11),
    ]
    assert found.stages[1]["dropped"] == {"collision": 4}


def test_the_page_needs_no_other_file(folder, tmp_path):
    done = page_of(folder, tmp_path)
    assert not re.search(r"https?://|<script|<link|@import", done)
    assert re.findall(r'src="(data:image/jpeg;base64,)', done) == ["data:image/jpeg;base64,"] * 2
    assert len(re.findall(r"<img [^>]*alt=\"[^\"]+\"", done)) == done.count("<img ")
    assert "prefers-color-scheme: dark" in done
    assert "no 3 (75.0%)" not in done and "3 (75.0%)" in text_of(done)
    assert "constant answer" in done and "75.0%" in done


def test_every_text_of_a_record_is_escaped(folder, clip, tmp_path):
    asked = [
        ask(clip, HOSTILE, HOSTILE, number=HOSTILE, text=HOSTILE, form=HOSTILE),
        replace(ask(clip, "D2", "no"), images=(HOSTILE, HOSTILE)),
    ]
    (folder / "questions.jsonl").write_text("".join(dumps(q.to_json()) + "\n" for q in asked))
    told = {"stage": HOSTILE, "in": 1, "out": 0, "dropped": {HOSTILE: 1}, "failed": {}}
    (folder / "a.summary.json").write_text(json.dumps(told))
    done = page_of(folder, tmp_path)
    assert "<script" not in done and "onerror=alert(1)>" not in done
    assert "&lt;script&gt;alert(&#x27;x&#x27;)" in done and "{title}" in done
    assert "2 pictures could not be read" in done


def test_report_writes_the_page_and_the_sheets(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = ["d", "-o", "out/page.html", "--sheets", "out", "--per-task", "2"]
    done = CliRunner().invoke(report, args)
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "w2v report: out/page.html, 1 tasks\n"
    made = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert made == ["page.html", "sheet_D2.png"]
    first = (tmp_path / "out" / "page.html").read_bytes()
    assert CliRunner().invoke(report, args).exit_code == 0
    assert (tmp_path / "out" / "page.html").read_bytes() == first


def test_report_says_how_many_pictures_are_missing(folder, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / clip.last).unlink()
    done = CliRunner().invoke(report, ["d/questions.jsonl", "-o", "page.html"])
    assert (done.exit_code, done.stderr) == (
        0,
        "w2v report: page.html, 1 tasks, 4 pictures could not be read\n",
    )


def test_report_refuses_a_folder_with_nothing_to_show(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    done = CliRunner().invoke(report, [str(tmp_path / "empty"), "-o", str(tmp_path / "p.html")])
    assert done.exit_code == 1 and "no questions, no clips and no summaries" in done.stderr
    assert not (tmp_path / "p.html").exists()
