"""GRPO: TRL's trainer, with rewards of w2v, figures of each task, and rollouts to look at."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from trl import GRPOTrainer

from w2v import plugins, stream
from w2v.errors import BadFile, BadOption, CheckFailed
from w2v.kinds import Grade, Reward, Trainable
from w2v.plugins import Spec, need
from w2v.records import Question, Run
from w2v.stream import Stage
from w2v.train import configs, data, running, runs
from w2v.train.checkpoints import Resumable
from w2v.train.data import Row
from w2v.train.running import Plan

PLACES = "task_places"
SHOWN = 16
"""How many rollouts of a logged step go to rollouts.jsonl."""


def grpo(stage: Stage, plan: Plan) -> Run | None:
    """Train a student on its own answers, graded; return the record, None on a dry run.

    Rewards, prompts and lengths are tried on every row before weights are read.
    """
    config = running.configure(plan)
    if config.trainer.use_vllm:
        need("vllm", "vllm")
    specs = plan.rewards or (plugins.parse_spec("reward", str(config.own["reward"])),)
    rewards = {str(spec): made for spec, made in _make(specs)}
    student = running.learner(plan)
    room = config.trainer.max_completion_length
    rows = data.read(stage, plan.questions, student, plan.selection, plan.max_length, room)
    rows = graded(rows, rewards, stage)
    check_lengths(rows, room)
    settings = running.fingerprint(plan, student, rows, config) | {"rewards": list(rewards)}
    train, held = data.hold_out(rows, config.own["holdout"], config.trainer.seed, stage)
    _tell(stage, train, held, config)
    running.first_prompts(train, student, stage.detail)
    if stage.settings.dry_run:
        return None
    with running.alone(plan):
        if done := runs.claim(plan.output, settings):
            stage.log("finished before")
            return done
        trainer = make(plan, student, config, rewards, train, held, stage)
        told = dict(student.settings) | {"method": "grpo", "tune": plan.tune}
        running.run(trainer, plan, told, stage)
        dtype = running.base_dtype(student) if plan.tune == "full" else None
        return running.finish(trainer, plan, settings, train, held, stage, dtype)


def _make(specs: Iterable[Spec]) -> Iterable[tuple[Spec, Reward]]:
    return ((spec, spec.make()) for spec in specs)


def _tell(stage: Stage, train: Sequence[Row], held: Sequence[Row], config: configs.Config) -> None:
    told = ", ".join(f"{task} {number}" for task, number in data.counts(train).items())
    args = config.trainer
    each = args.per_device_train_batch_size * args.gradient_accumulation_steps
    stage.notes |= {"train": len(train), "held out": len(held)}
    stage.log(
        f"{len(train)} questions ({told}), {len(held)} held out; an update sees "
        f"{each * configs.processes()} responses, {args.num_generations} to a question"
    )


# ── before anything is loaded ─────────────────────────────────────────────────────────────────


def graded(rows: Sequence[Row], rewards: dict[str, Reward], stage: Stage) -> list[Row]:
    """Return the rows that a reward grades, after making sure that right answers are paid in full.

    Raises:
        CheckFailed: A right answer does not score 1.0: training would lead away from it.
        BadFile: No row is graded.
    """
    kept, wrong = [], []
    for row in rows:
        gold = row.question.gold
        grades = {name: grade(gold, gold.answer) for name, grade in rewards.items()}
        scores = {name: grade.score for name, grade in grades.items() if grade is not None}
        if not scores:
            stage.drop(f"not graded by {' or '.join(rewards)}")
            continue
        if not row.question.images:
            stage.drop("no picture")
            continue
        wrong += [(row, name, score) for name, score in scores.items() if score != 1.0]
        kept.append(row)
    if wrong:
        row, name, score = wrong[0]
        raise CheckFailed(
            f"{len(wrong)} right answers do not score 1.0: reward {name} gives {score:.3f} for "
            f"{row.question.answer!r} to {row.question.id} ({row.question.task_type}, "
            f"{row.question.form})",
            "w2v score --self-test shows them all; choose another --reward or leave such rows out",
        )
    if not kept:
        raise BadFile("no question is graded by the reward", "choose another with --reward")
    return kept


def check_lengths(rows: Sequence[Row], longest: int) -> None:
    """Make sure that every right answer fits into a response.

    Raises:
        CheckFailed: One does not.
    """
    most = max(rows, key=lambda row: row.length - row.prompt)
    if most.length - most.prompt > longest:
        wanted = most.length - most.prompt
        raise CheckFailed(
            f"the right answer to {most.question.id} takes {wanted} tokens, a response {longest}",
            f"--set max_completion_length={wanted}",
        )


# ── rewards ───────────────────────────────────────────────────────────────────────────────────


class TrlReward:
    """A reward of w2v in the shape that TRL calls; a class, so that it pickles.

    Args:
        name: Under which TRL logs it.
        reward: What grades one response.
        family: Knows how the student writes boxes; a reward reads them on the grid.
    """

    def __init__(self, name: str, reward: Reward, family: Any) -> None:
        self.__name__ = name
        self.reward, self.family = reward, family
        self.grades: list[Grade | None] = []

    def __call__(
        self,
        completions: Sequence[Any],
        question: Sequence[str],
        frames: Sequence[Any],
        log_metric: Any = None,
        **columns: Any,
    ) -> list[float | None]:
        """Grade each response to the question in its own row; None where it does not apply."""
        self.grades = []
        for said, text, sizes in zip(completions, question, frames, strict=True):
            asked = Question.from_json(stream.loads(text))
            grade = self.reward(asked.gold, self.family.back(spoken(said), sizes))
            self.grades.append(grade)
            if grade is not None and log_metric is not None:
                for part, value in {"score": grade.score, **grade.parts}.items():
                    log_metric(f"{self.__name__}/{asked.task_type}/{part}", float(value))
        return [None if grade is None else grade.score for grade in self.grades]


def spoken(completion: Any) -> str:
    """Return the text of a response as TRL hands it over."""
    content = completion[0]["content"] if isinstance(completion, list) else completion
    if isinstance(content, list):
        content = "".join(part.get("text") or "" for part in content)
    return str(content).strip()


# ── the trainer ───────────────────────────────────────────────────────────────────────────────


def make(
    plan: Plan,
    student: Trainable,
    config: configs.Config,
    rewards: dict[str, Reward],
    train: Sequence[Row],
    held: Sequence[Row],
    stage: Stage,
) -> GradedTrainer:
    """Return a trainer with the weights loaded."""
    if not held:
        config.trainer.eval_strategy = "no"
    with running.memory_advice(plan, config.trainer):
        loaded, adapter = running.load(plan, student, config, stage)
        forbid(config.trainer, student.family.suppressed(student.processor))
        try:
            trainer = GradedTrainer(
                model=loaded.model,
                args=config.trainer,
                processing_class=loaded.processor,
                reward_funcs=[TrlReward(n, r, loaded.family) for n, r in rewards.items()],
                train_dataset=data.table(train),
                eval_dataset=data.table(held) if held else None,
                peft_config=adapter,
            )
        except ValueError as error:
            raise BadOption(f"TRL refuses the settings: {error}", "see --set") from error
    trainer.rollouts = plan.output / runs.ROLLOUTS
    trainer.tasks = list(data.counts([*train, *held]))
    return trainer


def forbid(args: Any, tokens: list[int]) -> None:
    """Keep tokens from being generated: a picture that is not there breaks the next forward."""
    if args.use_vllm:
        never: dict[str, Any] = {"logit_bias": {token: -100.0 for token in tokens}}
    else:
        never = {"suppress_tokens": tokens}
    args.generation_kwargs = {**(args.generation_kwargs or {}), **never}


class GradedTrainer(Resumable, GRPOTrainer):  # type: ignore[misc]
    """Logs reward, length, silence, KL and entropy of each task; writes some rollouts down.

    A group of responses to one question is silent where all score alike: it teaches nothing.
    """

    rollouts: Path
    tasks: list[str]
    _seen: tuple[torch.Tensor, torch.Tensor]

    def train(self, *given: Any, **named: Any) -> Any:
        """Take out rollouts of steps that will be done again, then train."""
        start = named.get("resume_from_checkpoint")
        if self.is_world_process_zero():
            runs.trim(self.rollouts, int(str(start).rpartition("-")[2]) if start else 0)
        return super().train(*given, **named)

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: Any, completions: Any, completion_ids_list: Any
    ) -> Any:
        """Grade, and keep figures; the rewards are those of all processes, in order."""
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        tasks = gather_object([row["task_type"] for row in inputs])
        lengths = gather_object([len(ids) for ids in completion_ids_list])
        scores = _total(rewards, self.reward_weights.to(rewards.device)).tolist()
        training = self.model.training
        group = self.num_generations if training else self.num_generations_eval
        for name, value in by_task(tasks, lengths, scores, int(group)):
            self._metrics["train" if training else "eval"][name].append(value)
        if training and self.state.global_step % max(1, int(self.state.logging_steps)) == 0:
            rows = gather_object(self._rollouts(inputs, completions))[:SHOWN]
            if self.is_world_process_zero():
                with self.rollouts.open("a", encoding="utf-8") as out:
                    out.writelines(stream.dumps(row) + "\n" for row in rows)
        return rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Let the place of each row's task travel with it through shuffling and splitting."""
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        places = [self.tasks.index(row["task_type"]) for row in inputs]
        return {**batch, PLACES: torch.tensor(places, device=batch["completion_mask"].device)}

    def _get_per_token_logps_and_entropies(
        self, *given: Any, compute_entropy: bool = False, **named: Any
    ) -> Any:
        """Keep what the loss is made of, for the figures of each task."""
        found = super()._get_per_token_logps_and_entropies(
            *given, compute_entropy=compute_entropy, **named
        )
        if compute_entropy:
            self._seen = found[0].detach(), found[1].detach()
        return found

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        """Return TRL's loss; log KL and entropy of each task as TRL does of all."""
        loss = super()._compute_loss(model, inputs)
        logps, entropies = self._seen  # (rows, tokens)
        reference = inputs.get("ref_per_token_logps")
        gap = torch.zeros_like(logps) if reference is None else reference - logps
        mask = inputs["completion_mask"]
        values = torch.stack([mask.float(), (gap.exp() - gap - 1) * mask, entropies * mask])
        rows = values.sum(2).T.float()  # (rows, 3)
        sums = rows.new_zeros(len(self.tasks), 3).index_add_(0, inputs[PLACES], rows)
        totals = self.accelerator.reduce(sums, reduction="sum").tolist()
        metrics = self._metrics["train" if self.model.training else "eval"]
        for task, (tokens, kl, entropy) in zip(self.tasks, totals, strict=True):
            if tokens:
                metrics[f"tasks/{task}/entropy"].append(entropy / tokens)
            if tokens and reference is not None:
                metrics[f"tasks/{task}/kl"].append(kl / tokens)
        return loss

    def _rollouts(self, inputs: list[dict[str, Any]], completions: Any) -> list[dict[str, Any]]:
        """Return what was said to whom, with which pictures, and what it was worth."""
        rows = []
        for place, (row, said) in enumerate(zip(inputs, completions, strict=True)):
            question = json.loads(row["question"])
            grades = {r.__name__: r.grades[place] for r in self.reward_funcs}
            rows.append(
                {
                    "step": self.state.global_step + 1,
                    "question": question["id"],
                    "task_type": question["task_type"],
                    "images": question["images"],
                    "answer": question["answer"],
                    "response": spoken(said),
                    "grades": {name: _told(grade) for name, grade in grades.items()},
                }
            )
        return rows


