"""Supervised fine-tuning: TRL's trainer, with a weight on every question's loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from trl import SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from w2v.kinds import Trainable
from w2v.records import Run
from w2v.stream import Stage
from w2v.train import configs, data, running, runs
from w2v.train.checkpoints import Resumable
from w2v.train.data import DIRECTIONS
from w2v.train.running import Plan

WEIGHTS, GROUPS = "row_weights", "row_groups"


def sft(stage: Stage, plan: Plan) -> Run | None:
    """Train a student on right answers; return the record, None on a dry run.

    Everything that can be wrong with questions and settings is found before weights are read.
    """
    config = running.configure(plan)
    student = running.learner(plan)
    rows = data.read(stage, plan.questions, student, plan.selection, plan.max_length)
    rows = data.weightless(rows, plan.lambda_inverse, plan.lambda_forward, stage)
    settings = running.fingerprint(plan, student, rows, config)
    train, held = data.hold_out(rows, config.own["holdout"], config.trainer.seed, stage)
    weights = data.coefficients(train, plan.lambda_inverse, plan.lambda_forward)
    _tell(stage, train, held, config)
    running.first_prompts(train, student, stage.detail)
    if stage.settings.dry_run:
        return None
    with running.alone(plan):
        if done := runs.claim(plan.output, settings):
            stage.log("finished before")
            return done
        trainer = make(plan, student, config, data.table(train, weights), _table(held), stage)
        told = dict(student.settings) | {"method": "sft", "tune": plan.tune}
        running.run(trainer, plan, told, stage)
        dtype = running.base_dtype(student) if plan.tune == "full" else None
        return running.finish(trainer, plan, settings, train, held, stage, dtype)


def _table(held: Sequence[data.Row]) -> Any:
    return data.table(held) if held else None


def _tell(
    stage: Stage, train: Sequence[data.Row], held: Sequence[data.Row], config: configs.Config
) -> None:
    """Say what will be trained on, and count it for the summary."""
    longest = max(row.length for row in train)
    told = ", ".join(f"{task} {number}" for task, number in data.counts(train).items())
    stage.notes |= {"train": len(train), "held out": len(held), "longest": longest}
    stage.log(
        f"{len(train)} questions ({told}), {len(held)} held out, {longest} tokens at most; "
        f"{config.told['per_device_train_batch_size']} x "
        f"{config.told['gradient_accumulation_steps']} x {configs.processes()} an update"
    )


def make(
    plan: Plan,
    student: Trainable,
    config: configs.Config,
    train: Any,
    held: Any,
    stage: Stage,
) -> WeightedTrainer:
    """Return a trainer with the weights loaded."""
    if held is None:
        config.trainer.eval_strategy = "no"
    with running.memory_advice(plan, config.trainer):
        loaded, adapter = running.load(plan, student, config, stage)
        return WeightedTrainer(
            model=loaded.model,
            args=config.trainer,
            processing_class=loaded.processor,
            train_dataset=train,
            eval_dataset=held,
            data_collator=Collator(loaded.processor),
            peft_config=adapter,
        )


class Collator:
    """TRL's collator, with the weight and the direction of each row beside what the model reads."""

    def __init__(self, processor: Any) -> None:
        self.inner = DataCollatorForVisionLanguageModeling(
            processor=processor, completion_only_loss=True
        )

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a batch: labels are on the answer and the end of its turn alone."""
        wanted = ("prompt", "completion", "images")
        batch: dict[str, Any] = self.inner([{key: row[key] for key in wanted} for row in rows])
        batch[WEIGHTS] = torch.tensor([row["weight"] for row in rows], dtype=torch.float32)
        batch[GROUPS] = torch.tensor([_group(row["direction"]) for row in rows])
        return batch


def _group(direction: str) -> int:
    """Return the place of a direction in the figures; -1 for none."""
    return DIRECTIONS.index(direction) if direction in DIRECTIONS else -1


class WeightedTrainer(Resumable, SFTTrainer):  # type: ignore[misc]
    """Minimizes the mean over an update's rows of ``weight x mean loss of the answer's tokens``.

    An update's rows are those of all processes and accumulation steps. The mean over tokens, in
    place of the sum of equation 5 (arXiv 2604.26934), keeps a long answer from outweighing a
    short one. What ``weight`` is made of, see ``data.coefficients``.
    """

    loss_is_scaled_for_ga = True  # compute_loss divides by all rows of the update

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._sums: dict[bool, Any] = {}

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Return rows in an order that wastes little on padding, unless another was asked for."""
        if self.args.train_sampling_strategy != "random":
            return super()._get_train_sampler(train_dataset)
        args = self.args
        rows = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        table = self.train_dataset if train_dataset is None else train_dataset
        lengths = table.with_format(None)["length"]
        return data.InWindows(lengths, rows, args.data_seed)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
        """Return the number of rows of an update over all processes."""
        rows = torch.tensor(sum(len(batch[WEIGHTS]) for batch in batch_samples), device=device)
        return self.accelerator.gather(rows).sum()

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return this process' share of the update's loss; outside training, the batch's mean."""
        weights, groups = inputs.pop(WEIGHTS), inputs.pop(GROUPS)
        outputs = model(**inputs, use_cache=False, fused_lm_head=True)
        tokens = outputs.label_mask.sum(1)  # (rows,)
        losses = -outputs.log_probs.sum(1) / tokens.clamp(min=1)  # (rows,), 0 off the answer
        rows = len(losses) if num_items_in_batch is None else num_items_in_batch
        loss = (weights * losses).sum() / rows
        if num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over processes
        self._note(losses.detach(), groups, outputs, tokens)
        return (loss, outputs) if return_outputs else loss

    def _note(self, losses: Any, groups: Any, outputs: Any, tokens: Any) -> None:
        """Add up figures since the last log: of tokens, and the plain loss of each direction."""
        sums = [tokens.sum(), outputs.is_top1.sum(), outputs.entropy.detach().sum()]
        for group in range(len(DIRECTIONS)):
            mine = groups == group
            sums += [mine.sum(), losses[mine].sum()]
        new = torch.stack([value.float() for value in sums])
        mode = self.model.training
        self._sums[mode] = self._sums[mode] + new if mode in self._sums else new

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log means over all rows since the last log, of all processes."""
        mode = self.model.training
        if mode in self._sums:
            totals = self.accelerator.reduce(self._sums.pop(mode), reduction="sum").tolist()
            prefix = "" if mode else "eval_"
            logs.update({prefix + name: value for name, value in _means(totals)})
        super().log(logs, start_time)


def _means(totals: list[float]) -> Iterator[tuple[str, float]]:
    """Yield figures from what ``WeightedTrainer`` adds up."""
    tokens, right, entropy, *directions = totals
    if tokens:
        yield "mean_token_accuracy", right / tokens
        yield "entropy", entropy / tokens
    for name, rows, loss in zip(DIRECTIONS, directions[::2], directions[1::2], strict=True):
        if rows:
            yield f"loss_{name}", loss / rows
