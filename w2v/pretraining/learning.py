"""The base of ``tiny`` learns to see, then to speak of it: a loop that goes on where it was killed.

First the vision side alone learns to show what is where (``finding``); then both sides learn to
answer questions about pictures, while the vision side goes on.
"""

from __future__ import annotations

import math
import shutil
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from w2v import __version__, stream, torchvision_cpu
from w2v.errors import INTERRUPTED, BadFile
from w2v.pretraining import asking, finding, views
from w2v.pretraining.finding import Finder, Pointer, Truth
from w2v.pretraining.measuring import measure
from w2v.pretraining.rows import Padded, Rooms, Writer, alike, pad
from w2v.pretraining.views import View
from w2v.records import Run
from w2v.stream import Stage
from w2v.students import families, folders, hf, lean, tiny
from w2v.train import cards, checkpoints, runs
from w2v.train.checkpoints import Stopper
from w2v.workers import Workers

torchvision_cpu.install()

import torch  # noqa: E402
import transformers  # noqa: E402

STATE = "state.pt"
SAVE_SECONDS = 300
LOGGED = 50
"""Steps between two lines of ``metrics.jsonl``."""
FRAME = 128
"""Side of a picture in pixels, as the demo renders them and as ``tiny.BASE`` sees them."""
MUON = 2.0
"""Muon's learning rate for the matrices inside of layers, in units of AdamW's for all else."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to learn.

    Args:
        rooms: Rooms with pictures; one of fifty is kept apart to measure on.
        views: Pictures of each.
        eyes: Updates of the vision side alone.
        seen: Pictures in one of them.
        steps: Updates with questions.
        pictures: Pictures in one of them.
        questions: About each picture.
        pairs: Share of the pictures that are shown by twos from half of the way on; none in the
            first fifth, unless an earlier base has gone that way.
        rate: Highest learning rate.
        warmup: Updates until the highest rate is reached, in either part.
        cooldown: Share of the updates with questions over which it falls to nothing.
        seed: Of rooms, weights and questions.
        compile: Whether to fuse what is computed.
        start: Digest of the weights to start from; none: random ones.
    """

    rooms: int
    eyes: int
    steps: int
    views: int = 32
    seen: int = 64
    pictures: int = 32
    questions: int = 4
    pairs: float = 0.6
    rate: float = 1e-3
    warmup: int = 100
    cooldown: float = 0.4
    seed: int = 0
    compile: bool = False
    start: str = ""

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step: up for each part, flat, down along a cosine."""
        first = step < self.eyes
        rising = min(1.0, (step + 1 if first else step - self.eyes + 1) / self.warmup)
        left = (self.eyes + self.steps - step) / max(1.0, self.cooldown * self.steps)
        return self.rate * rising * (0.5 - 0.5 * math.cos(math.pi * min(1.0, left)))

    def pairs_at(self, step: int) -> float:
        """Return the share of pictures by twos in a step: finding things comes first."""
        if self.start:
            return self.pairs
        return self.pairs * min(1.0, max(0.0, step / self.steps - 0.2) / 0.3)


def learn(
    stage: Stage,
    plan: Plan,
    output: Path,
    pictures: Path,
    workers: int,
    start: Path | None = None,
) -> Run:
    """Train from the last save, or else from the start, and write model, figures and card.

    Args:
        stage: To speak through.
        plan: As asked.
        output: Gets the model, ``metrics.jsonl`` and, until it is done, ``state.pt``.
        pictures: Folder for the rooms.
        workers: Processes that render.
        start: Folder of an earlier base to start from, in place of random weights.

    Raises:
        ForeignOutput: The folder holds something else.
        SystemExit: 75, after a save, where a signal asked to stop.
    """
    if start:
        plan = replace(plan, start=hf.weights(str(start)))
    if done := runs.claim(output, asdict(plan)):
        stage.log("finished before")
        return done
    if not (output / STATE).exists():
        _begin(output, plan.seed, start)
    _take_pictures(stage, plan, pictures, workers)
    processor = transformers.AutoProcessor.from_pretrained(output, local_files_only=True)
    model = transformers.AutoModelForImageTextToText.from_pretrained(
        output, dtype=torch.float32, local_files_only=True
    )
    rooms = Rooms(pictures, plan.rooms, Writer(processor), plan.seed)
    _train(stage, Lesson(plan, model, rooms), output)
    figures = measure(model, rooms)
    model.to("cpu").save_pretrained(output)
    checkpoints.share(output)
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
        meta={"licences": ["CC0-1.0"], "before": _before(start), **cards.versions()},
    )
    stream.write_atomic(output / "README.md", card(record))
    runs.finish(output, asdict(plan), record)
    (output / STATE).unlink(missing_ok=True)
    return record


def _begin(output: Path, seed: int, start: Path | None) -> None:
    """Write the model to begin with: that of an earlier base, else one with random weights.

    Raises:
        BadFile: The earlier one is no ``tiny`` that sees pictures of this size.
    """
    if start is None:
        tiny.build(output, seed=seed, **tiny.BASE, texts=asking.corpus())
        return
    student = hf.HFStudent("tiny", hf.Options(path=str(start)))
    shown = student.processor.image_processor
    side = shown.patch_size * shown.merge_size * math.isqrt(families.TINY.budget(student.processor))
    if side != FRAME:
        raise BadFile(f"{start}: sees pictures of {side} pixels, not {FRAME}")
    student.load(dtype="float32").model.save_pretrained(output)
    for name in PROCESSOR:
        shutil.copy(start / name, output / name)


PROCESSOR = (
    *("chat_template.jinja", "processor_config.json", "tokenizer.json", "tokenizer_config.json"),
    folders.SETTINGS,
)
"""The files of a base beside its weights and their configuration."""


def _before(start: Path | None) -> list[dict[str, Any]]:
    """Return the settings of the bases that came before, the first one first."""
    record = runs.finished(start) if start else None
    return [] if record is None else [*record.meta.get("before", ()), dict(record.settings)]


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
        words, width = model.lm_head.weight.shape
        self._cells = finding.FINE * math.isqrt(rooms.writer.tokens)
        with torch.random.fork_rng():
            torch.manual_seed(plan.seed)
            writer = rooms.writer
            self.finder = Finder(width, writer.tokens, writer.processor.tokenizer, words)
            self.pointer = Pointer(width)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model.to(self.device)
        self.finder.to(self.device)
        self.pointer.to(self.device)
        self.muon, self.adamw = self._optimizers()
        self.seer = Seer(model, rooms.writer, compiled=plan.compile)

    def _optimizers(self) -> tuple[Any, Any]:
        """Return one for the matrices inside of layers, and one for all else."""
        inner: list[Any] = []
        other: list[Any] = [*self.finder.parameters(), *self.pointer.parameters()]
        for name, weight in self.model.named_parameters():
            outer = weight.ndim != 2 or "embed_tokens" in name or "lm_head" in name
            (other if outer else inner).append(weight)
        muon = torch.optim.Muon(
            inner, lr=MUON * self.plan.rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
        )
        adamw = torch.optim.AdamW(
            other, lr=self.plan.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        )
        return muon, adamw

    def step(self, step: int) -> dict[str, float]:
        """Make one update; return its figures by name."""
        plan, first = self.plan, step < self.plan.eyes
        rate = plan.rate_at(step)
        for optimizer, scale in ((self.muon, MUON), (self.adamw, 1.0)):
            for group in optimizer.param_groups:
                group["lr"] = scale * rate
        with torch.autocast(self.device, torch.bfloat16):
            loss, figures = self._see(step) if first else self._answer(step - plan.eyes)
        loss.backward()
        weights = [*self.model.parameters(), *self.finder.parameters(), *self.pointer.parameters()]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for optimizer in (self.muon, self.adamw):
            optimizer.step()
            optimizer.zero_grad()
        return figures

    def _see(self, step: int) -> tuple[Any, dict[str, float]]:
        """Return the loss of finding things in pictures."""
        shown = self.rooms.views(step, self.plan.seen)
        return self._find(shown, self.seer.tokens(shown))

    def _find(self, shown: Sequence[View], tokens: Any) -> tuple[Any, dict[str, float]]:
        told = Truth(*(part.to(self.device) for part in finding.truth(shown, self._cells)))
        words = self.model.get_input_embeddings().weight
        loss, error = self.finder.loss(tokens, words, told)
        return loss, {"box_error": error}

    def _answer(self, step: int) -> tuple[Any, dict[str, float]]:
        """Return the loss of the answers to a step's questions, and of finding things."""
        plan = self.plan
        batch = self.rooms.step(step, plan.pictures, plan.questions, plan.pairs_at(step))
        tokens = self.seer.tokens(batch.views)
        found, figures = self._find(batch.views, tokens)
        losses, states, targets = [], [], []
        for rows in alike(batch.rows):
            padded = Padded(*(part.to(self.device) for part in pad(rows, self.seer.filler)))
            after = self.seer.states(padded, tokens, [row.pictures for row in rows])
            said = padded.said[:, 1:]
            logits = self.model.lm_head(after[-1][:, :-1][said]).float()
            wanted = padded.ids[:, 1:][said]
            losses.append(torch.nn.functional.cross_entropy(logits, wanted, reduction="none"))
            states.append(after[POINTS][:, :-1][said])
            targets.append(padded.targets[:, 1:][said])
        loss = torch.cat(losses).mean()
        pointing, error = self.pointer.loss(torch.cat(states), torch.cat(targets))
        figures |= {"loss": float(loss.detach()), "pointing_error": error}
        return loss + found + pointing, figures

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


