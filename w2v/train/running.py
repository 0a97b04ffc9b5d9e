"""What ``sft`` and ``grpo`` share: a plan, a student, the run itself, and how it ends."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate.utils import parse_flag_from_env
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers.core_model_loading import WeightRenaming

from w2v import paths, stream
from w2v.errors import INTERRUPTED, BadFile, BadOption, OutsideRoot, W2VError
from w2v.kinds import DescribesItself, Loaded, Trainable
from w2v.plugins import Spec, need
from w2v.provenance import digest
from w2v.records import Run
from w2v.stream import Settings, Stage
from w2v.students import folders, hf, resolve
from w2v.train import cards, checkpoints, configs, data, heads, recipes, runs
from w2v.train.checkpoints import Stopper
from w2v.train.configs import Config
from w2v.train.data import Row, Selection
from w2v.train.watching import Watcher, last_figures

SAMPLES = 4
"""How many questions a run keeps, to verify a merged model with."""
_OLD_NAMES = ".*gradient_checkpointing.* is deprecated"
"""Said by transformers of calls that peft and trl make."""
_WRITING = ("PytorchStreamWriter", "inline_container", "iostream error")
"""What torch's writer of checkpoints says when a file cannot be written."""
TRACKERS = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a user asked for.

    Args:
        method: ``sft`` or ``grpo``.
        questions: Path as typed.
        student: As typed.
        output: Folder of the run.
        recipe: A name in ``recipes.RECIPES``.
        tune: One of ``configs.TUNES``.
        train_vision: Whether the eyes learn too, where all weights are trained.
        sets: ``key=value`` for TRL.
        selection: Which questions.
        holdout: Share of scenes to watch the loss on; None: the recipe's.
        max_length: Longest row in tokens, pictures included.
        seed: Of everything drawn; None: the recipe's.
        report_to: Trackers besides metrics.jsonl.
        rewards: ``grpo``: as typed.
        lambda_inverse: ``sft``: weight of the inverse direction (equation 4).
        lambda_forward: ``sft``: weight of the forward direction.
    """

    method: str
    questions: str
    student: str
    output: Path
    recipe: str = "default"
    tune: str = "lora"
    train_vision: bool = False
    sets: tuple[str, ...] = ()
    selection: Selection = Selection()
    holdout: float | None = None
    max_length: int = 8192
    seed: int | None = None
    report_to: tuple[str, ...] = ()
    rewards: tuple[Spec, ...] = ()
    lambda_inverse: float | None = None
    lambda_forward: float | None = None


def quiet_unless_first(settings: Settings) -> Settings:
    """Return settings with which only the first of several processes speaks and writes."""
    if configs.is_first_process():
        return settings
    return replace(settings, quiet=True, rejects=None, summary=None)


def emit(stage: Stage, record: Run | None) -> None:
    """Write the record of a finished run, from one process only."""
    if record is not None and configs.is_first_process():
        stage.write(record)


def configure(plan: Plan) -> Config:
    """Return the configuration that a plan asks for.

    Raises:
        BadOption: Parts of it do not go together.
        MissingPackage: A tracker, or what four-bit weights need, is not installed.
    """
    for name in plan.report_to:
        need(TRACKERS[name], TRACKERS[name])
    if plan.tune == "qlora":
        need("bitsandbytes", "w2v[qlora]")
    if plan.train_vision and plan.tune != "full":
        raise BadOption("--train-vision goes with --tune full", "adapters are on the language side")
    return configs.build(
        plan.method,
        plan.recipe,
        plan.sets,
        output=str(plan.output),
        tune=plan.tune,
        seed=plan.seed,
        holdout=plan.holdout,
        report_to=list(plan.report_to) or None,
    )


def learner(plan: Plan) -> Trainable:
    """Return the student, whose weights are not yet read.

    Raises:
        BadOption: It cannot be trained, or not in this way.
    """
    made = _spec(plan).make()
    if not isinstance(made, Trainable):
        raise BadOption(
            f"student {plan.student!r} cannot be trained", "it only answers: use it in w2v eval"
        )
    place = getattr(made, "path", "")
    if plan.tune == "full" and place and folders.is_adapter(Path(place)):
        raise BadOption(
            f"{place}: holds an adapter, so --tune full has no weights to train",
            f"w2v merge {place} -o MERGED, then --student MERGED",
        )
    return made


def _spec(plan: Plan) -> Spec:
    """Return the student as typed; the recipe says how it writes boxes if nothing else does."""
    spec = resolve.spec(plan.student)
    boxes = recipes.BOXES.get(plan.recipe)
    place = spec.options.get("path", "")
    stored = folders.settings(Path(place).expanduser()) if place else {}
    if not boxes or "boxes" in spec.options or stored.get("boxes"):
        return spec
    if "boxes" not in inspect.signature(spec.offer.make).parameters:
        return spec
    return replace(spec, options={**spec.options, "boxes": boxes})


def fingerprint(
    plan: Plan, student: Trainable, rows: Sequence[Row], config: Config
) -> dict[str, Any]:
    """Return all that the weights depend on, as plain JSON; another run differs in it."""
    described = student.describe() if isinstance(student, DescribesItself) else {}
    told = {k: v for k, v in student.settings.items() if k != "base"}
    told |= {k: described[k] for k in ("weights", "base") if k in described}  # digests, no paths
    return {
        "method": plan.method,
        "recipe": plan.recipe,
        "tune": plan.tune,
        "train_vision": plan.train_vision,
        "student": told,
        "questions": data.fingerprint(rows),
        "tasks": data.counts(rows),
        "lambda_inv": plan.lambda_inverse,
        "lambda_fwd": plan.lambda_forward,
        "rewards": [str(reward) for reward in plan.rewards],
        "max_length": plan.max_length,
        **config.fingerprint(),
    }


def load(plan: Plan, student: Trainable, config: Config, stage: Stage) -> tuple[Loaded, Any]:
    """Return the student with its weights, and the settings of a new adapter if it needs one.

    Seeds are set first, so that an adapter is drawn alike whatever happened before.
    """
    warnings.filterwarnings("ignore", _OLD_NAMES, FutureWarning)
    heads.install()
    transformers.set_seed(config.trainer.seed)
    loaded = student.load(training=True, **configs.loading(config, plan.tune))
    _check_handing_out(loaded.model)
    _name_own_layers(loaded.model)
    _keep_names(loaded.model)
    has_adapter = hasattr(loaded.model, "peft_config")
    if plan.tune == "full":
        _freeze(loaded, plan.train_vision)
    new = None
    if plan.tune != "full" and not has_adapter:
        new = configs.adapter(config, loaded.family.lora_targets)
    stage.detail(f"{type(loaded.model).__name__} from {loaded.folder}")
    return loaded, new


def _check_handing_out(model: torch.nn.Module) -> None:
    """Make sure that FSDP can give every process its part of what one process has read.

    Raises:
        BadOption: It cannot: weights hold buffers (accelerate 1.15, issue 3898).
    """
    wanted = ("ACCELERATE_USE_FSDP", "FSDP_CPU_RAM_EFFICIENT_LOADING")
    second = os.environ.get("FSDP_VERSION", "1") == "2"
    if not second or not all(parse_flag_from_env(name) for name in wanted):
        return
    if kept := sorted(model.state_dict().keys() & {name for name, _ in model.named_buffers()}):
        raise BadOption(
            f"FSDP cannot hand out {kept[0]}, a buffer, from one process",
            "accelerate launch --fsdp_cpu_ram_efficient_loading false, or the same in its config",
        )


def _name_own_layers(model: torch.nn.Module) -> None:
    """Let a model name only layers that it has as those that FSDP may shard.

    Gemma's classes also name layers of parts that a checkpoint may lack (text of SigLIP, audio),
    and accelerate refuses a name that it does not find (1.15, ``utils/fsdp_utils.py``,
    ``fsdp2_prepare_auto_wrap_policy``).
    """
    there = {type(module).__name__ for module in model.modules()}
    for module in model.modules():
        if isinstance(module, transformers.PreTrainedModel):
            module._no_split_modules = there & set(module._no_split_modules or ())


def _keep_names(model: torch.nn.Module) -> None:
    """Let weights be saved under the names that they were loaded from.

    Under ZeRO-3 transformers would undo renamings that it never did, and so write names that are
    not the hub's (5.23, ``integrations/deepspeed.py``, ``_load_state_dict_into_zero3_model``).
    """
    if done := getattr(model, "_weight_conversions", None):
        used = [c for c in done if c.was_used() or not isinstance(c, WeightRenaming)]
        model._weight_conversions = used


def _freeze(loaded: Loaded, train_vision: bool) -> None:
    """Let all weights learn but those of the eyes."""
    eyes = re.compile(loaded.family.vision)
    for name, weight in loaded.model.named_parameters():
        weight.requires_grad_(train_vision or not eyes.search(name))


def alone(plan: Plan) -> contextlib.AbstractContextManager[None]:
    """Return what keeps other runs out of the folder of this one, held by the first process."""
    first = configs.is_first_process()
    return runs.alone(plan.output) if first else contextlib.nullcontext()


def keep_whole(trainer: Any) -> None:
    """Keep what is trained in float32, where TRL halves adapters of four-bit weights.

    DeepSpeed and FSDP hold weights of their own, and want all of one type.
    """
    if not (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled):
        for weight in trainer.model.parameters():
            if weight.requires_grad and weight.dtype in (torch.bfloat16, torch.float16):
                weight.data = weight.data.float()


# ── the run ───────────────────────────────────────────────────────────────────────────────────


def run(trainer: Any, plan: Plan, told: Mapping[str, Any], stage: Stage) -> None:
    """Train from the last whole checkpoint, or from the start, to the end.

    Args:
        trainer: A ``Resumable`` one.
        plan: As asked.
        told: What ``w2v.json`` says beside the weights.
        stage: To speak through.

    Raises:
        SystemExit: 75, after a checkpoint, where a signal asked to stop.
        W2VError: Out of memory.
    """
    trainer.take_over(told)
    keep_whole(trainer)
    stopper = Stopper()
    trainer.add_callback(stopper)
    Watcher.replace_printers(trainer, Watcher(stage, plan.output))
    start, torn = checkpoints.latest(plan.output)
    for path in torn:
        stage.log(f"{path.name} is not whole: passed over")
    if start:
        stage.log(f"going on from {start.name}")
    with (
        stopper.listening(),
        memory_advice(plan, trainer.args),
        disk_advice(plan.output),
        as_said_at_first(),
    ):
        trainer.train(resume_from_checkpoint=str(start) if start else None)
    if stopper.stopped:
        step = trainer.state.global_step
        stage.log(f"stopped after step {step}, saved; run the same command again to go on")
        raise SystemExit(INTERRUPTED)


def finish(
    trainer: Any,
    plan: Plan,
    settings: Mapping[str, Any],
    train: Sequence[Row],
    held: Sequence[Row],
    stage: Stage,
    dtype: Any = None,
) -> Run:
    """Write the weights, samples and card into the run's folder, and return the record.

    What makes the folder loadable as a student is moved into it last.
    """
    staging = plan.output / checkpoints.STAGING
    _keep_policy_only(trainer)
    with disk_advice(plan.output):
        trainer.save_model(str(staging))
    trainer.accelerator.wait_for_everyone()
    licences = sorted({licence for row in (*train, *held) for licence in row.question.licences})
    record = Run(
        id=f"{plan.output.resolve().name}-{digest(settings)[:8]}",
        method=plan.method,
        student=plan.student,
        checkpoint=place_name(plan.output, stage.settings.root),
        trained_on=plan.questions,
        settings=dict(settings) | {"held_out": len(held)},
        metrics=_metrics(plan.output),
        meta={"licences": licences, "teachers": _teachers(train), **cards.versions()},
    )
    if trainer.is_world_process_zero():
        (staging / "training_args.bin").unlink(missing_ok=True)
        if dtype not in (None, torch.float32):
            cast(staging, dtype)
        _move_in(staging, plan.output)
        chosen = list(data.in_order([*held, *train], lambda row: row.question.task_type))
        runs.save_samples(plan.output, [row.question for row in chosen[:SAMPLES]])
        cards.write(plan.output, record, trainer.told, data.counts(train))
        runs.finish(plan.output, settings, record)
    trainer.accelerator.wait_for_everyone()
    return record


def _keep_policy_only(trainer: Any) -> None:
    """Take out the frozen copy of the adapter that grpo measures the KL term against."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if "ref" in getattr(model, "peft_config", {}):
        model.delete_adapter("ref")


