"""Every family from a random model to a merged checkpoint: sft, grpo, eval, merge, all offline."""

import json
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

from w2v.students import resolve, toys  # noqa: E402
from w2v.train import merge, runs  # noqa: E402

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