_PARTS = ("model", "finder", "pointer", "muon", "adamw")
POINTS = -3
"""The layer after which numbers are known; two are left to put them into words."""


class Seer:
    """Runs a model on pictures of one size and on rows about them, by ``lean``.

    Args:
        model: Of the Qwen2.5-VL classes.
        writer: Writes the rows.
        compiled: Whether to fuse what is computed; takes a C++ compiler, and a minute at first.
    """

    def __init__(self, model: Any, writer: Writer, *, compiled: bool = False) -> None:
        self.model, self.writer = model.model, writer
        self.filler = writer.processor.tokenizer.pad_token_id
        self._way = lean.Way(compiled=compiled)
        self._grid = math.isqrt(writer.tokens)
        self._seen = self._moved(lean.vision_rotation(self.model.visual, self._grid))
        self._rotations: dict[int, lean.Rotation] = {}

    def tokens(self, shown: Sequence[View]) -> Any:
        """Return the tokens (P, tokens, width) of pictures."""
        frames = [view.frame for view in shown]
        cut = lean.patches(frames, self.writer.processor.image_processor)
        return self._way.see(self.model.visual, cut.to(self.model.device), self._seen)

    def states(self, rows: Padded, tokens: Any, pictures: Sequence[tuple[int, ...]]) -> Any:
        """Return hidden states of rows (rows, length) about equally many pictures, by layer."""
        language = self.model.language_model
        told = language.embed_tokens(rows.ids)
        shown = tokens[torch.tensor(pictures, device=tokens.device)].to(told.dtype)
        there = (rows.ids == self.writer.image).unsqueeze(-1).expand_as(told)
        told = told.masked_scatter(there, shown.flatten(0, 2))
        cos, sin = (part[rows.places].unsqueeze(1) for part in self._rotation(len(pictures[0])))
        own, other = rows.blocks.unsqueeze(2), rows.blocks.unsqueeze(1)
        later = lean.later(rows.ids.shape[1], rows.ids.device)
        unseen = later | (own != other) & (other != 0)
        return self._way.read(language, told, (cos, sin), unseen.unsqueeze(1))

    def _rotation(self, pictures: int) -> lean.Rotation:
        if pictures not in self._rotations:
            ids = self.writer.opening(pictures) + [self.filler] * LONGEST
            made = lean.text_rotation(self.model, ids, self.writer.image, self._grid, pictures)
            self._rotations[pictures] = self._moved(made)
        return self._rotations[pictures]

    def _moved(self, rotation: lean.Rotation) -> lean.Rotation:
        cos, sin = (part.to(self.model.device) for part in rotation)
        return cos, sin