def _move_in(staging: Path, home: Path) -> None:
    """Move files into the run's folder; those by which a folder is known as a model come last."""
    last = (folders.CONFIG, folders.ADAPTER)
    files = sorted(staging.iterdir(), key=lambda p: (p.name in last, p.name))
    for file in files:
        checkpoints.place(file, home / file.name)
    staging.rmdir()


def place_name(folder: Path, root: Path) -> str:
    """Return a folder as records name it: relative to the root where it lies in it."""
    try:
        return paths.relative(root, folder)
    except OutsideRoot:
        return str(folder)


def _metrics(folder: Path) -> dict[str, Any]:
    last = last_figures(folder / runs.METRICS)
    return {key: value for key, value in last.items() if isinstance(value, int | float)}


def _teachers(rows: Sequence[Row]) -> list[str]:
    return sorted({row.question.teacher for row in rows if row.question.teacher})


def cast(folder: Path, dtype: torch.dtype) -> None:
    """Write the weights in a folder again, in another type."""
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as old:
            about = old.metadata()
            weights = {key: old.get_tensor(key) for key in old.keys()}
        halved = {k: w.to(dtype) if w.is_floating_point() else w for k, w in weights.items()}
        save_file(halved, file, metadata=about)
    config = folder / folders.CONFIG
    told = json.loads(config.read_text(encoding="utf-8"))
    name = str(dtype).removeprefix("torch.")
    stream.write_atomic(config, json.dumps(_renamed(told, name), indent=2) + "\n")