def _told(grade: Grade | None) -> dict[str, Any] | None:
    if grade is None:
        return None
    return {"score": grade.score, "parts": dict(grade.parts), "parsed": grade.parsed}


def _total(rewards: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the weighted sum of (rows, rewards); NaN where none applies."""
    total = (rewards * weights).nansum(1)
    total[rewards.isnan().all(1)] = torch.nan
    return total


def by_task(
    tasks: Sequence[str], lengths: Sequence[int], scores: Sequence[float], group: int
) -> Iterable[tuple[str, float]]:
    """Yield figures of each task: mean reward, mean length in tokens, share of silent groups.

    Args:
        tasks: Of each response; those to one question stand together.
        lengths: Of each response.
        scores: Of each response, NaN where it was not graded.
        group: Number of responses to a question.
    """
    rewards: dict[str, list[float]] = defaultdict(list)
    sizes: dict[str, list[float]] = defaultdict(list)
    silent: dict[str, list[float]] = defaultdict(list)
    for task, length, score in zip(tasks, lengths, scores, strict=True):
        sizes[task].append(length)
        if score == score:
            rewards[task].append(score)
    for start in range(0, len(tasks), group):
        said = scores[start : start + group]
        alike = max(said) - min(said) < 1e-8 or any(score != score for score in said)
        silent[tasks[start]].append(float(alike))
    for name, figures in (("reward", rewards), ("length", sizes), ("silent", silent)):
        for task, values in sorted(figures.items()):
            yield f"tasks/{task}/{name}", sum(values) / len(values)