LONGEST = 512
"""Most tokens of a question with its answer."""


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


def _note(output: Path, step: int, figures: dict[str, float]) -> None:
    with (output / runs.METRICS).open("a", encoding="utf-8") as out:
        out.write(stream.dumps({"step": step, **figures}) + "\n")


def _commands(plans: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what to type, for one base that starts from the one before."""
    made = []
    for number, plan in enumerate(plans):
        last = number == len(plans) - 1
        typed = f"w2v pretrain -o {'base' if last else f'base{number}'}"
        typed += "".join(f" --{name} {plan[name]}" for name in ("rooms", "eyes", "steps", "seed"))
        typed += " --compile" if plan["compile"] else ""
        made.append(typed + (f" --start base{number - 1}" if number else ""))
    return made


def card(record: Run) -> str:
    """Return the model card of the base."""
    commands = _commands([*record.meta["before"], record.settings])
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
            "has learned to show where the thing of a name is, then all of it to answer questions",
            "about single pictures of simulated rooms, and about pairs: what either shows, and",
            "where one and the same thing is in each. It has never been told that a camera moved.",
            "",
            "Made by, and made again with:",
            "",
            "```bash",
            *commands,
            "```",
            "",
            f"w2v {__version__}. Pictures and weights: made by w2v alone, no other data.",
            "",
            "Greedy answers about rooms kept apart (boxes by IoU; errors are medians, in shares of",
            "the picture, or for `far` of how far a thing is):",
            "",
            "| question | right |",
            "| --- | --- |",
            *figures,
            "",
        ]
    )