def _renamed(config: Any, dtype: str) -> Any:
    """Return a configuration in which every part names another type."""
    if not isinstance(config, dict):
        return config
    return {k: dtype if k == "dtype" else _renamed(v, dtype) for k, v in config.items()}


@contextlib.contextmanager
def memory_advice(plan: Plan, args: Any) -> Iterator[None]:
    """Turn running out of memory into advice with numbers."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise W2VError(f"out of memory: {_first(error)}", _advice(plan, args)) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise W2VError(f"out of memory: {_first(error)}", _advice(plan, args)) from error


@contextlib.contextmanager
def disk_advice(folder: Path) -> Iterator[None]:
    """Turn what torch and safetensors say of a full disk into a message."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in _WRITING):
            raise
        raise BadFile(
            f"{folder}: could not be written ({_first(error)})",
            "free some space and run the same command again; it continues",
        ) from error


@contextlib.contextmanager
def as_said_at_first() -> Iterator[None]:
    """Let what a worker process met be said without its traceback."""
    try:
        yield
    except BadFile as error:
        _, met, first = error.what.rpartition(f"{BadFile.__name__}: ")
        if not met:
            raise
        what, _, hint = first.strip().partition("\n  hint: ")
        raise BadFile(what, hint) from error


def _first(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _advice(plan: Plan, args: Any) -> str:
    """Return the settings that lower memory most, with values."""
    batch, steps = args.per_device_train_batch_size, args.gradient_accumulation_steps
    ideas = []
    if batch > 1:
        ideas.append(
            f"--set per_device_train_batch_size={max(1, batch // 2)} "
            f"--set gradient_accumulation_steps={steps * 2}"
        )
    ideas.append(f"a smaller image_tokens=N in --student {plan.student.partition(':')[0]}:…")
    if not args.activation_checkpointing:
        ideas.append("--set activation_checkpointing=true")
    if plan.method == "grpo":
        ideas.append(f"--set max_completion_length={max(16, args.max_completion_length // 2)}")
    if plan.tune != "qlora":
        ideas.append("--tune qlora" if plan.tune == "lora" else "--tune lora")
    return "; or ".join(ideas)


def base_dtype(student: Trainable) -> Any:
    """Return the type that the student's weights have on disk, None where it does not say."""
    return hf.dtype_of(str(student.settings.get("base", "")))


def first_prompts(rows: Sequence[Row], student: Trainable, show: Callable[[str], None]) -> None:
    """Show one rendered prompt of each task, as the student will see it."""
    for row in data.in_order(rows, lambda row: row.question.task_type):
        text = student.processor.apply_chat_template(
            row.turns[:-1], tokenize=False, add_generation_prompt=True
        )
        show(f"{row.question.task_type}: {text!r} -> {row.turns[-1]['content'][-1]['text']!r}")
