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
from click.testing import CliRunner  # noqa: E402
from transformers import AutoModelForImageTextToText, AutoProcessor  # noqa: E402

from w2v.cli import cli  # noqa: E402
from w2v.students import resolve, toys  # noqa: E402
from w2v.train import merge, runs  # noqa: E402

TRAIN = ("learning_rate=2e-2", "max_steps=4", "rows_per_step=4", "save_steps=2", "lora_r=4")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return toys.build("qwen2.5-vl", tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="module")
def train(base, tmp_path_factory):
    """Return a function that trains the base and returns the folder of the run."""

    def run(*args):
        home = tmp_path_factory.mktemp("merging")
        rows = [training_rows.question(home, k) for k in range(16)]
        file = training_rows.write(home / "q.jsonl", rows)
        given = ["sft", file, "--student", base, "-o", home / "run", *args]
        settings = [f"--set={text}" for text in TRAIN]
        done = CliRunner().invoke(cli, [str(word) for word in given] + settings)
        assert done.exit_code == 0, done.output
        return home / "run"

    return run


@pytest.fixture(scope="module")
def run(train):
    """The folder of a run with an adapter; nobody writes there."""
    return train()


def logits(folder, question):
    student = resolve.student(str(folder))
    return merge._logits(student.load().model, [merge._encode(student, question)])


def test_a_merged_model_says_what_base_and_adapter_say(run, base, w2v, tmp_path):
    code, lines, err = w2v("merge", run, "-o", tmp_path / "merged")
    assert code == 0, err
    merged = tmp_path / "merged"
    assert (lines[0]["method"], lines[0]["checkpoint"]) == ("merge", str(merged))
    assert lines[0]["metrics"]["logits_apart"] <= 1e-4
    question = runs.samples(run)[0]
    both, alone = logits(run, question), logits(merged, question)
    assert merge.distance(both, alone) <= 1e-4
    assert merge.distance(logits(base, question), alone) > 1e-2  # it did learn
    # It is an ordinary checkpoint: no adapter, and loads without w2v.
    assert not (merged / "adapter_config.json").exists()
    AutoModelForImageTextToText.from_pretrained(merged)
    processor = AutoProcessor.from_pretrained(merged)
    assert processor.chat_template and (merged / "generation_config.json").exists()
    told = json.loads((merged / "w2v.json").read_text())
    assert told["image_tokens"] == json.loads((run / "w2v.json").read_text())["image_tokens"]
    assert "A2" in (merged / "README.md").read_text()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_weights_can_be_written_in_half(run, w2v, tmp_path):
    assert w2v("merge", run, "-o", tmp_path / "half", "--dtype", "bfloat16")[0] == 0
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "half", dtype="auto")
    assert model.dtype == torch.bfloat16


def test_a_checkpoint_is_merged_with_the_samples_of_its_run(run, w2v, tmp_path):
    code, _, err = w2v("merge", run / "checkpoint-2", "-o", tmp_path / "early")
    assert code == 0, err
    question = runs.samples(run)[0]
    assert (
        merge.distance(logits(run / "checkpoint-2", question), logits(tmp_path / "early", question))
        <= 1e-4
    )


def test_a_merge_that_changes_the_answers_writes_nothing(run, w2v, tmp_path, monkeypatch):
    from peft.tuners.lora import LoraModel

    forget = LoraModel.unload  # drops the adapter instead of merging it
    monkeypatch.setattr(LoraModel, "merge_and_unload", lambda self, **named: forget(self))
    code, lines, err = w2v("merge", run, "-o", tmp_path / "merged")
    assert (code, lines) == (4, [])
    assert "nothing was written" in err
    assert not (tmp_path / "merged").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_what_cannot_be_merged_is_refused(train, w2v, tmp_path):
    run = train("--tune", "full")
    code, _, err = w2v("merge", run, "-o", tmp_path / "merged")
    assert code == 1 and "holds no adapter" in err


def test_a_folder_that_holds_something_is_left_alone(run, w2v, tmp_path):
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "thesis.tex").write_text("")
    code, _, err = w2v("merge", run, "-o", tmp_path / "merged")
    assert code == 1 and "is not empty" in err
