import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v import stream
from w2v.errors import BadLine
from w2v.records import Scene

SCENE = Scene(id="a", image="a.png").to_json()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(JSON, FLOATS)
def test_lines_hold_the_same_with_and_without_the_fast_library(value, number):
    row = {"value": value, "number": number}
    scene = Scene(id="a", image="a.png", meta=row)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "orjson", None)
        plain, line = stream.dumps(row), stream.line(scene)
    assert stream.loads(stream.dumps(row)) == json.loads(plain) == row
    assert stream.loads(stream.line(scene)) == json.loads(line) == scene.to_json()
    if number == 0 or 1e-4 <= abs(number) < 1e16:  # beyond, exponents are written differently
        assert (stream.dumps(row), stream.line(scene)) == (plain, line)


@pytest.mark.parametrize("fast", [True, False])
def test_a_record_with_a_number_that_json_lacks_is_refused(fast, monkeypatch):
    if not fast:
        monkeypatch.setattr(stream, "orjson", None)
    for wrong in (Scene(id="a", image="", meta={"x": [None, math.nan]}),):
        with pytest.raises(ValueError):
            stream.line(wrong)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_json_lacks_are_refused(number):
    with pytest.raises(ValueError):
        stream.dumps({"deep": [number]})


def test_windows_newlines_blank_lines_and_a_mark_at_the_start_are_read(tmp_path):
    file = tmp_path / "scenes.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + (json.dumps(SCENE) + "\r\n\r\n").encode() * 2)
    found = list(stream.rows(str(file)))
    assert [(n, value) for _, n, _, value in found] == [(1, SCENE), (3, SCENE)]


@pytest.mark.parametrize(
    "line", ['{"kind": "scene", ', "[1]", '"text"', "\udcff{}", '{"a": NaN}', "\0", "{}{}"]
)
def test_a_broken_line_is_named_and_the_next_one_read(line):
    found = list(stream.raw(io.StringIO(f"{line}\n{json.dumps(SCENE)}\n"), "x.jsonl"))
    (number, _, wrong), (_, _, right) = found
    assert isinstance(wrong, BadLine) and wrong.what.startswith("x.jsonl:1: ")
    assert (number, right) == (1, SCENE)


@given(st.integers(0, 40), st.integers(1, 7), st.none() | st.integers(0, 40))
def test_shards_part_the_work_without_loss(size, parts, limit):
    shards = [list(stream.take(range(size), (k, parts), limit)) for k in range(parts)]
    assert sorted(sum(shards, [])) == list(range(size))[:limit]


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(TypeError):
        stream.write_atomic(path, 3)
    assert path.read_text() == "old"
    stream.write_atomic(path, "new")
    assert (path.read_text(), [p.name for p in tmp_path.iterdir()]) == ("new", ["a.json"])
