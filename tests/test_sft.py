import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from w2v import torchvision_cpu

torchvision_cpu.install()
Image = pytest.importorskip("PIL.Image")
torch = pytest.importorskip("torch")
for package in ("trl", "peft", "torchvision", "datasets"):
    pytest.importorskip(package)
sys.path.append(str(Path(__file__).parent))

import training_rows  # noqa: E402
from click.testing import CliRunner  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import TrainerCallback  # noqa: E402

from w2v.cli import cli  # noqa: E402
from w2v.stream import Settings, Stage  # noqa: E402
from w2v.students import resolve, tiny, toys  # noqa: E402
from w2v.train import checkpoints, configs, data, running, runs, sft  # noqa: E402
from w2v.train.watching import Watcher  # noqa: E402

ROOT = Path(__file__).parent.parent
FAST = {"learning_rate": "3e-3", "lora_dropout": "0", "logging_steps": "1", "save_steps": "100"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Models, and 48 questions about pairs of pictures in 12 scenes."""
    home = tmp_path_factory.mktemp("training")
    toys.build("qwen2.5-vl", home / "qwen")
    pictures = home / "rows"
    pictures.mkdir()
    rows = [training_rows.question(pictures, k) for k in range(48)]
    training_rows.write(pictures / "q.jsonl", rows)
    return home


LONG = dict(max_steps=12, rows_per_step=8, save_steps=2, lora_dropout="0.3", lora_r=4)


def sets(values):
    return [f"--set={key}={value}" for key, value in {**FAST, **values}.items()]


@pytest.fixture(scope="module")
def whole(home, tmp_path_factory):
    """The folder of a run of ``LONG``, two epochs and a bit, that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    given = ["sft", home / "rows" / "q.jsonl", "--student", home / "qwen", "-o", folder]
    done = CliRunner().invoke(cli, [str(word) for word in given] + sets(LONG))
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def train(w2v, home, tmp_path):
    """Run ``w2v sft`` into a folder of this test; settings win over those of ``FAST``."""

    def run(name="run", *args, file=None, student=None, **settings):
        file = file or home / "rows" / "q.jsonl"
        student = student or home / "qwen"
        return w2v("sft", file, "--student", student, "-o", tmp_path / name, *args, *sets(settings))

    return run


def weights(folder):
    name = "adapter_model" if (folder / "adapter_config.json").exists() else "model"
    return load_file(folder / f"{name}.safetensors")


def same(one, other):
    one, other = weights(one), weights(other)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# ── learning ──────────────────────────────────────────────────────────────────────────────────


def test_thirty_steps_lower_the_loss_and_the_run_says_what_it_is(train, tmp_path, home):
    code, lines, err = train("run", "--tune", "full", "--root", home, max_steps=30, rows_per_step=8)
    assert code == 0, err
    steps = [line for line in err.splitlines() if "step " in line]
    assert steps and all("loss" in line for line in steps), err
    loss = training_rows.metrics(tmp_path / "run", "loss")
    assert len(loss) == 30
    assert sum(loss[-5:]) < 0.5 * sum(loss[:5])
    record = lines[0]
    assert (record["kind"], record["method"]) == ("run", "sft")
    assert record["checkpoint"] == str(tmp_path / "run")
    assert record["settings"]["tasks"] == {"A2": 24, "D4": 24}
    assert record["meta"]["teachers"] == ["sim"] and record["meta"]["licences"] == ["MIT"]
    assert 0 < record["metrics"]["loss_inverse"] and 0 < record["metrics"]["eval_loss"]
    card = (tmp_path / "run" / "README.md").read_text()
    for told in ("MIT", "sim", "qwen", record["settings"]["questions"], "A2 22, D4 22"):
        assert told in card
    told = json.loads((tmp_path / "run" / "w2v.json").read_text())
    assert told["method"] == "sft" and told["image_tokens"] == 6
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {"model.safetensors", "optimizer.pt"} <= {path.name for path in files}
    # A group may read weights wherever it may read figures.
    assert len({path.stat().st_mode for path in files}) == 1
    # The run's folder is a student, and it has learnt something.
    code, lines, _ = train("again", student=tmp_path / "run", max_steps=1)
    assert code == 0
    assert training_rows.metrics(tmp_path / "again", "loss")[0] < 0.5 * loss[0]


def test_full_tuning_leaves_the_eyes_alone_unless_told(train, tmp_path, home):
    before = weights(home / "qwen")
    for name, args in (("shut", ()), ("open", ("--train-vision",))):
        assert train(name, "--tune", "full", *args, max_steps=2, rows_per_step=4)[0] == 0
        after = weights(tmp_path / name)
        changed = {key for key in before if not torch.equal(before[key], after[key])}
        assert any("visual" in key for key in changed) == (name == "open")
        assert any("visual" not in key for key in changed)


def test_halved_weights_are_trained_whole_and_written_halved(train, tmp_path, home):
    from transformers import AutoModelForImageTextToText

    half = tmp_path / "half"
    shutil.copytree(home / "qwen", half)
    model = AutoModelForImageTextToText.from_pretrained(half, dtype=torch.bfloat16)
    model.save_pretrained(half)
    assert train("run", "--tune", "full", student=half, max_steps=1, rows_per_step=4)[0] == 0
    kept = weights(tmp_path / "run" / "checkpoint-1")
    assert {value.dtype for value in kept.values()} == {torch.float32}
    assert {value.dtype for value in weights(tmp_path / "run").values()} == {torch.bfloat16}
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "run", dtype="auto")
    assert again.dtype == torch.bfloat16


