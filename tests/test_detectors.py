"""The oracle, the filters, the tracker: what they say of pictures whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from w2v import plugins
from w2v.detectors import INDOOR, filters, options, weights
from w2v.detectors.filters import Filters
from w2v.errors import BadFile, BadOption
from w2v.kinds import Thing
from w2v.plugins import parse_spec
from w2v.records import Box, Intrinsics

CAMERA = Intrinsics(width=200, height=100, fx=100, fy=100, cx=100, cy=50)


def box(xyxy, label="chair", score=0.9, frame=0, **rest):
    return Box(frame=frame, track=None, label=label, xyxy=xyxy, score=score, **rest)


# The oracle


CHAIR, LAMP = Thing(id=1, label="chair"), Thing(id=300, label="lamp")


def footage(masks, things=(CHAIR, LAMP), visible=None):
    return SimpleNamespace(
        clip=SimpleNamespace(id="s/forward"), masks=masks, things=things, visible=visible
    )


def masks():
    """Two frames: the chair in both, the lamp in the second as three pixels only."""
    made = np.zeros((2, 20, 30), dtype=np.uint16)
    made[0, 4:10, 5:12] = 1
    made[1, 5:11, 0:6] = 1
    made[1, 8, 5] = 0  # a hole does not change the extent
    made[1, 19, 27:30] = 300
    return made


def test_the_oracle_gives_tight_boxes_tracks_and_shares():
    shares = np.array([[1.0, 0.0], [0.4, 0.05]])
    assert parse_spec("detector", "oracle").make().detect(footage(masks(), visible=shares)) == [
        Box(frame=0, track=1, label="chair", xyxy=(5.0, 4.0, 12.0, 10.0), visible=1.0),
        Box(frame=0, track=300, label="lamp", xyxy=None, visible=0.0),
        Box(frame=1, track=1, label="chair", xyxy=(0.0, 5.0, 6.0, 11.0), visible=0.4),
        Box(frame=1, track=300, label="lamp", xyxy=None, visible=0.05),
    ]


def test_the_oracle_boxes_an_object_from_the_least_number_of_pixels():
    few = parse_spec("detector", "oracle:min_pixels=3").make().detect(footage(masks()))
    assert [b.xyxy for b in few if b.track == 300] == [None, (27.0, 19.0, 30.0, 20.0)]
    many = parse_spec("detector", "oracle:min_pixels=4").make().detect(footage(masks()))
    assert [b.xyxy for b in many if b.track == 300] == [None, None]
    # No pixel is a share of 0; a few pixels are a share that is not known.
    assert [b.visible for b in many if b.track == 300] == [0.0, None]


@pytest.mark.parametrize("lacking", [footage(None), footage(masks(), things=())])
def test_the_oracle_refuses_clips_of_other_teachers(lacking):
    with pytest.raises(BadFile, match=r"clip s/forward has no masks") as caught:
        parse_spec("detector", "oracle").make().detect(lacking)
    assert "zero-shot" in caught.value.hint


# The filters


def test_filters_mark_and_never_drop():
    good = box((50, 30, 100, 60))
    bad = {
        "score": box((50, 30, 100, 60), label="sofa", score=0.29),
        "small": box((50, 30, 60, 49), label="cup"),
        "large": box((5, 5, 195, 70), label="bed"),
        "left": box((1.9, 30, 60, 60), label="a"),
        "top": box((50, 0.9, 100, 60), label="b"),
        "right": box((150, 30, 198.1, 60), label="c"),
        "bottom": box((50, 30, 100, 99.1), label="d"),
        "weaker": box((52, 30, 100, 60), score=0.8),
    }
    made = filters.apply([good, *bad.values()], CAMERA)
    assert made == [good, *(replace(b, kept=False) for b in bad.values())]


def test_filters_keep_what_lies_on_the_limits():
    limits = [
        box((50, 30, 60, 50), label="small"),  # 1 % of the area
        box((2, 1, 198, 61), label="large", score=0.3),  # 1 % from three borders, 58.8 %
        box((2, 39, 102, 99), label="low"),
    ]
    assert filters.apply(limits, CAMERA) == limits


def test_filters_can_be_changed_and_leave_out_of_sight_alone():
    gone = Box(frame=1, track=1, label="chair", xyxy=None, visible=0.0)
    near = box((0, 0, 100, 60))
    assert filters.apply([near, gone], CAMERA) == [replace(near, kept=False), gone]
    assert filters.apply([near, gone], CAMERA, Filters(margin=0)) == [near, gone]


def test_what_was_ruled_out_before_stays_out():
    ruled = box((50, 30, 100, 60), kept=False)
    assert filters.apply([ruled], CAMERA) == [ruled]


def test_suppression_is_by_label_and_frame_and_keeps_the_order():
    weak, strong = box((50, 30, 100, 60), score=0.5), box((50, 32, 100, 60), score=0.6)
    elsewhere = box((50, 30, 100, 60), label="sofa", score=0.4)
    later = box((50, 30, 100, 60), frame=1, score=0.4)
    assert filters.suppress([weak, strong, elsewhere, later], 0.5) == [strong, elsewhere, later]
    assert filters.suppress([weak, strong], 0.95) == [weak, strong]
    twin = replace(weak)
    assert filters.suppress([weak, twin], 0.5)[0] is weak


corner = st.integers(0, 100)


@given(
    st.lists(
        st.builds(
            lambda x, y, w, h, s, label: box((x, y, x + w, y + h), label, s / 10),
            *(corner, corner, corner, corner, st.integers(0, 10), st.sampled_from("ab")),
        ),
        max_size=8,
    )
)
def test_filters_lose_no_box_and_keep_none_twice(boxes):
    made = filters.apply(boxes, CAMERA)
    assert [replace(b, kept=True) for b in made] == boxes
    assert filters.apply(made, CAMERA) == made


# The options


def test_labels_are_read_as_given_or_from_a_file(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text("chair\n\n potted  plant \nchair\n", encoding="utf-8")
    assert options.vocabulary([str(file)]) == ("chair", "potted plant")
    assert options.vocabulary(["sofa", "chair"]) == ("sofa", "chair")
    with pytest.raises(BadFile, match="cannot be read as labels"):
        options.vocabulary([str(tmp_path / "none.txt")])
    for bad in ([], [" "], ["a. b"]):
        with pytest.raises(BadOption):
            options.vocabulary(bad)


def test_the_indoor_labels_are_valid():
    assert options.vocabulary(INDOOR.split("+")) == tuple(INDOOR.split("+"))


def test_a_tracker_must_exist():
    assert [options.tracker(name) for name in options.TRACKERS] == ["botsort", "bytetrack"]
    with pytest.raises(BadOption, match="no tracker is called 'sort'"):
        options.tracker("sort")


def test_weights_are_told_apart(tmp_path):
    big = np.zeros(3 * weights.MIB, dtype=np.uint8)
    (tmp_path / "m.bin").write_bytes(big.tobytes())
    first = weights.digest(tmp_path)
    assert weights.digest(tmp_path) == first and len(first) == 16
    big[-1] = 1
    (tmp_path / "m.bin").write_bytes(big.tobytes())
    second = weights.digest(tmp_path)
    (tmp_path / "m.bin").rename(tmp_path / "n.bin")
    assert len({first, second, weights.digest(tmp_path)}) == 3
    assert weights.digest(tmp_path / "n.bin") not in {first, second}


def test_licences_of_detectors_are_told():
    told = {name: offer.licence for name, offer in plugins.offers("detector").items()}
    assert told["yolo"] == "AGPL-3.0"
    assert {"oracle", "zero-shot", "yolo"} <= set(told)


# The tracker


def film(shifts, objects):
    """Return frames of a textured wall panned by ``shifts`` pixels, and the boxes of the objects.

    Each object is (left, top, width, height, label); it moves with the wall.
    """
    rng = np.random.default_rng(0)
    wall = sum(
        np.asarray(
            Image.fromarray(rng.integers(0, 128, (240 // n, 1200 // n, 3), dtype=np.uint8)).resize(
                (1200, 240), Image.Resampling.BICUBIC
            )
        )
        for n in (60, 12)
    )
    frames, found = [], []
    for index, shift in enumerate(shifts):
        frames.append(wall[:, shift : shift + 320])
        found.append(
            [
                box((max(0, x - shift), y, min(320, x + w - shift), y + h), label, 0.9, index)
                for x, y, w, h, label in objects
                if x - shift < 316 and x + w - shift > 4
            ]
        )
    return frames, found


@pytest.fixture
def tracking():
    pytest.importorskip("supervision")
    pytest.importorskip("trackers")
    from w2v.detectors import tracking

    return tracking


PAIR = ((60, 60, 60, 80, "chair"), (150, 60, 60, 80, "chair"))


@pytest.mark.parametrize("method", options.TRACKERS)
def test_ids_do_not_follow_the_order_of_scores(tracking, method):
    frames, found = film(range(0, 40, 5), PAIR)
    for index, (left, right) in enumerate(found):
        scores = (0.9, 0.4) if index % 2 else (0.35, 0.8)
        pair = [replace(left, score=scores[0]), replace(right, score=scores[1])]
        found[index] = sorted(pair, key=lambda b: -b.score)
    made = tracking.follow(frames, found, 0.3, method)
    assert len(made) == 16
    for index in range(8):
        left, right = sorted((b for b in made if b.frame == index), key=lambda b: b.xyxy)
        assert left.track != right.track
        assert (left.track, right.track) == (
            min(made[:2], key=lambda b: b.xyxy).track,
            max(made[:2], key=lambda b: b.xyxy).track,
        )


def test_steps_wider_than_an_object_are_followed_with_the_camera(tracking):
    frames, found = film(
        range(0, 241, 60), ((260, 60, 50, 80, "chair"), (380, 60, 50, 80, "chair"))
    )
    made = tracking.follow(frames, found, 0.3, "botsort")
    # The second comes to where the first one was; what is new has a track when seen twice.
    assert [(b.frame, b.xyxy[0] + 60 * b.frame, b.track) for b in made] == [
        (0, 260, 1),
        (1, 260, 1),
        (2, 260, 1),
        (2, 380, None),
        (3, 260, 1),
        (3, 380, 2),
        (4, 260, 1),
        (4, 380, 2),
    ]


@pytest.mark.parametrize("method", options.TRACKERS)
def test_one_leaves_and_another_enters(tracking, method):
    frames, found = film(range(0, 300, 15), ((40, 60, 60, 80, "chair"), (400, 60, 60, 80, "chair")))
    made = tracking.follow(frames, found, 0.3, method)
    first, last = made[0], made[-1]
    assert (first.frame, last.frame) == (0, 19)
    assert None not in (first.track, last.track) and first.track != last.track
    assert {b.track for b in made if b.frame < 6} == {first.track}
    assert {b.track for b in made if b.frame > 10} == {last.track}


@pytest.mark.parametrize("method", options.TRACKERS)
def test_a_label_never_takes_over_the_track_of_another(tracking, method):
    frames, found = film([0, 4, 8, 12, 16, 20], PAIR[:1])
    found[3:] = [[replace(b, label="lamp") for b in boxes] for boxes in found[3:]]
    made = tracking.follow(frames, found, 0.3, method)
    chair = {b.track for b in made if b.label == "chair"}
    lamp = {b.track for b in made if b.label == "lamp"} - {None}
    assert len(chair) == len(lamp) == 1 and chair != lamp


@pytest.mark.parametrize("method", options.TRACKERS)
def test_an_unsure_detection_continues_a_track_and_starts_none(tracking, method):
    frames, found = film([0, 4, 8, 12, 16], PAIR)
    left = [replace(f[0], score=0.9 if k in (0, 1, 4) else 0.2) for k, f in enumerate(found)]
    right = [replace(f[1], score=0.2) for f in found]
    made = tracking.follow(frames, list(map(list, zip(left, right, strict=True))), 0.3, method)
    assert [(b.frame, b.track, b.score) for b in made] == [
        (k, 1, b.score) for k, b in enumerate(left)
    ]


@pytest.mark.parametrize("method", options.TRACKERS)
def test_what_is_seen_once_has_no_track(tracking, method):
    frames, found = film([0, 4, 8], PAIR)
    found[:2] = [boxes[:1] for boxes in found[:2]]
    made = tracking.follow(frames, found, 0.3, method)
    assert [b.track for b in made] == [1, 1, 1, None]


@pytest.mark.parametrize("method", options.TRACKERS)
def test_frames_without_anything_are_no_trouble(tracking, method):
    frames, found = film([0, 4, 8, 12], PAIR[:1])
    assert tracking.follow(frames, [[], [], [], []], 0.3, method) == []
    found[0] = []
    assert [b.track for b in tracking.follow(frames, found, 0.3, method)] == [None, 1, 1]
