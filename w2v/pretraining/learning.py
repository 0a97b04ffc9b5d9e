"""The base of ``tiny`` learns to see, then to speak of it: a loop that goes on where it was killed.

First the vision side alone learns what cells of pictures show (``eyes``); then both sides learn
to answer questions about pictures.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from w2v import __version__, stream, torchvision_cpu
from w2v.errors import INTERRUPTED
from w2v.pretraining import asking, eyes, views
from w2v.pretraining.measuring import measure
from w2v.pretraining.rows import IGNORED, Rooms, Writer, collate, encode
from w2v.records import Run
from w2v.stream import Stage
from w2v.students import folders, tiny
from w2v.train import cards, runs
from w2v.train.checkpoints import Stopper
from w2v.workers import Workers

torchvision_cpu.install()

import torch  # noqa: E402
import transformers  # noqa: E402

STATE = "state.pt"
SAVE_SECONDS = 300
LOGGED = 100
"""Steps between two lines of ``metrics.jsonl``."""
FRAME = 128
"""Side of a picture in pixels, as the demo renders them."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to learn.

    Args:
        rooms: Rooms with pictures; one of fifty is kept apart to measure on.
        views: Pictures of each.
        eyes: Updates of the vision side alone.
        pictures: Pictures in one of them.
        steps: Updates with questions.
        rows: Rows in one of them.
        tokens: Of text in one row, about.
        pairs: Share of rows with two pictures from four fifths of the way on; none in the first
            three tenths.
        rate: Highest learning rate.
        gentle: What the vision side's is multiplied with while questions are learned.
        warmup: Steps until the highest rate is reached.
        cooldown: Share of the steps over which it falls to nothing.
        seed: Of rooms, weights and questions.
    """

    rooms: int
    eyes: int
    steps: int
    views: int = 32
    pictures: int = 48
    rows: int = 16
    tokens: int = 256
    pairs: float = 0.5
    rate: float = 1e-3
    gentle: float = 0.2
    warmup: int = 100
    cooldown: float = 0.4
    seed: int = 0

    def rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate of one of some steps: up, flat, and down along a cosine."""
        left = (steps - step) / max(1.0, self.cooldown * steps)
        falling = 0.5 - 0.5 * math.cos(math.pi * min(1.0, left))
        return self.rate * min(1.0, (step + 1) / self.warmup) * falling

    def pairs_at(self, step: int) -> float:
        """Return the share of rows with two pictures in a step: finding things comes first."""
        return self.pairs * min(1.0, max(0.0, step / self.steps - 0.3) / 0.5)


def learn(stage: Stage, plan: Plan, output: Path, pictures: Path, workers: int) -> Run:
    """Train from random weights, or from the last save, and write model, figures and card.

    Args:
        stage: To speak through.
        plan: As asked.
        output: Gets the model, ``metrics.jsonl`` and, until it is done, ``state.pt``.
        pictures: Folder for the rooms.
        workers: Processes that render.

    Raises:
        ForeignOutput: The folder holds something else.
        SystemExit: 75, after a save, where a signal asked to stop.
    """
    if done := runs.claim(output, asdict(plan)):
        stage.log("finished before")
        return done
    _take_pictures(stage, plan, pictures, workers)
    if not (output / STATE).exists():
        tiny.build(output, seed=plan.seed, **tiny.BASE, texts=asking.corpus())
    processor = transformers.AutoProcessor.from_pretrained(output, local_files_only=True)
    model = transformers.AutoModelForImageTextToText.from_pretrained(
        output, dtype=torch.float32, local_files_only=True
    )
    rooms = Rooms(pictures, plan.rooms, Writer(processor, plan.tokens), plan.seed)
    _train(stage, Lesson(plan, model, rooms), output)
    figures = measure(model, rooms)
    model.to("cpu").save_pretrained(output)
    told = folders.settings(output) | {"method": "pretrain"}
    folders.write_settings(output, told)
    record = Run(
        id=f"{output.resolve().name}-pretrained",
        method="pretrain",
        student="tiny",
        checkpoint=str(output),
        trained_on=f"{plan.rooms} simulated rooms",
        settings=asdict(plan),
        metrics=figures,
        meta={"licences": ["CC0-1.0"], **cards.versions()},
    )
    stream.write_atomic(output / "README.md", card(record))
    runs.finish(output, asdict(plan), record)
    (output / STATE).unlink(missing_ok=True)
    return record