def test_arithmetic_is_halved_on_a_cpu_if_asked_for(train, tmp_path):
    settings = dict(max_steps=6, rows_per_step=8)
    assert train("whole", "--tune", "full", **settings)[0] == 0
    code, lines, err = train("halved", "--tune", "full", bf16="true", **settings)
    assert code == 0, err
    assert lines[0]["settings"]["bf16"] is True
    one, other = (training_rows.metrics(tmp_path / name, "loss") for name in ("whole", "halved"))
    assert one != other and one == pytest.approx(other, rel=0.02)
    kept = weights(tmp_path / "halved" / "checkpoint-6")
    assert {value.dtype for value in kept.values()} == {torch.float32}


def test_four_bit_weights_need_their_package(train, no_weights, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    code, _, err = train("run", "--tune", "qlora")
    assert code == 6 and "bitsandbytes is not installed" in err and "w2v[qlora]" in err
    assert not (tmp_path / "run").exists()


def test_an_adapter_of_four_bit_weights_is_trained_whole(train, tmp_path):
    pytest.importorskip("bitsandbytes")
    # bitsandbytes packs 64 numbers together
    tiny.build(tmp_path / "wide", width=256, layers=1, vision_width=128, vision_layers=1)
    settings = dict(max_steps=10, rows_per_step=8, holdout=0, learning_rate="5e-3")
    code, _, err = train("run", "--tune", "qlora", student=tmp_path / "wide", **settings)
    assert code == 0, err
    loss = training_rows.metrics(tmp_path / "run", "loss")
    assert sum(loss[-3:]) < sum(loss[:3])
    assert {value.dtype for value in weights(tmp_path / "run").values()} == {torch.float32}


def test_what_trl_halves_is_made_whole_again():
    model = torch.nn.Linear(2, 2, dtype=torch.bfloat16)
    model.bias.requires_grad_(False)
    made = SimpleNamespace(model=model, is_deepspeed_enabled=False, is_fsdp_enabled=False)
    running.keep_whole(made)
    assert (model.weight.dtype, model.bias.dtype) == (torch.float32, torch.bfloat16)


# ── weights of directions and questions ───────────────────────────────────────────────────────


def test_an_adapter_finds_its_base_where_both_were_moved(w2v, home, tmp_path, monkeypatch):
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(home / "qwen", old / "qwen")
    monkeypatch.chdir(old)
    asked = ["sft", home / "rows" / "q.jsonl", "--student", "qwen", "-o", "run"]
    code, _, err = w2v(*asked, *sets(dict(max_steps=1, lora_r=4)))
    assert code == 0, err
    assert "base_model:" not in (old / "run" / "README.md").read_text()  # that is a hub id
    old.rename(new)
    monkeypatch.chdir(tmp_path)
    for folder in ("new/run", "new/run/checkpoint-1"):
        student = resolve.student(folder)
        assert student.base == "new/qwen"
        assert student.load().model.peft_config
    shutil.rmtree(new / "qwen")
    code, _, err = w2v("eval", home / "rows" / "q.jsonl", "--student", "new/run", "-o", "answers")
    assert code == 1 and "its base, ../qwen, is not there" in err and "base=PATH" in err


def test_lambda_0_is_training_on_the_other_direction_alone(train, tmp_path, home):
    rows = [training_rows.question(home / "rows", k) for k in range(48)]
    forward = [row for row in rows if row.direction == "forward"]
    file = training_rows.write(home / "rows" / "forward.jsonl", forward)
    steps = dict(max_steps=3, rows_per_step=4)
    assert train("lambda", "--lambda-inv", 0, "--tune", "full", **steps)[0] == 0
    assert train("alone", "--lambda-fwd", 1, "--tune", "full", file=file, **steps)[0] == 0
    assert train("chosen", "--direction", "forward", "--tune", "full", **steps)[0] == 0
    assert same(tmp_path / "lambda", tmp_path / "alone")
    assert same(tmp_path / "lambda", tmp_path / "chosen")


def test_weight_0_is_training_without_the_row(train, tmp_path, home):
    rows = [training_rows.question(home / "rows", k) for k in range(48)]
    silent = [replace(row, weight=0.0) if k % 3 == 0 else row for k, row in enumerate(rows)]
    one = training_rows.write(home / "rows" / "silent.jsonl", silent)
    other = training_rows.write(
        home / "rows" / "without.jsonl", [row for k, row in enumerate(rows) if k % 3]
    )
    code, _, err = train("silent", "--tune", "full", file=one, max_steps=3)
    assert code == 0 and "16 dropped (weight 0 16)" in err
    assert train("without", "--tune", "full", file=other, max_steps=3)[0] == 0
    assert same(tmp_path / "silent", tmp_path / "without")


def stage():
    return Stage(name="sft", settings=Settings(quiet=True), out=sys.stderr)


def trainer(home, tmp_path, rows, weights, **sets):
    plan = running.Plan(
        method="sft",
        questions="q.jsonl",
        student=str(home / "qwen"),
        output=tmp_path / "bare",
        tune="full",
        sets=tuple(f"{key}={value}" for key, value in {**FAST, **sets}.items()),
        holdout=0.0,
    )
    config = running.configure(plan)
    table = data.table(rows, weights)
    config.trainer.max_grad_norm = 0.0  # gradients are compared as they are
    made = sft.make(plan, running.learner(plan), config, table, None, stage())
    made.take_over({})
    return made


def read(home, questions):
    plan = running.Plan(
        method="sft", questions="", student=str(home / "qwen"), output=Path("unused")
    )
    file = training_rows.write(home / "rows" / "part.jsonl", questions)
    return data.read(stage(), str(file), running.learner(plan), data.Selection(), 8192)


class Catch(TrainerCallback):
    """Keeps what one update's gradients are, before anything is clipped or stepped."""

    def on_pre_optimizer_step(self, args, state, control, model=None, **named):
        learning = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        self.gradients = {n: p.grad.clone() for n, p in learning if p.grad is not None}


def row_gradients(made, row):
    """Return the gradient of one row's mean loss over its answer, by transformers' own loss."""
    batch = sft.Collator(made.processing_class)([data.table([row])[0]])
    labels = batch.pop("labels")
    batch = {k: v for k, v in batch.items() if k not in (sft.WEIGHTS, sft.GROUPS)}
    made.model.zero_grad()
    logits = made.model(**batch).logits[0, :-1]
    torch.nn.functional.cross_entropy(logits, labels[0, 1:], ignore_index=-100).backward()
    learning = [(n, p) for n, p in made.model.named_parameters() if p.requires_grad]
    found = {n: p.grad.clone() for n, p in learning if p.grad is not None}
    made.model.zero_grad()
    return found


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_an_update_is_equation_4_however_it_is_cut_into_batches(batch, home, tmp_path):
    asked = [training_rows.question(home / "rows", k) for k in (0, 1, 2, 3, 5, 7)]
    asked = [replace(q, weight=w) for q, w in zip(asked, (1, 0.5, 3, 1, 2, 0.25), strict=True)]
    rows = read(home, asked)
    steps = -(-len(rows) // batch)
    made = trainer(
        home,
        tmp_path,
        rows,
        data.coefficients(rows, 0.3, 2.0),
        max_steps=1,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=steps,
    )
    single = [row_gradients(made, row) for row in rows]
    watch = Catch()
    made.add_callback(watch)
    made.train()
    for name, found in watch.gradients.items():
        wanted = torch.zeros_like(found)
        for direction, factor in (("inverse", 0.3), ("forward", 2.0)):
            mine = [k for k, q in enumerate(asked) if q.direction == direction]
            total = sum(asked[k].weight for k in mine)
            wanted += factor * sum(asked[k].weight * single[k][name] for k in mine) / total
        assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-6), name


def test_a_row_of_coefficient_0_leaves_no_trace_in_a_gradient(home, tmp_path):
    rows = read(home, [training_rows.question(home / "rows", k) for k in range(4)])
    settings = dict(max_steps=1, per_device_train_batch_size=4, gradient_accumulation_steps=1)
    made = trainer(home, tmp_path, rows, [4.0, 0.0, 0.0, 0.0], **settings)
    wanted = row_gradients(made, rows[0])
    watch = Catch()
    made.add_callback(watch)
    made.train()
    assert watch.gradients.keys() == wanted.keys()
    for name, found in watch.gradients.items():
        assert torch.allclose(found, wanted[name], rtol=1e-3, atol=1e-7), name


def test_only_answers_go_through_the_last_layer(home, tmp_path, monkeypatch):
    from trl.trainer import utils

    rows = read(home, [training_rows.question(home / "rows", k) for k in range(4)])
    made = trainer(home, tmp_path, rows, [1.0] * 4, max_steps=1, per_device_train_batch_size=4)
    batch = made.data_collator([made.train_dataset[k] for k in range(4)])
    scored, real = [], utils._ChunkedLogProbFunction

    class Spy:
        @staticmethod
        def apply(hidden, *rest):
            scored.append(len(hidden))
            return real.apply(hidden, *rest)

    monkeypatch.setattr(utils, "_ChunkedLogProbFunction", Spy)
    labels = int((batch["labels"] != -100).sum())
    made.compute_loss(made.model, batch)
    assert scored == [labels] and 0 < labels < batch["input_ids"].numel() // 2


def test_rows_of_an_update_are_batched_by_length_unless_told_otherwise(home, tmp_path):
    rows = read(home, [training_rows.question(home / "rows", k) for k in range(16)])

    def order(**sets):
        settings = dict(per_device_train_batch_size=2, gradient_accumulation_steps=4, **sets)
        return list(trainer(home, tmp_path, rows, [1.0] * 16, **settings)._get_train_sampler())

    lengths = [rows[k].length for k in order()]
    assert lengths == sorted(lengths[:8], reverse=True) + sorted(lengths[8:], reverse=True)
    assert sorted(lengths, reverse=True) != lengths != [row.length for row in rows]
    assert order(train_sampling_strategy="sequential") == list(range(16))


def test_the_loss_is_on_the_answer_and_its_end_alone(home):
    rows = read(home, [training_rows.question(home / "rows", 1)])
    learner = running.learner(
        running.Plan(method="sft", questions="", student=str(home / "qwen"), output=Path("unused"))
    )
    batch = sft.Collator(learner.processor)([data.table(rows)[0]])
    labels = batch["labels"][0]
    learnt = learner.processor.tokenizer.decode(labels[labels != -100])
    assert learnt == "no<|im_end|>\n"
    assert batch["input_ids"].shape[1] == rows[0].length


# ── stopping and going on ─────────────────────────────────────────────────────────────────────


def test_a_killed_run_ends_in_the_same_weights(train, whole, home, tmp_path):
    given = ["sft", home / "rows" / "q.jsonl", "--student", home / "qwen", "-o", tmp_path / "cut"]
    process = subprocess.Popen(
        [sys.executable, "-m", "w2v", *map(str, given), *sets(LONG)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wanted = tmp_path / "cut" / f"checkpoint-{random.choice([2, 4, 6, 8, 10])}"
    while not wanted.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.2))
    process.kill()
    process.wait()
    assert wanted.exists()
    code, lines, err = train("cut", **LONG)
    assert code == 0 and "going on from checkpoint-" in err
    assert same(whole, tmp_path / "cut")
    steps = training_rows.metrics(tmp_path / "cut", "loss")
    assert steps == pytest.approx(training_rows.metrics(whole, "loss"), abs=1e-5)


@pytest.mark.parametrize("number", checkpoints.SIGNALS)
def test_a_signal_saves_and_the_same_command_goes_on(number, train, whole, tmp_path, monkeypatch):
    step, move = random.randint(1, 10), Watcher.on_step_end

    def on_step_end(self, args, state, control, **named):
        if state.global_step == step:
            os.kill(os.getpid(), number)
        return move(self, args, state, control, **named)

    monkeypatch.setattr(Watcher, "on_step_end", on_step_end)
    settings = LONG | {"save_steps": 500}
    code, lines, err = train("run", **settings)
    monkeypatch.undo()
    assert (code, lines) == (75, [])
    assert "run the same command again" in err
    last, torn = checkpoints.latest(tmp_path / "run")
    assert checkpoints.step_of(last) == step + 1 and not torn
    code, lines, err = train("run", **settings)
    assert code == 0 and f"going on from {last.name}" in err
    assert same(whole, tmp_path / "run")
    # A finished run is not trained again.
    again = train("run", **settings)
    assert again[:2] == (0, lines) and "finished before" in again[2]


def test_a_signal_that_is_passed_on_is_one_and_a_later_one_leaves_at_once(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    stopper = checkpoints.Stopper()
    for now[0] in (100.0, 100.1, 109.0):
        stopper._hear(signal.SIGTERM, None)
    assert stopper.asked
    now[0] = 120.0
    with pytest.raises(SystemExit) as left:
        stopper._hear(signal.SIGTERM, None)
    assert left.value.code == 75


def test_a_process_whose_launcher_is_gone_saves_and_stops(train, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    parents = iter([7, 7, 7])  # as told at the start and after two steps
    monkeypatch.setattr(checkpoints.os, "getppid", lambda: next(parents, 1))
    code, lines, err = train("run", max_steps=6, rows_per_step=4)
    assert (code, lines) == (75, []) and "stopped after step 3, saved" in err
    assert [p.name for p in checkpoints.all_of(tmp_path / "run")] == ["checkpoint-3"]


def test_two_at_once_are_not_let_into_one_folder(train, tmp_path):
    with runs.alone(tmp_path / "run"):
        code, lines, err = train("run", max_steps=1, rows_per_step=4)
    assert (code, lines) == (1, []) and "another process is training there" in err
    assert train("run", max_steps=1, rows_per_step=4)[0] == 0


def test_a_checkpoint_cut_in_half_is_not_used(train, tmp_path):
    settings = LONG | {"max_steps": 6}
    assert train("run", **settings)[0] == 0
    folder = tmp_path / "run"
    before = weights(folder)
    optimizer = folder / "checkpoint-6" / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[: optimizer.stat().st_size // 2])
    (folder / "checkpoint-9").mkdir()  # a name alone
    state = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(state | {"record": None}))
    (folder / "adapter_model.safetensors").unlink()
    code, _, err = train("run", **settings)
    assert code == 0, err
    for told in ("checkpoint-9 is not whole", "checkpoint-6 is not whole", "from checkpoint-4"):
        assert told in err
    after = weights(folder)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert {p.name for p in checkpoints.all_of(folder)} == {"checkpoint-4", "checkpoint-6"}
    # Where only the end is missing, it is made up for.
    (folder / "run.json").write_text(json.dumps(state | {"record": None}))
    (folder / "adapter_config.json").unlink()
    code, _, err = train("run", **settings)
    assert code == 0 and "from checkpoint-6" in err
    after = weights(folder)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_checkpoint_that_failed_halfway_leaves_none(train, tmp_path, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(checkpoints, "sign", full)
    code, lines, err = train("run", max_steps=2, rows_per_step=4, save_steps=1)
    assert (code, lines) == (1, [])
    assert "No space left on device" in err and "run the same command again" in err
    assert checkpoints.all_of(tmp_path / "run") == []


@pytest.mark.parametrize(("tune", "kilobytes"), [("full", 500), ("lora", 100)])
def test_a_full_disk_is_said_and_the_run_goes_on_later(tune, kilobytes, train, tmp_path):
    resource = pytest.importorskip("resource")
    settings = dict(max_steps=2, rows_per_step=4, save_steps=1, lora_r=8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, before[1]))
    try:
        code, lines, err = train("run", "--tune", tune, **settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (code, lines) == (1, [])
    assert "could not be written" in err and "run the same command again" in err
    assert checkpoints.all_of(tmp_path / "run") == []
    assert train("run", "--tune", tune, **settings)[0] == 0


def test_a_file_system_that_knows_no_rights_ends_no_run(tmp_path, monkeypatch):
    def refuse(self, mode):
        raise PermissionError("Operation not permitted")

    (tmp_path / "staged").mkdir()
    (tmp_path / "staged" / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(Path, "chmod", refuse)
    checkpoints.place(tmp_path / "staged", tmp_path / "final")
    assert (tmp_path / "final" / "model.safetensors").read_bytes() == b"weights"


def test_a_folder_of_another_run_is_refused(train, tmp_path):
    assert train("run", max_steps=1, rows_per_step=4)[0] == 0
    code, lines, err = train("run", max_steps=1, rows_per_step=4, learning_rate="1e-3")
    assert (code, lines) == (1, [])
    assert "holds a run with other settings (learning_rate 0.003 there, 0.001 here)" in err
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "thesis.tex").write_text("")
    assert "not a run of w2v" in train("else", max_steps=1)[2]


def test_a_run_that_failed_at_once_leaves_the_folder_to_other_settings(train, home, monkeypatch):
    def burst(self, *given, **named):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with monkeypatch.context() as patch:
        patch.setattr(sft.WeightedTrainer, "compute_loss", burst)
        assert train("run", max_steps=1, rows_per_step=8)[0] == 1
    # What the advice was: half the batch, twice the accumulation.
    more = dict(per_device_train_batch_size=4, gradient_accumulation_steps=2)
    assert train("run", max_steps=1, rows_per_step=8, **more)[0] == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_cut_in_half_ends_the_run_in_a_line(workers, train, home, tmp_path):
    row = training_rows.question(tmp_path, 5)
    shown = [Image.open(tmp_path / name).resize((280, 280)) for name in row.images]
    for name, picture in zip(("a.jpg", "b.jpg"), shown, strict=True):
        picture.save(tmp_path / name)
    whole = (tmp_path / "b.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) // 2])
    file = training_rows.write(tmp_path / "q.jsonl", [replace(row, images=("a.jpg", "b.jpg"))])
    code, lines, err = train(file=file, max_steps=1, dataloader_num_workers=workers)
    assert (code, lines) == (1, [])
    (told,) = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert "b.jpg: not a readable picture" in told and "Traceback" not in err
    assert err.splitlines()[-1].startswith("  hint: w2v validate finds such rows")


# ── what is wrong is said before weights are read ─────────────────────────────────────────────


@pytest.fixture
def no_weights(monkeypatch):
    """Fail if any weights are read."""
    from w2v.students.hf import HFStudent

    def load(self, **named):
        raise AssertionError("weights were read")

    monkeypatch.setattr(HFStudent, "load", load)


BAD = {
    "image missing": (dict(images=("none.png", "none.png")), "none.png: no such file"),
    "wrong image count": (dict(images=("0-0.png",)), "2 <image> tags, 1 images"),
    "empty answer": (dict(answer=" "), "the answer is empty"),
    "unknown task": (dict(task_type="A9"), "no task is called 'A9'"),
    "bad weight": (dict(weight=-1.0), "weight -1.0 is below 0"),
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_rows_end_the_run_or_are_listed(reason, train, home, tmp_path, no_weights):
    more, told = BAD[reason]
    rows = [training_rows.question(home / "rows", k) for k in range(8)]
    file = training_rows.write(home / "rows" / "bad.jsonl", [replace(rows[0], **more), *rows[1:]])
    code, lines, err = train(file=file)
    assert (code, lines) == (1, []) and "q0: " in err and told in err
    code, _, err = train("skipped", "--on-error", "skip", "--dry-run", file=file)
    assert code == 3 and f"1 FAILED ({reason} 1)" in err
    assert not (tmp_path / "skipped").exists()


def test_a_row_that_is_too_long_is_dropped_whole(train, home, no_weights):
    code, _, err = train("run", "--dry-run", "--max-length", 45)
    assert code == 0 and "24 dropped (longer than 45 tokens 24)" in err
    code, _, err = train("run", "--dry-run", "--max-length", 10)
    assert code == 1 and "no question is left" in err and "longer than 10 tokens 48" in err


def test_settings_are_trl_s_own(train, no_weights):
    assert "did you mean 'learning_rate'?" in train(learning_rte=1)[2]
    code, _, err = train(learning_rate="fast")
    assert code == 2 and "--set: learning_rate" in err and "fast" in err
    code, _, err = train(output_dir="x")
    assert code == 2 and "use -o" in err
    assert train("run", "--recipe", "paper")[0] == 2
    code, _, err = train("run", "--tune", "full", lr_scheduler_type="zigzag")
    assert code == 2 and "zigzag" in err


def test_the_world2vlm_recipe_is_the_paper_s():
    config = configs.build("sft", "world2vlm", (), output="unused", tune="lora")
    made, lora = config.trainer, config.lora
    assert (lora.lora_r, lora.lora_alpha, lora.lora_dropout) == (256, 512, 0.05)
    assert (made.learning_rate, made.weight_decay, made.warmup_steps) == (1e-5, 0.1, 0.05)
    assert (made.lr_scheduler_type, made.seed, config.own["holdout"]) == ("cosine", 42, 0.01)
    assert made.per_device_train_batch_size * made.gradient_accumulation_steps == 128
    assert "adamw" in made.optim


def test_the_world2vlm_recipe_writes_boxes_on_the_grid_and_records_it(train, home, tmp_path):
    student = tmp_path / "qwen"  # as it comes from the hub: nobody has stored anything with it
    shutil.copytree(home / "qwen", student, ignore=shutil.ignore_patterns("w2v.json"))

    def boxes(typed, recipe="world2vlm"):
        plan = running.Plan(
            method="sft", questions="", student=str(typed), output=Path("unused"), recipe=recipe
        )
        return running.learner(plan).family.boxes

    assert boxes(student) == boxes(f"qwen2.5-vl:path={student}") == "grid"
    assert boxes(student, "default") == boxes(f"{student}:boxes=pixels") == "pixels"
    sets = dict(max_steps=1, rows_per_step=2, lora_r=4)
    for name, typed in (("grid", student), ("pixels", f"{student}:boxes=pixels")):
        code, lines, err = train(name, "--recipe", "world2vlm", student=typed, **sets)
        assert code == 0, err
        assert lines[0]["settings"]["student"]["boxes"] == name
        assert json.loads((tmp_path / name / "w2v.json").read_text())["boxes"] == name
        # What it was trained on stays, whatever the next recipe says.
        assert boxes(tmp_path / name) == boxes(tmp_path / name, "default") == name


@pytest.mark.parametrize(
    ("processes", "sets", "batch"),
    [
        (1, (), (8, 16)),
        (8, (), (8, 2)),
        (64, (), (2, 1)),
        (2, ("per_device_train_batch_size=4",), (4, 16)),
    ],
)
def test_an_update_sees_as_many_rows_on_any_number_of_processes(
    processes, sets, batch, monkeypatch
):
    monkeypatch.setattr(configs, "processes", lambda: processes)
    made = configs.build("sft", "world2vlm", sets, output="unused", tune="lora").trainer
    assert (made.per_device_train_batch_size, made.gradient_accumulation_steps) == batch


def test_several_processes_refuse_stdin(w2v, monkeypatch, home):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = w2v("sft", "-", "--student", home / "qwen", "-o", "run")
    assert code == 2 and "cannot share stdin" in err


def test_a_tracker_that_is_not_installed_is_named(train, monkeypatch, no_weights):
    monkeypatch.setitem(sys.modules, "trackio", None)
    code, _, err = train("run", "--report-to", "trackio")
    assert code == 6 and "trackio is not installed" in err


def test_a_student_that_only_answers_is_refused(train):
    code, _, err = train(student="openai:base_url=http://localhost:1/v1,model=m")
    assert code == 2 and "cannot be trained" in err


def test_running_out_of_memory_is_advice(home, tmp_path, train, monkeypatch):
    def burst(self, *given, **named):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(sft.WeightedTrainer, "compute_loss", burst)
    code, _, err = train(max_steps=1, rows_per_step=8)
    assert code == 1 and "out of memory" in err
    assert "--set per_device_train_batch_size=4 --set gradient_accumulation_steps=2" in err
    assert "image_tokens" in err and "--tune qlora" in err


@pytest.mark.parametrize("path", sorted((ROOT / "docs/recipes/accelerate").glob("*.yaml")), ids=str)
def test_accelerate_reads_the_launch_configurations(path):
    from accelerate.commands.config import load_config_from_file

    config = load_config_from_file(str(path))
    assert config.mixed_precision == "bf16" and config.num_processes in (1, 8)
    assert f"--config_file {path.name} -m w2v sft" in path.read_text()


# ── several processes ─────────────────────────────────────────────────────────────────────────


def in_two(program, home, out, *args, env=None, **settings):
    """Train in two processes; ``program`` is what torchrun starts."""
    given = ["sft", home / "rows" / "q.jsonl", "--student", home / "qwen", "-o", out, *args]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        + [str(word) for word in (*program, *given)]
        + sets(settings),
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | (env or {}),
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1  # one process writes
    return done.stderr


def test_two_processes_are_one_with_twice_the_accumulation(train, home, tmp_path):
    settings = dict(max_steps=4, per_device_train_batch_size=2, lora_r=4)
    assert train("one", gradient_accumulation_steps=4, **settings)[0] == 0
    settings["gradient_accumulation_steps"] = 2
    err = in_two(["-m", "w2v"], home, tmp_path / "two", **settings)
    assert "2 x 2 x 2 an update" in err  # there are two
    assert (tmp_path / "two" / "checkpoint-4" / "rng_state_1.pth").exists()
    for key in ("loss", "loss_inverse", "loss_forward", "grad_norm"):
        one = training_rows.metrics(tmp_path / "one", key)
        assert training_rows.metrics(tmp_path / "two", key) == pytest.approx(one, rel=1e-4)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(one[key], two[key], rtol=1e-2, atol=1e-5) for key in one)


IN_PARTS = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
}
"""What ``accelerate launch --config_file fsdp2.yaml`` tells its processes."""


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_weights_in_parts_learn_what_whole_ones_do_and_go_on(tune, train, home, tmp_path):
    settings = dict(max_steps=4, per_device_train_batch_size=2, lora_r=4, save_steps=2)
    code, _, err = train("whole", "--tune", tune, gradient_accumulation_steps=4, **settings)
    assert code == 0, err
    settings["gradient_accumulation_steps"] = 2
    parts, cut = tmp_path / "parts", tmp_path / "cut"
    asked = dict(env=IN_PARTS, **settings)
    in_two([ROOT / "tests" / "sharded.py"], home, parts, "--tune", tune, **asked)
    assert (parts / "checkpoint-2" / "pytorch_model_fsdp.bin").exists()  # they were in parts
    one, two = weights(tmp_path / "whole"), weights(parts)
    assert one.keys() <= two.keys()  # whole ones leave out a tied head
    assert all(torch.allclose(one[key], two[key], rtol=1e-2, atol=1e-5) for key in one)

    shutil.copytree(parts / "checkpoint-2", cut / "checkpoint-2")  # as if killed before step 4
    state = json.loads((parts / "run.json").read_text()) | {"record": None}
    (cut / "run.json").write_text(json.dumps(state))
    err = in_two([ROOT / "tests" / "sharded.py"], home, cut, "--tune", tune, **asked)
    assert "going on from checkpoint-2" in err
    assert same(parts, cut)
