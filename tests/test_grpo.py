import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
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

from w2v import rewards  # noqa: E402
from w2v.errors import BadOption  # noqa: E402
from w2v.kinds import Grade  # noqa: E402
from w2v.students import families, resolve, tiny, toys  # noqa: E402
from w2v.students.compilers import compiler  # noqa: E402
from w2v.train import configs, grpo  # noqa: E402

ROOT = Path(__file__).parent.parent
LEARN = {
    "learning_rate": "3e-3",
    "max_steps": "40",
    "rows_per_step": "8",
    "logging_steps": "20",
    "save_steps": "100",
    "lr_scheduler_type": "constant",
}
REFINE = {
    "learning_rate": "1e-4",
    "max_steps": "3",
    "rows_per_step": "16",
    "per_device_train_batch_size": "16",
    "num_generations": "4",
    "max_completion_length": "8",
    "logging_steps": "1",
    "save_steps": "100",
}


def sets(values):
    return [f"--set={key}={value}" for key, value in values.items()]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Questions about pairs of pictures, and students that have half learnt to answer them."""
    from click.testing import CliRunner

    from w2v.cli import cli

    home = tmp_path_factory.mktemp("refining")
    toys.build("qwen2.5-vl", home / "base")
    rows = [training_rows.question(home, k) for k in range(32)]
    file = training_rows.write(home / "q.jsonl", rows)
    for tune in ("full", "lora"):
        given = ["sft", file, "--student", home / "base", "-o", home / tune, "--tune", tune]
        done = CliRunner().invoke(cli, [str(word) for word in given] + sets(LEARN))
        assert done.exit_code == 0, done.output
    return home


@pytest.fixture
def refine(w2v, home, tmp_path):
    """Run ``w2v grpo`` into a folder of this test; settings win over those of ``REFINE``."""

    def run(name="run", *args, file=None, student="full", **settings):
        file = file or home / "q.jsonl"
        given = ["grpo", file, "--student", home / student, "-o", tmp_path / name, *args]
        return w2v(*given, *sets({**REFINE, **settings}))

    return run


def rollouts(folder):
    return [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]


# ── refining ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("student", "tune"), [("full", "full"), ("lora", "lora"), ("full", "lora")]
)
def test_three_steps_have_finite_kl_and_rewards_of_each_task(student, tune, refine, tmp_path, home):
    code, lines, err = refine("run", "--tune", tune, student=student)
    assert code == 0, err
    folder = tmp_path / "run"
    for key in ("kl", "entropy", "reward", "frac_reward_zero_std", "completions/mean_length"):
        assert len(training_rows.metrics(folder, key)) == 3, key
    figures = lines[0]["metrics"]
    for task in ("A2", "D4"):
        assert 0 <= figures[f"tasks/{task}/reward"] <= 1
        assert 0 <= figures[f"tasks/{task}/silent"] <= 1
        assert 1 <= figures[f"tasks/{task}/length"] <= 8
        assert figures[f"tasks/{task}/kl"] >= 0 and figures[f"tasks/{task}/entropy"] > 0
        assert f"robust/{task}/format" in figures
    assert training_rows.metrics(folder, "kl")[0] == pytest.approx(0, abs=1e-6)
    said = rollouts(folder)
    assert {row["step"] for row in said} == {1, 2, 3}
    assert all(Path(image).exists() for row in said for image in row["images"])
    mean = sum(row["grades"]["robust"]["score"] for row in said if row["step"] == 1) / 16
    assert mean == pytest.approx(training_rows.metrics(folder, "reward")[0], abs=1e-6)
    assert (lines[0]["method"], lines[0]["settings"]["rewards"]) == ("grpo", ["robust"])
    assert not (folder / "ref").exists()


def test_a_stopped_run_goes_on_to_the_same_weights(refine, tmp_path, monkeypatch):
    settings = dict(save_steps=1, max_steps=3)
    assert refine("whole", student="lora", **settings)[0] == 0

    def stop(self, args, state, control, **named):
        if state.global_step == 2:
            self.asked = True
        return asked(self, args, state, control, **named)

    asked = grpo.running.Stopper.on_step_end
    monkeypatch.setattr(grpo.running.Stopper, "on_step_end", stop)
    assert refine("cut", student="lora", **settings)[0] == 75
    monkeypatch.undo()
    code, _, err = refine("cut", student="lora", **settings)
    assert code == 0 and "going on from checkpoint-2" in err
    one = load_file(tmp_path / "whole" / "adapter_model.safetensors")
    other = load_file(tmp_path / "cut" / "adapter_model.safetensors")
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert rollouts(tmp_path / "cut") == rollouts(tmp_path / "whole")


def test_held_out_scenes_are_graded_too(refine, tmp_path):
    code, _, err = refine("run", "--holdout", 0.2, eval_strategy="epoch", max_steps=1)
    assert code == 0, err
    assert 0 <= training_rows.metrics(tmp_path / "run", "eval_reward")[0] <= 1


# ── rewards ───────────────────────────────────────────────────────────────────────────────────


def said(*texts):
    return [[{"role": "assistant", "content": text}] for text in texts]


def columns(*questions):
    from w2v import stream

    return {
        "question": [stream.line(q) for q in questions],
        "frames": [[[1000, 1000]] * 2] * len(questions),
    }


def test_a_reward_is_called_as_trl_does_and_pickles(tmp_path):
    asked = [training_rows.question(tmp_path, k) for k in (0, 1)]
    reward = grpo.TrlReward("robust", rewards.robust(), families.TINY)
    again = pickle.loads(pickle.dumps(reward))
    logged = []
    given = columns(*asked) | {"log_metric": lambda name, value: logged.append((name, value))}
    assert again(said("turn right 30 degrees", "yes"), **given) == [1.0, 0.0]
    assert ("robust/A2/score", 1.0) in logged and ("robust/D4/score", 0.0) in logged
    assert again.__name__ == "robust"


def test_a_task_that_is_not_graded_is_none_not_nought(tmp_path):
    other = training_rows.question(tmp_path, 0, task_type="counting")
    reward = grpo.TrlReward("robust", rewards.robust(), families.TINY)
    assert reward(said("three"), **columns(other)) == [None]


def test_boxes_are_graded_on_the_grid_whatever_the_student_writes(tmp_path):
    box = training_rows.question(tmp_path, 0, task_type="D1", answer="[100, 200, 500, 600]")
    given = columns(box) | {"frames": [[[112, 112], [224, 448]]]}
    reward = grpo.TrlReward("world2vlm", rewards.world2vlm(), families.QWEN)
    assert reward(said("[22, 90, 112, 269]"), **given)[0] > 0.97
    assert reward(said("[100, 200, 500, 600]"), **given)[0] < 0.6


def test_figures_of_tasks_leave_out_what_was_not_graded():
    nan = float("nan")
    tasks = ["A1"] * 4 + ["D1"] * 2 + ["X"] * 2
    scores = [0.5, 0.5, 0.0, 1.0, 1.0, 0.0, nan, nan]
    figures = dict(grpo.by_task(tasks, [2, 4, 6, 8, 1, 1, 3, 5], scores, 2))
    assert figures["tasks/A1/reward"] == 0.5 and figures["tasks/A1/silent"] == 0.5
    assert figures["tasks/A1/length"] == 5 and figures["tasks/D1/silent"] == 0
    assert figures["tasks/X/silent"] == 1 and "tasks/X/reward" not in figures


# ── what is wrong is said before weights are read ─────────────────────────────────────────────


@pytest.fixture
def no_weights(monkeypatch):
    """Fail if any weights are read."""
    from w2v.students.hf import HFStudent

    def load(self, **named):
        raise AssertionError("weights were read")

    monkeypatch.setattr(HFStudent, "load", load)


def test_a_reward_that_does_not_pay_right_answers_ends_with_4(refine, home, no_weights):
    rows = [training_rows.question(home, k) for k in range(4)]
    rows[1] = replace(rows[1], answer="it is the same object", form="sentence")
    file = training_rows.write(home / "sentence.jsonl", rows)
    code, lines, err = refine("run", "--reward", "world2vlm", file=file)
    assert (code, lines) == (4, [])
    assert "1 right answers do not score 1.0: reward world2vlm gives 0.000" in err
    assert "q1" in err and "--self-test" in err


def test_a_right_answer_that_does_not_fit_into_a_response_ends_with_4(refine, no_weights):
    code, _, err = refine(max_completion_length=4)
    assert code == 4 and "a response 4" in err and "--set max_completion_length=" in err


def test_rows_that_no_reward_grades_are_dropped(refine, home, no_weights, monkeypatch):
    class Turns:
        def __call__(self, gold, response):
            return Grade(1.0, {}, "") if gold.task_type == "A2" else None

    monkeypatch.setattr(grpo.plugins.Spec, "make", lambda self: Turns())
    monkeypatch.setattr(grpo.running, "learner", lambda plan: learner)
    learner = grpo.running.resolve.spec(str(home / "full")).offer.make(path=str(home / "full"))
    code, _, err = refine("run", "--dry-run", "--reward", "robust")
    assert code == 0 and "16 dropped (not graded by robust 16)" in err


def test_settings_that_do_not_fit_together_are_named(refine):
    code, _, err = refine(num_generations=5)
    assert code == 2 and "num_generations" in err


def test_the_world2vlm_recipe_is_the_paper_s():
    config = configs.build("grpo", "world2vlm", (), output="unused", tune="lora")
    made = config.trainer
    assert (made.num_generations, made.beta, made.learning_rate) == (4, 0.01, 2e-6)
    assert made.num_train_epochs == 1 and config.own["reward"] == "world2vlm"
    assert made.per_device_train_batch_size * made.gradient_accumulation_steps == 2 * 4


def test_a_student_is_kept_from_generating_pictures(refine, home, monkeypatch):
    def train(self, **named):
        raise BadOption(f"kept from {sorted(self.generation_config.suppress_tokens)}")

    monkeypatch.setattr(grpo.GradedTrainer, "train", train)
    student = resolve.student(str(home / "full"))
    wanted = student.family.suppressed(student.processor)
    assert len(wanted) == len(student.family.special)
    assert f"kept from {wanted}" in refine()[2]


@pytest.mark.parametrize("vllm", [False, True])
def test_picture_tokens_are_never_generated(vllm):
    class Args:
        use_vllm = vllm
        generation_kwargs = {"typical_p": 0.9}

    grpo.forbid(Args, [5, 7])
    never = {"logit_bias": {5: -100.0, 7: -100.0}} if vllm else {"suppress_tokens": [5, 7]}
    assert Args.generation_kwargs == {"typical_p": 0.9, **never}


@pytest.mark.skipif(compiler() is None, reason="fusing takes a C++ compiler")
@pytest.mark.parametrize("tune", ["full", "lora"])
def test_two_processes_refine_a_student_that_is_fused(tune, home, tmp_path):
    tiny.build(tmp_path / "base", width=192, layers=1, vision_width=32, vision_layers=1)
    student = f"tiny:path={tmp_path / 'base'},compile=true"
    given = ["grpo", home / "q.jsonl", "--student", student, "--tune", tune, "-o", tmp_path / "run"]
    batch = {"per_device_train_batch_size": 32, "rows_per_step": 64, "max_steps": 1, "bf16": "true"}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        + ["-m", "w2v", *(str(word) for word in given), *sets({**REFINE, **batch})],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["step"] == 1
