"""Every family from a random model to a merged checkpoint: sft, grpo, eval, merge, all offline."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from w2v import torchvision_cpu

torchvision_cpu.install()
torch = pytest.importorskip("torch")
for package in ("trl", "peft", "torchvision", "datasets"):
    pytest.importorskip(package)
sys.path.append(str(Path(__file__).parent))

import training_rows  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers.conversion_mapping import get_model_conversion_mapping  # noqa: E402
from transformers.integrations.deepspeed import (  # noqa: E402
    _apply_weight_conversions_to_state_dict,
)

from w2v.stream import Settings, Stage  # noqa: E402
from w2v.students import resolve, toys  # noqa: E402
from w2v.train import merge, running, runs  # noqa: E402
from w2v.train.watching import Watcher  # noqa: E402

TASKS = {"A2", "D4"}
SFT = dict(learning_rate="2e-2", max_steps=30, rows_per_step=8, lora_r=8, save_steps=30)
GRPO = dict(
    learning_rate="1e-3",
    max_steps=3,
    rows_per_step=16,
    per_device_train_batch_size=16,
    num_generations=4,
    max_completion_length=8,
)


def sets(values):
    return [f"--set={key}={value}" for key, value in values.items()] + ["--set=logging_steps=1"]


def logits(folder, question):
    student = resolve.student(str(folder))
    return merge._logits(student.load().model, [merge._encode(student, question)])


@pytest.mark.parametrize("name", toys.TOYS)
def test_a_family_learns_refines_answers_and_merges(name, w2v, tmp_path):
    base = toys.build(name, tmp_path / "base")
    rows = [training_rows.question(tmp_path, k) for k in range(32)]
    file = training_rows.write(tmp_path / "q.jsonl", rows)
    learnt, refined, merged = (tmp_path / folder for folder in ("sft", "grpo", "merged"))

    code, _, err = w2v("sft", file, "--student", base, "-o", learnt, *sets(SFT))
    assert code == 0, err
    loss = training_rows.metrics(learnt, "loss")
    assert len(loss) == 30 and sum(loss[-5:]) < 0.95 * sum(loss[:5])
    trained = load_file(learnt / "adapter_model.safetensors")
    assert trained and not any("vision" in key or "visual" in key for key in trained)

    code, lines, err = w2v("grpo", file, "--student", learnt, "-o", refined, *sets(GRPO))
    assert code == 0, err
    assert len(training_rows.metrics(refined, "kl")) == 3
    for task in TASKS:
        for figure in ("reward", "kl", "entropy"):
            assert training_rows.metrics(refined, f"tasks/{task}/{figure}"), (task, figure)

    code, answers, err = w2v(
        "eval", file, "--student", refined, "-o", tmp_path / "eval", "--no-blind"
    )
    assert code == 0, err
    assert [answer["question"] for answer in answers] == [row.id for row in rows]
    assert set(json.loads((tmp_path / "eval" / "metrics.json").read_text())["groups"]) >= TASKS

    code, lines, err = w2v("merge", refined, "-o", merged)
    assert code == 0, err
    assert lines[0]["metrics"]["logits_apart"] <= 1e-4
    question = runs.samples(refined)[0]
    both, alone = logits(refined, question), logits(merged, question)
    assert merge.distance(both, alone) <= 1e-4 < merge.distance(logits(base, question), alone)


@pytest.mark.parametrize("name", toys.TOYS)
def test_all_weights_are_taken_up_where_a_run_stopped(name, w2v, tmp_path, monkeypatch):
    base = toys.build(name, tmp_path / "base")
    rows = [training_rows.question(tmp_path, k) for k in range(16)]
    file = training_rows.write(tmp_path / "q.jsonl", rows)
    steps = dict(learning_rate="1e-2", max_steps=4, rows_per_step=8, save_steps=10)
    asked = ["sft", file, "--student", base, "--tune", "full", *sets(steps), "-o"]
    code, _, err = w2v(*asked, tmp_path / "whole")
    assert code == 0, err

    def stop(self, args, state, control, **named):
        if state.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Watcher, "on_step_begin", stop, raising=False)
    assert w2v(*asked, tmp_path / "cut")[0] == 75
    monkeypatch.undo()
    code, _, err = w2v(*asked, tmp_path / "cut")
    assert code == 0 and "going on from checkpoint-" in err
    one, other = (load_file(tmp_path / run / "model.safetensors") for run in ("whole", "cut"))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_the_best_weights_are_kept_where_that_was_asked_for(w2v, tmp_path):
    base = toys.build("qwen2.5-vl", tmp_path / "base")
    rows = [training_rows.question(tmp_path, k) for k in range(16)]
    file = training_rows.write(tmp_path / "q.jsonl", rows)
    steps = dict(max_steps=4, rows_per_step=8, holdout=0.3, eval_strategy="steps", eval_steps=1)
    steps |= dict(save_steps=1, load_best_model_at_end="true", learning_rate="3")  # it only harms
    asked = ["sft", file, "--student", base, "--tune", "full", *sets(steps)]
    code, _, err = w2v(*asked, "-o", tmp_path / "run")
    assert code == 0, err
    held = training_rows.metrics(tmp_path / "run", "eval_loss")
    best = held.index(min(held)) + 1
    assert best < 4
    one = load_file(tmp_path / "run" / f"checkpoint-{best}" / "model.safetensors")
    other = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(one[key], other[key]) for key in one)


# ── weights in parts over several processes ───────────────────────────────────────────────────


def loaded(name, folder):
    """A family's model as training loads it, and the folder it came from."""
    base = toys.build(name, folder / "base")
    plan = running.Plan(method="sft", questions="-", student=str(base), output=folder / "run")
    config = running.configure(plan)
    stage = Stage(name="sft", settings=Settings(quiet=True), out=sys.stderr)
    return running.load(plan, running.learner(plan), config, stage)[0].model, base


@pytest.mark.parametrize("name", toys.TOYS)
def test_a_model_names_no_layer_that_it_lacks(name, tmp_path):
    model, _ = loaded(name, tmp_path)
    there = {type(module).__name__ for module in model.modules()}
    named = set(model._no_split_modules)
    assert named <= there and any("Decoder" in layer for layer in named)


@pytest.mark.parametrize("name", toys.TOYS)
def test_weights_keep_their_names_as_zero_3_loads_them(name, tmp_path):
    model, base = loaded(name, tmp_path)
    before = load_file(base / "model.safetensors")
    renamings = get_model_conversion_mapping(model)
    for _ in _apply_weight_conversions_to_state_dict(model, dict(before), renamings):
        pass
    model._weight_conversions = renamings  # all of them, as transformers leaves them there
    running._keep_names(model)
    model.save_pretrained(tmp_path / "saved")
    assert load_file(tmp_path / "saved" / "model.safetensors").keys() == before.keys()


def test_buffers_that_fsdp_cannot_hand_out_are_named_before_it_tries(w2v, tmp_path, monkeypatch):
    base = toys.build("gemma4", tmp_path / "base")
    file = training_rows.write(tmp_path / "q.jsonl", [training_rows.question(tmp_path, 0)])
    for key in ("ACCELERATE_USE_FSDP", "FSDP_CPU_RAM_EFFICIENT_LOADING"):
        monkeypatch.setenv(key, "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    code, _, err = w2v("sft", file, "--student", base, "-o", tmp_path / "run", "--holdout", "0")
    assert code == 2
    assert "a buffer" in err and "--fsdp_cpu_ram_efficient_loading false" in err