def _take_pictures(stage: Stage, plan: Plan, folder: Path, workers: int) -> None:
    """Render the rooms that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)

    def work(room: int) -> None:
        views.make(folder, room, plan.views, FRAME, plan.seed)

    stage.unit = "rooms"
    with Workers(work, workers) as all_workers:
        for _ in stage.progress(all_workers.map(range(plan.rooms)), plan.rooms):
            pass


class Lesson:
    """The model with all that changes while it learns."""

    def __init__(self, plan: Plan, model: Any, rooms: Rooms) -> None:
        self.plan, self.model, self.rooms = plan, model, rooms
        with torch.random.fork_rng():
            torch.manual_seed(plan.seed)
            self.reader = eyes.Reader(model.config.text_config.hidden_size)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model.to(device)
        self.reader.to(device)
        seeing = list(model.model.visual.parameters())
        known = {id(weight) for weight in seeing}
        groups = [
            {"params": [*seeing, *self.reader.parameters()]},
            {"params": [w for w in model.parameters() if id(w) not in known]},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=plan.rate, betas=(0.9, 0.98))

    def step(self, step: int) -> dict[str, float]:
        """Make one update; return its loss by name."""
        plan, first = self.plan, step < self.plan.eyes
        if first:
            vision = language = plan.rate_at(step, plan.eyes)
        else:
            language = plan.rate_at(step - plan.eyes, plan.steps)
            vision = plan.gentle * language
        for group, rate in zip(self.optimizer.param_groups, (vision, language), strict=True):
            group["lr"] = rate
        with torch.autocast(self.model.device.type, torch.bfloat16):
            loss = self._see(step) if first else self._answer(step - plan.eyes)
        loss.backward()
        weights = [w for group in self.optimizer.param_groups for w in group["params"]]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {"eyes_loss" if first else "loss": float(loss.detach())}

    def _see(self, step: int) -> Any:
        """Return the loss of reading pictures off the vision side's tokens."""
        shown = self.rooms.views(step, self.plan.pictures)
        seen = encode(shown, self.rooms.writer.processor).to(self.model.device)
        tokens = self.model.model.get_image_features(**seen).pooler_output
        tokens = torch.stack(list(tokens))
        told = eyes.truth(shown, math.isqrt(tokens.shape[1]))
        return self.reader.loss(tokens, eyes.Truth(*(t.to(tokens.device) for t in told)))

    def _answer(self, step: int) -> Any:
        """Return the loss of the answers to a step's questions."""
        share = self.plan.pairs_at(step)
        rows = [self.rooms.row(step, number, share) for number in range(self.plan.rows)]
        made = collate(rows, self.rooms.writer.processor)
        return _loss(self.model.train(), {k: v.to(self.model.device) for k, v in made.items()})

    def save(self, path: Path, step: int) -> None:
        """Write all that going on needs, whole or not at all."""
        part = path.with_suffix(".part")
        parts = {name: getattr(self, name).state_dict() for name in _PARTS}
        torch.save({**parts, "step": step}, part)
        part.replace(path)

    def restore(self, path: Path) -> int:
        """Take up a save, if there is one; return the steps already done."""
        if not path.exists():
            return 0
        state = torch.load(path, weights_only=True)
        for name in _PARTS:
            getattr(self, name).load_state_dict(state[name])
        return int(state["step"])


_PARTS = ("model", "reader", "optimizer")


def _train(stage: Stage, lesson: Lesson, output: Path) -> None:
    """Take all steps that are left."""
    start, end = lesson.restore(output / STATE), lesson.plan.eyes + lesson.plan.steps
    runs.trim(output / runs.METRICS, start)
    stage.unit = "steps"
    stopper, saved = Stopper(), time.monotonic()
    losses: dict[str, list[float]] = defaultdict(list)
    with stopper.listening():
        for step in stage.progress(range(start, end), end - start):
            done = step + 1
            for name, loss in lesson.step(step).items():
                losses[name].append(loss)
            if done % LOGGED == 0:
                _note(output, done, {name: sum(v) / len(v) for name, v in losses.items()})
                losses.clear()
            if stopper.asked or time.monotonic() - saved > SAVE_SECONDS:
                lesson.save(output / STATE, done)
                saved = time.monotonic()
            if stopper.asked and done < end:
                stage.log(f"stopped after step {done}, saved; run the same command again")
                raise SystemExit(INTERRUPTED)


def _loss(model: Any, batch: dict[str, Any]) -> Any:
    """Return the mean cross-entropy of answers; no other place is told apart into words."""
    labels = batch.pop("labels")[:, 1:]
    answers = labels != IGNORED
    hidden = model.model(**batch).last_hidden_state[:, :-1]
    logits = model.lm_head(hidden[answers]).float()
    return torch.nn.functional.cross_entropy(logits, labels[answers])


def _note(output: Path, step: int, figures: dict[str, float]) -> None:
    with (output / runs.METRICS).open("a", encoding="utf-8") as out:
        out.write(stream.dumps({"step": step, **figures}) + "\n")


def card(record: Run) -> str:
    """Return the model card of the base."""
    plan = record.settings
    figures = [f"| {name} | {value:.3f} |" for name, value in record.metrics.items()]
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "pipeline_tag: image-text-to-text",
            "license: apache-2.0",
            "tags: [w2v]",
            "---",
            "# The base of `tiny`",
            "",
            "A small model of the Qwen2.5-VL classes that sees: where things are, what they are",
            "called, their colours and numbers, which is left, higher or nearer. Its vision side",
            "has learned to tell what cells of a picture show, then all of it to answer questions",
            "about single pictures of simulated rooms, and about pairs of which each is asked",
            "about alone. It has never been told what a move of the camera does.",
            "",
            "Made by, and made again with:",
            "",
            "```bash",
            f"w2v pretrain -o base --rooms {plan['rooms']} --eyes {plan['eyes']} "
            f"--steps {plan['steps']} --seed {plan['seed']}",
            "```",
            "",
            f"w2v {__version__}. Pictures and weights: made by w2v alone, no other data.",
            "",
            "Greedy answers about rooms kept apart (boxes by IoU; `box error` is the median error",
            "of a side, in shares of the picture):",
            "",
            "| question | right |",
            "| --- | --- |",
            *figures,
            "",
        ]
    )
