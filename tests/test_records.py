import json

import pytest

from w2v.errors import BadRecord
from w2v.records import Answer, Clip, Question, Run, Scene
from w2v.testing import example_clips, example_question

RECORDS = [
    Scene(id="a", image="a.png", pose=((1.0, 0.0, 0.0, 0.0),) * 4, meta={"free": [1, None]}),
    example_clips()[4],
    Answer(id="x", question="q", student="s", benchmark="b", response="", score=None),
    Run(id="r", method="sft", student="s", checkpoint="c", trained_on="q.jsonl"),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.kind)
def test_record_survives_a_line(record):
    line = json.loads(json.dumps(record.to_json()))
    assert type(record).from_json(line) == record
    assert list(line)[:2] == ["kind", "id"] and list(line)[-1] == "meta"


def test_question_survives_a_line(tmp_path):
    question = example_question(tmp_path)
    assert Question.from_json(json.loads(json.dumps(question.to_json()))) == question
    assert question.gold.prompt == "How did the camera move?"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "clip"}, "expected a scene, got clip"),
        ({"imgae": "b.png"}, "scene has no key 'imgae'"),
        ({"image": 3}, "scene.image should be str, got 3"),
        ({"depth": {"path": "d.png"}}, "scene.depth lacks 'meters_per_unit'"),
        ({"depth": []}, "scene.depth should be an object, got []"),
        ({"pose": [[1, 0, 0, 0]]}, "scene.pose should have 4 items, got 1"),
        (
            {"depth": {"path": "d.png", "meters_per_unit": float("nan")}},
            "scene.depth.meters_per_unit should be a finite number, got nan",
        ),
        (
            {"depth": {"path": "d.png", "meters_per_unit": 10**400}},
            "scene.depth.meters_per_unit should be a finite number, got inf",
        ),
    ],
)
def test_a_broken_record_names_the_key(change, message):
    line = Scene(id="a", image="a.png").to_json() | change
    with pytest.raises(BadRecord) as error:
        Scene.from_json(line)
    assert error.value.what == message


def test_whole_numbers_are_read_as_floats():
    line = example_clips()[0].to_json()
    line["moves"][0]["amount"] = 2
    amount = Clip.from_json(line).moves[0].amount
    assert amount == 2.0 and isinstance(amount, float)
