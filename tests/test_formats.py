"""Questions as other trainers' rows, and back."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v import formats
from w2v.commands.convert import convert
from w2v.errors import BadFile, BadLine, BadRecord, OutsideRoot
from w2v.formats import FORMATS
from w2v.records import Message, Question
from w2v.stream import dumps, loads

ASK = "<image><image>Which move was made?"
GOLD = "move forward 1.5 meters"
IMAGES = ("scenes/a/traj_f/samples-rgb/000.png", "scenes/a/traj_f/samples-rgb/004.png")
QUESTION = Question(
    id="q1",
    task_type="A1",
    messages=(Message(role="user", content=ASK), Message(role="assistant", content=GOLD)),
    images=IMAGES,
    answer=GOLD,
    direction="inverse",
    scene="a",
    weight=0.5,
    evidence={"from": [1.0, 2.0], "template": "w2v/A1"},
)
KEPT = (
    '{"id":"q1","direction":"inverse","scene":"a","weight":0.5,'
    '"evidence":{"from":[1.0,2.0],"template":"w2v/A1"}}'
)
USER, ASSISTANT = {"role": "user", "content": ASK}, {"role": "assistant", "content": GOLD}
PARTS = {
    "role": "user",
    "content": [
        {"type": "image"},
        {"type": "image"},
        {"type": "text", "text": "Which move was made?"},
    ],
}
ROWS = {
    "world2vlm": {"task_type": "A1", "messages": [USER, ASSISTANT], "images": [*IMAGES]},
    "ms-swift": {
        "task_type": "A1",
        "messages": [USER, ASSISTANT],
        "images": [*IMAGES],
        "w2v": KEPT,
    },
    "ms-swift-grpo": {
        "messages": [USER],
        "images": [*IMAGES],
        "solution": GOLD,
        "task_type": "A1",
        "w2v": KEPT,
    },
    "llama-factory": {
        "conversations": [{"from": "human", "value": ASK}, {"from": "gpt", "value": GOLD}],
        "images": [*IMAGES],
        "task_type": "A1",
        "w2v": KEPT,
    },
    "easyr1": {
        "prompt": ASK,
        "answer": '{"task_type": "A1", "answer": "move forward 1.5 meters"}',
        "images": [*IMAGES],
        "task_type": "A1",
        "w2v": KEPT,
    },
    "verl": {
        "data_source": "w2v/A1",
        "prompt": [USER],
        "images": [{"image": IMAGES[0]}, {"image": IMAGES[1]}],
        "ability": "spatial",
        "reward_model": {"style": "rule", "ground_truth": GOLD},
        "extra_info": {"id": "q1", "task_type": "A1", "w2v": KEPT},
    },
    "trl": {
        "prompt": [PARTS],
        "completion": [{"role": "assistant", "content": [{"type": "text", "text": GOLD}]}],
        "images": [*IMAGES],
        "task_type": "A1",
        "w2v": KEPT,
    },
    "trl-grpo": {
        "prompt": [PARTS],
        "images": [*IMAGES],
        "answer": GOLD,
        "task_type": "A1",
        "w2v": KEPT,
    },
}
KEEPING = sorted(name for name, made in FORMATS.items() if made.keeps)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_row_is_exactly_what_the_trainer_reads(name):
    assert FORMATS[name].write(QUESTION) == ROWS[name]


def test_every_format_has_an_exact_row():
    assert set(ROWS) == set(FORMATS)


# ── round trips ────────────────────────────────────────────────────────────────────────────────

TEXT = st.text(max_size=30).filter(lambda text: "<image>" not in text)
LINES = st.sampled_from(["A. one\nB. two", "A. one\nC. two", "A. <image>\nB. b", "x\r\nA. 1\nB. 2"])
CONTENT = LINES | st.lists(TEXT, min_size=1, max_size=4).map("<image>".join)
PLAIN_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def questions(draw):
    """Draw conversations with and without system, more turns, and an answer turn."""
    roles = ["system"] * draw(st.booleans()) + ["user", "assistant"] * draw(st.integers(0, 2))
    roles += ["user"] + ["assistant"] * draw(st.booleans())
    said = [Message(role=role, content=draw(CONTENT)) for role in roles]
    answer = draw(TEXT | st.sampled_from(["yes", "B", GOLD, "[1, 2, 3, 4]"]))
    if said[-1].role == "assistant" and draw(st.booleans()):
        said[-1] = Message(role="assistant", content=answer)
    tags = sum(m.content.count("<image>") for m in said)
    return Question(
        id=draw(TEXT),
        task_type=draw(st.sampled_from(["A1", "A3", "D1", "D2", "other", ""])),
        messages=tuple(said),
        images=tuple(draw(TEXT) for _ in range(tags)),
        answer=answer,
        form=draw(st.sampled_from(["plain", "choice", "sentence"])),
        options=tuple(draw(st.lists(TEXT, max_size=3))),
        scene=draw(TEXT),
        weight=draw(st.floats(0, 1)),
        evidence=draw(st.dictionaries(TEXT, PLAIN_JSON, max_size=3)),
        licences=tuple(draw(st.lists(TEXT, max_size=2))),
        meta=draw(st.dictionaries(TEXT, PLAIN_JSON, max_size=2)),
    )


@pytest.mark.parametrize("name", KEEPING)
@given(question=questions())
@settings(max_examples=40, deadline=None)
def test_what_we_write_reads_back_as_it_was(name, question):
    if name == "verl":  # a path that is written as a URL of a file comes back as a path
        question = replace(
            question, images=tuple(image.removeprefix("file://") for image in question.images)
        )
    try:
        row = FORMATS[name].write(question)
    except BadRecord:
        assert name == "easyr1" and [m.role for m in question.messages if m.role != "user"]
        return
    assert FORMATS[name].read(loads(dumps(row))) == question


@pytest.mark.parametrize("name", ["ms-swift", "llama-factory", "trl", "verl", "ms-swift-grpo"])
def test_system_and_earlier_turns_are_kept(name):
    told = (
        Message(role="system", content="Be brief."),
        Message(role="user", content="<image>What is this?"),
        Message(role="assistant", content="A room."),
        Message(role="user", content="<image>And now?"),
        Message(role="assistant", content="yes"),
    )
    question = replace(QUESTION, messages=told, answer="yes", task_type="D2")
    row = FORMATS[name].write(question)
    assert "messages" not in json.loads(row.get("w2v") or row["extra_info"]["w2v"])
    assert FORMATS[name].read(row).messages == told


def test_an_edited_row_wins_over_what_was_kept():
    row = FORMATS["ms-swift"].write(QUESTION)
    row["messages"][1]["content"] = "move backward 2 meters"
    read = FORMATS["ms-swift"].read(row)
    assert read.answer == "move backward 2 meters"
    assert (read.id, read.weight) == ("q1", 0.5)


def test_a_question_without_answer_turn_is_trained_on_its_answer():
    bare = replace(QUESTION, messages=QUESTION.messages[:1])
    row = FORMATS["ms-swift"].write(bare)
    assert row["messages"] == [USER, ASSISTANT]
    assert FORMATS["ms-swift"].read(row) == bare


def test_a_column_of_ours_is_text_so_that_arrow_needs_no_common_keys():
    for name in KEEPING:
        row = FORMATS[name].write(QUESTION)
        assert isinstance(row.get("w2v") or row["extra_info"]["w2v"], str)


# ── rows from elsewhere ────────────────────────────────────────────────────────────────────────


def test_a_world2vlm_row_becomes_a_question_of_its_scene():
    row = {
        "task_type": "D2",
        "messages": [
            {"role": "user", "content": "<image>Is the chair gone? A or B?"},
            {"role": "assistant", "content": "A"},
        ],
        "images": ["/data/v1/scenes/room_7/traj_turn_left_02/samples-rgb/000.png"],
    }
    read = FORMATS["world2vlm"].read(row)
    assert (read.task_type, read.answer, read.form) == ("D2", "A", "choice")
    assert (read.scene, read.clip) == ("room_7", "room_7/turn_left_02")
    assert read.bundle == "/data/v1/scenes/room_7/traj_turn_left_02"
    assert read.id == FORMATS["world2vlm"].read(dict(row)).id
    row["images"] = ["other.png"]
    assert FORMATS["world2vlm"].read(row).id != read.id


@pytest.mark.parametrize(
    ("task", "answer", "form"),
    [
        ("A1", "move forward 1.25 meters", "plain"),
        ("A3", "turn left 30 degrees; move left 2 meters", "plain"),
        ("D3", "2 steps | turn left 30 degrees; move left 2 meters", "sentence"),
        ("D1", "[1, 2, 30, 40]", "plain"),
        ("D1", "It is at [1, 2, 30, 40].", "sentence"),
        ("D4", "Yes", "plain"),
        ("D4", "The two boxes show the same chair.", "sentence"),
        ("D4", "B", "choice"),
        ("other", "B", "plain"),
    ],
)
def test_the_form_of_a_foreign_answer_is_seen(task, answer, form):
    row = {"task_type": task, "messages": [USER, {"role": "assistant", "content": answer}]}
    assert FORMATS["ms-swift"].read(row | {"images": ["a", "b"]}).form == form


def test_the_options_of_a_foreign_choice_are_read_from_the_question():
    asked = "<image>Is the chair gone?\nA. It remains visible\nB. It disappears from view\nSay one."
    row = {
        "task_type": "D2",
        "messages": [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": "B"},
        ],
        "images": ["a.png"],
    }
    read = FORMATS["world2vlm"].read(row)
    assert (read.form, read.options) == (
        "choice",
        ("It remains visible", "It disappears from view"),
    )
    row["messages"][0]["content"] = "<image>A. First\nC. Third"
    assert FORMATS["world2vlm"].read(row).options == ()


@pytest.mark.parametrize(
    ("name", "row"),
    [
        (
            "llama-factory",
            {
                "system": "Be brief.",
                "conversations": [
                    {"from": "human", "value": "<image>Left?"},
                    {"from": "gpt", "value": "yes"},
                ],
                "image": "a.png",
            },
        ),
        (
            "llama-factory",
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "<image>Left?"},
                    {"role": "assistant", "content": "yes"},
                ],
                "images": ["a.png"],
            },
        ),
        (
            "trl",
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {
                        "role": "user",
                        "content": [{"type": "image"}, {"type": "text", "text": "Left?"}],
                    },
                    {"role": "assistant", "content": [{"type": "text", "text": "yes"}]},
                ],
                "images": [{"path": "a.png", "bytes": None}],
            },
        ),
        (
            "ms-swift-grpo",
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "<image>Left?"},
                ],
                "images": ["a.png"],
                "answer": "yes",
            },
        ),
    ],
)
def test_rows_of_others_read_alike(name, row):
    read = FORMATS[name].read(row)
    assert [(m.role, m.content) for m in read.messages] == [
        ("system", "Be brief."),
        ("user", "<image>Left?"),
        ("assistant", "yes"),
    ]
    assert (read.images, read.answer, read.task_type) == (("a.png",), "yes", "")


def test_an_easyr1_answer_may_be_plain():
    row = {"prompt": "<image>Area?", "answer": "12", "images": ["a.png"]}
    assert FORMATS["easyr1"].read(row).answer == "12"


@pytest.mark.parametrize(
    ("name", "row", "what"),
    [
        ("ms-swift", {}, "row lacks 'messages'"),
        ("ms-swift", {"messages": "hi"}, "row.messages should be a list, got str"),
        ("ms-swift", {"messages": [3]}, "row.messages[0] should be an object, got int"),
        ("ms-swift", {"messages": [{"content": "x"}]}, "row.messages[0].role should be text"),
        (
            "ms-swift",
            {"messages": [{"role": "user", "content": 3}]},
            "row.messages[0].content should be a list, got int",
        ),
        ("ms-swift", {"messages": [USER], "images": []}, "row.messages should end with the assist"),
        (
            "ms-swift",
            {"messages": [USER, ASSISTANT], "images": ["a"]},
            "messages hold 2 <image> tags but images hold 1 paths",
        ),
        (
            "ms-swift",
            {"messages": [USER, ASSISTANT], "images": ["a", 5]},
            "row.images[1] should be text, got int",
        ),
        (
            "ms-swift",
            {"messages": [USER, ASSISTANT], "images": ["a", {"bytes": "x"}]},
            "row.images[1] is a picture inside the row",
        ),
        (
            "ms-swift",
            {"messages": [USER, ASSISTANT], "images": ["a", "b"], "w2v": "{"},
            "row.w2v should be an object written as JSON text",
        ),
        (
            "ms-swift",
            {"messages": [USER, ASSISTANT], "images": ["a", "b"], "w2v": '{"id":"x","colour":1}'},
            "question has no key 'colour'",
        ),
        ("easyr1", {"prompt": "x"}, "row lacks 'answer'"),
        ("verl", {"prompt": [USER]}, "row lacks 'reward_model'"),
        ("trl-grpo", {"prompt": [PARTS]}, "row lacks 'answer'"),
        (
            "trl",
            {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
            "row.messages[0].content[0] is neither text nor image",
        ),
    ],
)
def test_a_bad_row_is_refused_by_the_name_of_the_key(name, row, what):
    with pytest.raises(BadRecord) as error:
        FORMATS[name].read(row)
    assert error.value.what.startswith(what)


def test_what_a_trainer_would_skip_is_refused_when_written():
    with pytest.raises(BadRecord, match="2 <image> tags but images hold 1"):
        FORMATS["ms-swift"].write(replace(QUESTION, images=IMAGES[:1]))
    twice = (*QUESTION.messages[:1], *QUESTION.messages)
    with pytest.raises(BadRecord, match="alternation, got user, user, assistant"):
        FORMATS["llama-factory"].write(replace(QUESTION, messages=twice, images=IMAGES * 2))
    with pytest.raises(BadRecord, match="one turn of the user, got system, user"):
        told = (Message(role="system", content="Be brief."), *QUESTION.messages)
        FORMATS["easyr1"].write(replace(QUESTION, messages=told))
    with pytest.raises(BadRecord, match="no question"):
        FORMATS["trl"].write(replace(QUESTION, messages=(), images=()))


# ── paths ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def tree(tmp_path):
    """A run of World2VLM: pictures under scenes, rows beside it."""
    for name in IMAGES:
        picture = tmp_path / "run" / name
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(b"png")
    return tmp_path


@pytest.mark.parametrize(
    "written",
    [
        "{tree}/run/scenes/a/traj_f/samples-rgb/000.png",
        "./a/traj_f/samples-rgb/000.png",
        "scenes/a/traj_f/samples-rgb/000.png",
        "run/scenes/a/traj_f/samples-rgb/000.png",
        "/somebody/else/v3/scenes/a/traj_f/samples-rgb/000.png",
    ],
)
def test_pictures_of_world2vlm_are_found_however_they_are_written(tree, written):
    find = formats.finder(tree, tree / "run")
    assert find(written.format(tree=tree)) == "run/scenes/a/traj_f/samples-rgb/000.png"


def test_a_picture_outside_the_root_or_nowhere_is_refused(tree):
    find = formats.finder(tree / "run" / "scenes", tree)
    with pytest.raises(BadFile, match="b.png: no such picture"):
        find("b.png")
    (tree / "secret.png").write_bytes(b"x")
    with pytest.raises(OutsideRoot):
        find("../../secret.png")


def test_pictures_are_placed_relative_absolute_or_as_written(tree):
    name = f"run/{IMAGES[0]}"
    put = {how: formats.placer(how, tree, None, tree / "out") for how in ("relative", "absolute")}
    assert put["relative"](name) == f"../run/{IMAGES[0]}"
    assert put["absolute"](name) == str(tree / name)
    assert formats.placer("keep", tree, None, tree)("nowhere.png") == "nowhere.png"
    with pytest.raises(BadFile):
        put["absolute"]("nowhere.png")


# ── files and the command ──────────────────────────────────────────────────────────────────────


def test_rows_are_read_from_lines_and_from_an_array():
    lines = ['{"a": 1}\n', "\n", "[]\n", '{"b": 2}\n']
    read = list(formats.rows(lines, "x.jsonl"))
    assert [row for *_, row in read if isinstance(row, dict)] == [{"a": 1}, {"b": 2}]
    assert [row.what for *_, row in read if isinstance(row, BadLine)][0].startswith("x.jsonl:3:")
    array = list(formats.rows(["\n", "[\n", ' {"a": 1},\n', " 3\n", "]\n"], "x.json"))
    assert array[0] == (1, "", {"a": 1})
    assert array[1][2].what == "x.json:2: not an object"
    assert "x.json:1: not JSON" in list(formats.rows(["[1,"], "x.json"))[0][2].what
    assert list(formats.rows(["\n"], "x.json")) == []


@pytest.fixture
def run(tree, monkeypatch):
    monkeypatch.chdir(tree)

    def call(*args, stdin=""):
        done = CliRunner().invoke(convert, [str(a) for a in args], input=stdin)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    return call


def placed():
    return replace(QUESTION, images=tuple(f"run/{name}" for name in IMAGES))


@pytest.mark.parametrize("name", KEEPING)
def test_convert_writes_a_file_that_convert_reads_back(run, tree, name):
    (tree / "q.jsonl").write_text(dumps(placed().to_json()) + "\n")
    assert run("q.jsonl", "--to", name, "-o", "out/rows.jsonl")[:2] == (0, [])
    row = json.loads((tree / "out" / "rows.jsonl").read_text())
    first = row["images"][0]["image"] if name == "verl" else row["images"][0]
    assert first == (
        f"../run/{IMAGES[0]}" if FORMATS[name].finds else str(tree / "run" / IMAGES[0])
    )
    code, lines, _ = run("out/rows.jsonl", "--from", name)
    assert (code, [Question.from_json(line) for line in lines]) == (0, [placed()])


def test_convert_describes_its_file_to_llama_factory(run, tree):
    (tree / "q.jsonl").write_text(dumps(placed().to_json()) + "\n")
    run("q.jsonl", "--to", "llama-factory", "-o", "out/motion.jsonl")
    assert json.loads((tree / "out" / "dataset_info.json").read_text()) == {
        "motion": {
            "file_name": "motion.jsonl",
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", "images": "images"},
        }
    }
    *_, err = run("q.jsonl", "--to", "llama-factory", "-o", "out/more.jsonl")
    assert 'dataset_info.json: {"more":' in err
    assert "motion" in (tree / "out" / "dataset_info.json").read_text()


def test_convert_stops_at_a_bad_row_with_file_and_line_and_leaves_no_file(run, tree):
    good = dumps(FORMATS["ms-swift"].write(placed()))
    (tree / "rows.jsonl").write_text(good + '\n{"messages": 3}\n')
    code, lines, err = run("rows.jsonl", "--from", "ms-swift", "-o", "q.jsonl")
    assert (code, lines) == (1, [])
    assert "rows.jsonl:2: row.messages should be a list, got int" in err
    assert sorted(p.name for p in tree.iterdir()) == ["rows.jsonl", "run"]
    code, lines, err = run("rows.jsonl", "--from", "ms-swift", "--on-error", "skip")
    assert (code, [line["id"] for line in lines]) == (3, ["q1"])
    assert "1 FAILED (bad row 1)" in err


def test_convert_refuses_a_picture_that_is_not_there_unless_told_to_keep_paths(run):
    line = dumps(QUESTION.to_json())
    code, _, err = run("-", "--to", "verl", stdin=line)
    assert code == 1 and "question q1: scenes/a/traj_f/samples-rgb/000.png: no such file" in err
    code, rows, _ = run("-", "--to", "verl", "--images", "keep", stdin=line)
    assert (code, rows) == (0, [ROWS["verl"]])


@pytest.mark.parametrize("args", [(), ("--to", "trl", "--from", "trl"), ("--to", "alpaca")])
def test_convert_wants_one_direction_and_a_known_format(run, args):
    code, lines, err = run("-", *args)
    assert (code, lines) == (2, []) and "Error" in err


def test_formats_are_light():
    source = Path(formats.__file__).read_text()
    assert not {"numpy", "PIL", "torch", "datasets"} & set(source.replace(",", " ").split())
