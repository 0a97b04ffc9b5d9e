import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from w2v import torchvision_cpu

torchvision_cpu.install()
pytest.importorskip("torch")
for package in ("datasets", "torchvision", "transformers", "PIL"):
    pytest.importorskip(package)
sys.path.append(str(Path(__file__).parent))

import training_rows  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from PIL import Image  # noqa: E402

from w2v import images  # noqa: E402
from w2v.errors import BadOption, ForeignOutput  # noqa: E402
from w2v.records import Message, Run  # noqa: E402
from w2v.stream import Settings, Stage  # noqa: E402
from w2v.students import resolve, toys  # noqa: E402
from w2v.train import data, runs  # noqa: E402
from w2v.train.data import Row, Selection  # noqa: E402


@pytest.fixture(scope="module")
def learner(tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    return resolve.student(str(toys.build("qwen2.5-vl", folder)))


def stage(**settings):
    return Stage(name="sft", settings=Settings(quiet=True, **settings), out=sys.stderr)


ALL = Selection()


def read(learner, folder, questions, *, selection=ALL, max_length=8192, room=0):
    running = stage()
    file = training_rows.write(folder / "q.jsonl", questions)
    return data.read(running, str(file), learner, selection, max_length, room), running


def row(k=0, **more):
    """A row of which only the question matters."""
    made = dict(id=f"q{k}", task_type="A1", messages=(), images=("a.png",), answer="x")
    question = training_rows.Question(**{**made, **more})
    return Row(question=question, turns=[], frames=[], prompt=1, length=2)


# ── rows ──────────────────────────────────────────────────────────────────────────────────────


def test_a_taken_row_has_typed_turns_and_upright_rgb_pictures(learner, tmp_path):
    question = training_rows.question(tmp_path, 0)
    turned = Image.new("L", (84, 56), 9)
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    turned.save(tmp_path / question.images[1], exif=exif)
    rows, _ = read(learner, tmp_path, [question])
    taken = data.table(rows, [0.5])[0]
    assert taken["prompt"] == [
        {
            "role": "user",
            "content": [
                {"type": "image"},
                {"type": "image"},
                {"type": "text", "text": training_rows.TURN.replace("<image>", "")},
            ],
        }
    ]
    (answer,) = taken["completion"]
    assert answer == {
        "role": "assistant",
        "content": [{"type": "text", "text": "turn right 30 degrees"}],
    }
    assert [(p.mode, p.size) for p in taken["images"]] == [("RGB", (84, 56)), ("RGB", (56, 84))]
    assert taken["weight"] == 0.5 and taken["direction"] == "inverse"


def test_pictures_are_opened_when_a_row_is_taken_not_before(learner, tmp_path):
    rows, _ = read(learner, tmp_path, [training_rows.question(tmp_path, k) for k in range(2)])
    table = data.table(rows)
    for name in rows[1].question.images:
        Path(name).unlink()
    assert len(table[0]["images"]) == 2
    with pytest.raises(Exception, match="no such picture"):
        table[1]


def test_a_picture_that_many_questions_share_is_opened_once(learner, tmp_path, monkeypatch):
    question = training_rows.question(tmp_path, 0)
    rows, _ = read(learner, tmp_path, [replace(question, id=f"q{k}") for k in range(4)])
    opened, load = [], images.load
    monkeypatch.setattr(data.images, "load", lambda path: opened.append(path.name) or load(path))
    table = data.table(rows)
    shown = [table[k]["images"] for k in (0, 1, 2, 3)]
    assert opened == list(question.images)
    assert all(one.tobytes() == other.tobytes() for one, other in zip(*shown[:2], strict=True))


def test_only_the_pictures_opened_last_are_kept(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(
        data, "picture", lambda path: opened.append(path) or Image.new("RGB", (10, 10))
    )
    taken = data._Take(room=1000)  # two pictures of 400 bytes
    for path in ("a", "b", "a", "c", "a", "b"):
        taken._open(path)
    assert opened == ["a", "b", "c", "b"] and list(taken.kept) == ["a", "b"]
    monkeypatch.setattr(data, "picture", lambda path: Image.new("RGB", (100, 100)))
    assert taken._open("d").size == (100, 100) and taken.room == 1000 and not taken.kept


@given(st.lists(st.integers(1, 99), max_size=40), st.integers(1, 9), st.integers(0, 3))
def test_an_update_sees_the_rows_that_chance_gives_it_the_longest_first(lengths, window, epoch):
    def updates(sampler):
        order = list(sampler)
        return [order[k : k + window] for k in range(0, len(order), window)]

    sampler = data.InWindows(lengths, window, 7)
    sampler.set_epoch(epoch)
    found = updates(sampler)
    drawn = data.InWindows([0] * len(lengths), window, 7)  # nothing to sort by
    drawn.set_epoch(epoch)
    assert [set(part) for part in found] == [set(part) for part in updates(drawn)]
    assert sorted(k for part in found for k in part) == list(range(len(lengths)))
    for part in found:
        assert [lengths[k] for k in part] == sorted((lengths[k] for k in part), reverse=True)
    assert updates(sampler) == found


def test_every_epoch_and_every_seed_has_its_own_order():
    def order(seed, epoch):
        sampler = data.InWindows([1] * 20, 4, seed)
        sampler.set_epoch(epoch)
        return tuple(sampler)

    assert len({order(seed, epoch) for seed in range(3) for epoch in range(3)}) > 3
    assert order(0, 0) != order(0, 1) and order(0, 0) != order(1, 0)


def test_earlier_turns_and_system_words_stay_in_the_prompt(learner, tmp_path):
    question = training_rows.question(tmp_path, 0)
    ask, answer = question.messages
    system = Message(role="system", content="Be brief.")
    more = (system, ask, Message(role="assistant", content="Which?"), replace(ask, content="That."))
    rows, _ = read(learner, tmp_path, [replace(question, messages=(*more, answer))])
    taken = data.table(rows)[0]
    assert [turn["role"] for turn in taken["prompt"]] == ["system", "user", "assistant", "user"]
    assert len(taken["completion"]) == 1


def test_the_length_counts_every_picture(learner, tmp_path):
    small, large = (training_rows.question(tmp_path, k) for k in (0, 2))
    for name in large.images:  # 84 x 168 at most take 18 squares of 28, but 6 is the budget
        Image.new("RGB", (28 * 2, 28 * 1)).save(tmp_path / name)
    rows, _ = read(learner, tmp_path, [small, large])
    tokens = [
        learner.family.image_tokens(learner.processor, *size) for size in ((84, 56), (56, 28))
    ]
    said = [row.length - 2 * count for row, count in zip(rows, tokens, strict=True)]
    assert tokens[0] != tokens[1] and said[0] == said[1]


def test_room_for_a_response_counts_too(learner, tmp_path):
    questions = [training_rows.question(tmp_path, 1)]
    (found,), _ = read(learner, tmp_path, questions, room=64)
    fits = found.prompt + 64
    assert read(learner, tmp_path, questions, max_length=fits, room=64)[0]
    with pytest.raises(Exception, match="no question is left"):
        read(learner, tmp_path, questions, max_length=fits - 1, room=64)


def test_selections_are_counted(learner, tmp_path):
    questions = [training_rows.question(tmp_path, k) for k in range(16)]
    chosen = Selection(tasks=("A2",), sources=("real",))
    rows, running = read(learner, tmp_path, questions, selection=chosen)
    assert {(r.question.task_type, r.question.source) for r in rows} == {("A2", "real")}
    assert len(rows) == 4
    assert running.dropped == {"task not selected": 8, "source not selected": 4}


def test_world2vlm_s_own_rows_are_read(learner, tmp_path):
    question = training_rows.question(tmp_path, 0)
    line = {
        "task_type": "A2",
        "messages": [{"role": m.role, "content": m.content} for m in question.messages],
        "images": list(question.images),
    }
    (tmp_path / "theirs.jsonl").write_text(json.dumps(line) + "\n")
    (found,) = data.read(stage(), str(tmp_path / "theirs.jsonl"), learner, Selection(), 8192)
    assert found.question.answer == "turn right 30 degrees"


def test_what_tells_sets_of_rows_apart(learner, tmp_path):
    questions = [training_rows.question(tmp_path, k) for k in range(4)]
    rows, _ = read(learner, tmp_path, questions)
    again, _ = read(learner, tmp_path, questions)
    other, _ = read(learner, tmp_path, [replace(questions[0], weight=0.5), *questions[1:]])
    assert data.fingerprint(rows) == data.fingerprint(again) != data.fingerprint(other)
    assert data.fingerprint(rows) != data.fingerprint(rows[::-1])


# ── holding out ───────────────────────────────────────────────────────────────────────────────


def test_one_scene_in_a_hundred_is_held_out_whole():
    rows = [row(k, scene=f"s{k // 5}") for k in range(1000)]
    train, held = data.hold_out(rows, 0.01, 42, stage())
    assert len(held) == 10 and len(train) == 990
    assert not {r.question.scene for r in held} & {r.question.scene for r in train}
    assert data.hold_out(rows[::-1], 0.01, 42, stage())[1] == held[::-1]
    assert data.hold_out(rows, 0.01, 43, stage())[1] != held


def test_nothing_is_held_out_where_nothing_is_asked_or_there_is_one_scene():
    rows = [row(k, scene="s") for k in range(4)]
    assert data.hold_out(rows, 0.5, 0, stage()) == (rows, [])
    rows = [row(k, scene=f"s{k}") for k in range(4)]
    assert data.hold_out(rows, 0.0, 0, stage()) == (rows, [])


def test_a_split_that_was_made_before_is_kept():
    parts = ["train", "val", "test", "train"]
    rows = [row(k, scene=f"s{k}", meta={"split": part}) for k, part in enumerate(parts)]
    running = stage()
    train, held = data.hold_out(rows, 0.9, 0, running)
    assert (train, held) == ([rows[0], rows[3]], [rows[1]])
    assert running.dropped == {"split test": 1}


# ── coefficients ──────────────────────────────────────────────────────────────────────────────


def weighted(weights, directions):
    return [
        row(k, weight=w, direction=d)
        for k, (w, d) in enumerate(zip(weights, directions, strict=True))
    ]


def test_without_lambdas_every_question_counts_by_its_weight_alone():
    rows = weighted([1, 1, 2], ["inverse", "forward", ""])
    assert data.coefficients(rows, None, None) == [0.75, 0.75, 1.5]


def test_lambdas_weigh_means_of_directions_not_rows():
    rows = weighted([1, 1, 2, 5], ["inverse", "inverse", "inverse", "forward"])
    assert data.coefficients(rows, 0.5, 3) == [0.5, 0.5, 1.0, 12.0]
    assert data.coefficients(rows, 1, None) == data.coefficients(rows, 1, 1)


positive = st.floats(0.01, 10)


@given(st.lists(st.tuples(positive, positive, st.booleans()), min_size=2, max_size=12), positive)
def test_the_mean_over_rows_is_equation_4(items, factor):
    weights, losses, forward = zip(*items, strict=True)
    rows = weighted(weights, ["forward" if f else "inverse" for f in forward])
    found = data.coefficients(rows, factor, 2.0)
    mean = sum(c * loss for c, loss in zip(found, losses, strict=True)) / len(rows)
    wanted = 0.0
    for value, side in ((factor, False), (2.0, True)):
        mine = [(w, x) for w, x, f in items if f is side]
        total = sum(w for w, _ in mine)
        wanted += value * sum(w * x for w, x in mine) / total if mine else 0.0
    assert mean == pytest.approx(wanted)


def test_a_lambda_needs_directions():
    with pytest.raises(BadOption, match="q1: has no direction"):
        data.coefficients(weighted([1, 1], ["inverse", ""]), 1.0, 1.0)


def test_rows_of_a_lambda_of_0_leave_the_data():
    rows = weighted([1, 1, 1], ["inverse", "forward", ""])
    running = stage()
    assert data.weightless(rows, 0.0, None, running) == rows[1:]
    assert running.dropped == {"lambda of inverse is 0": 1}
    with pytest.raises(BadOption, match="counts anything"):
        data.weightless(rows[:1], 0.0, 1.0, stage())


# ── the folder of a run ───────────────────────────────────────────────────────────────────────


def test_a_folder_belongs_to_one_run(tmp_path):
    settings = {"seed": 1, "tasks": {"A1": 3}, "pair": (1, 2)}
    record = Run(
        id="r", method="sft", student="s", checkpoint="c", trained_on="q", settings={"seed": 1}
    )
    assert runs.claim(tmp_path / "run", settings) is None
    assert runs.claim(tmp_path / "run", settings) is None  # taken up again
    assert runs.claim(tmp_path / "run", settings | {"seed": 3}) is None  # nothing was learnt yet
    assert runs.claim(tmp_path / "run", settings) is None
    (tmp_path / "run" / "checkpoint-5").mkdir()
    with pytest.raises(ForeignOutput, match=r"seed 1 there, 2 here"):
        runs.claim(tmp_path / "run", settings | {"seed": 2})
    runs.finish(tmp_path / "run", settings, record)
    assert runs.claim(tmp_path / "run", settings) == record


def test_processes_that_start_together_claim_together(tmp_path, monkeypatch):
    runs.claim(tmp_path / "run", {"seed": 1})
    read, late = runs._read, [None]  # the other process writes between two looks
    monkeypatch.setattr(runs, "_read", lambda path: late.pop() if late else read(path))
    assert runs.claim(tmp_path / "run", {"seed": 1}) is None


def test_figures_of_steps_to_be_done_again_are_taken_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step":1,"loss":3}\n{"step":2,"loss":2}\n{"step":3,"loss":1}\n{"step":4,"lo')
    runs.trim(path, 2)
    assert path.read_text() == '{"step":1,"loss":3}\n{"step":2,"loss":2}\n'


def test_samples_bring_their_pictures(tmp_path):
    question = training_rows.question(tmp_path, 0)
    shown = tuple(str(tmp_path / name) for name in question.images)
    runs.save_samples(tmp_path, [replace(question, images=shown)])
    for name in shown:
        Path(name).unlink()
    (kept,) = runs.samples(tmp_path)
    assert kept.answer == question.answer
    assert [images.size(Path(name)) for name in kept.images] == [(84, 56)] * 2
