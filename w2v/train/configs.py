"""From a recipe and ``--set key=value`` to TRL's own configuration."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
from peft import LoraConfig
from transformers import BitsAndBytesConfig, HfArgumentParser
from trl import GRPOConfig, ModelConfig, SFTConfig

from w2v.errors import BadOption
from w2v.train import recipes

CONFIGS: dict[str, type[Any]] = {"sft": SFTConfig, "grpo": GRPOConfig}
TUNES = ("lora", "full", "qlora")
TAKEN = {
    "output_dir": "-o",
    "max_length": "--max-length",
    "model_name_or_path": "--student",
    "use_peft": "--tune",
    "load_in_4bit": "--tune qlora",
    "resume_from_checkpoint": "the same command, which continues",
    "packing": "",
    "remove_unused_columns": "",
    "completion_only_loss": "",
    "assistant_only_loss": "",
    "average_tokens_across_devices": "",
    "push_to_hub": "",
    "enable_jit_checkpoint": "",
}
"""TRL's settings that w2v decides, and what to use instead, if anything."""


RENAMED = {"gradient_checkpointing": "activation_checkpointing"}
"""Old names of settings, which transformers still takes but warns about."""
ALIKE = ("bf16", "fp16", "per_device_train_batch_size", "gradient_accumulation_steps")
"""What the machine decides and the weights depend on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What to train with.

    Args:
        trainer: TRL's configuration.
        lora: TRL's settings of adapters, quantization and attention.
        own: The recipe's keys that are not TRL's.
        told: All that differs from TRL's defaults, as plain JSON, for the record.
    """

    trainer: Any
    lora: ModelConfig
    own: Mapping[str, Any]
    told: Mapping[str, Any]

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings that the weights depend on."""
        return {k: v for k, v in self.told.items() if k not in recipes.NEUTRAL}


def build(
    method: str, recipe: str, typed: Sequence[str], *, output: str, tune: str, **fixed: Any
) -> Config:
    """Return the configuration for a method: the recipe, then what was typed, then ``fixed``.

    Args:
        method: ``sft`` or ``grpo``.
        recipe: A name in ``recipes.RECIPES``.
        typed: ``key=value`` each, read by TRL's own parser.
        output: Folder of the run.
        tune: One of ``TUNES``.
        fixed: Keys that the caller has decided.

    Raises:
        BadOption: A key is unknown or not to be set, or TRL refuses a value.
    """
    known = recipes.RECIPES[method]
    if recipe not in known:
        raise BadOption(f"no recipe is called {recipe!r}", f"known: {', '.join(known)}")
    chosen = dict(known[recipe])
    if tune == "full" and recipe == "default" and method == "sft":
        chosen |= recipes.FULL
    user = read(method, typed, chosen)
    values = {**chosen, **user, **{k: v for k, v in fixed.items() if v is not None}}
    # Else the order of rows would hang on what happened to be drawn before.
    values.setdefault("data_seed", values["seed"])
    own = {key: values.pop(key) for key in recipes.OWN if key in values}
    machine = _machine(user)
    values |= _batch(values, own, user) | machine
    told = {k: v for k, v in values.items() if k in chosen or k in user or k in ALIKE} | own
    lora = {key: values.pop(key) for key in list(values) if key in _fields(ModelConfig)}
    if method == "sft":
        values |= {"max_length": None, "completion_only_loss": True}
    try:
        trainer = CONFIGS[method](output_dir=output, remove_unused_columns=False, **values)
        return Config(trainer=trainer, lora=ModelConfig(**lora), own=own, told=_plain(told))
    except (ValueError, TypeError) as error:
        raise BadOption(f"TRL refuses the settings: {error}", "see --set and --recipe") from error


def read(method: str, typed: Sequence[str], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was typed as ``key=value``, as TRL's parser reads it."""
    parser = _Parser([CONFIGS[method], ModelConfig])
    actions = {action.dest: action for action in parser._actions}
    found: dict[str, Any] = {}
    for text in typed:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        key = RENAMED.get(key, key)
        if not equals:
            raise BadOption(f"--set {text!r} is not KEY=VALUE")
        if key in TAKEN or (method, key) == ("sft", "loss_type"):
            instead = f"use {TAKEN[key]}" if TAKEN.get(key) else "w2v decides it"
            raise BadOption(f"--set {key}: not to be set", instead)
        if key in recipes.OWN and key in recipe:
            found[key] = _own(key, value, recipe[key])
        elif key not in actions or key == "help":
            raise BadOption(f"--set {key}: TRL has no such setting", _near(key, actions))
        else:
            words = value.split(",") if actions[key].nargs in ("+", "*") else [value]
            line = [f"--{key}={value}"] if len(words) == 1 else [f"--{key}", *words]
            found[key] = getattr(parser.parse_args(line), key)
    return found


def _own(key: str, value: str, like: Any) -> Any:
    """Return the value of a key that is not TRL's, of the type that it has in the recipe."""
    try:
        return type(like)(value)
    except ValueError as error:
        raise BadOption(f"--set {key} should be {type(like).__name__}, got {value!r}") from error


def _near(key: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(key, [*known, *recipes.OWN], n=1)
    return f"did you mean {close[0]!r}?" if close else "see TRL's documentation for its settings"


class _Parser(HfArgumentParser):  # type: ignore[misc]
    """TRL's parser, which reports a wrong value instead of printing 190 options and leaving."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting."""
        raise BadOption(f"--set: {message.removeprefix('argument --')}")


def processes() -> int:
    """Return how many processes train together."""
    return max(1, int(os.environ.get("WORLD_SIZE", "1")))


def is_first_process() -> bool:
    """Return whether this process is the one that writes."""
    return int(os.environ.get("RANK", "0")) == 0


def _batch(
    values: Mapping[str, Any], own: Mapping[str, Any], user: Mapping[str, Any]
) -> dict[str, int]:
    """Return batch and accumulation so that an update sees ``rows_per_step`` rows.

    What the user set stays; so a recipe means the same on one device and on eight.
    """
    rows, devices = int(own["rows_per_step"]), processes()
    batch = int(values["per_device_train_batch_size"])
    if "per_device_train_batch_size" not in user:
        batch = max(1, min(batch, rows // devices))
    steps = int(user.get("gradient_accumulation_steps", max(1, rows // (batch * devices))))
    return {"per_device_train_batch_size": batch, "gradient_accumulation_steps": steps}


def _machine(user: Mapping[str, Any]) -> dict[str, Any]:
    """Return what this machine needs; on a CPU nothing is recomputed, and halved on demand."""
    tidy: dict[str, Any] = {"disable_tqdm": True}
    if "report_to" not in user:
        tidy["report_to"] = "none"
    if torch.cuda.is_available() and not user.get("use_cpu"):
        halves = torch.cuda.is_bf16_supported()
    else:
        tidy |= {"use_cpu": True, "dataloader_pin_memory": False}
        halves = False  # few CPUs gain from it; on one that does, it may be asked for
    if not halves and "bf16" not in user:
        tidy["bf16"] = False
    if "activation_checkpointing" not in user:
        tidy["activation_checkpointing"] = not tidy.get("use_cpu", False)
    return tidy


def _fields(config: type[Any]) -> set[str]:
    return {field.name for field in dataclasses.fields(config)}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as plain JSON; enumerations by their text."""
    kept = (str, int, float, bool, list, dict, type(None))
    return {key: v if isinstance(v, kept) else str(v) for key, v in sorted(values.items())}


# ── adapters and weights ──────────────────────────────────────────────────────────────────────


def adapter(config: Config, targets: str) -> LoraConfig:
    """Return the settings of a new adapter.

    Args:
        config: With ``lora_r`` and the like.
        targets: Regex over module names, where the user named none.
    """
    lora = config.lora
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.lora_r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        bias="none",
        target_modules=lora.lora_target_modules or targets,
        modules_to_save=lora.lora_modules_to_save,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
    )


def loading(config: Config, tune: str) -> dict[str, Any]:
    """Return how to load the weights: their type, and how to quantize them.

    An update of one part in a thousand is lost in bfloat16, which keeps eight bits; so weights
    that are trained are kept in float32, and only the arithmetic is halved. Frozen ones are not.
    """
    halved = "bfloat16" if config.trainer.bf16 else "float16" if config.trainer.fp16 else ""
    wanted = config.lora.dtype
    if tune == "full":
        dtype = "float32"
    else:
        dtype = wanted if wanted not in (None, "auto", "float32") else halved or "float32"
    more: dict[str, Any] = {"dtype": dtype}
    if config.lora.attn_implementation:
        more["attn_implementation"] = config.lora.attn_implementation
    if tune == "qlora":
        more |= _quantized(config.lora, dtype)
    return more


def _quantized(lora: ModelConfig, dtype: str) -> dict[str, Any]:
    """Return how to load weights in four bits (arXiv 2305.14314)."""
    four = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=lora.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=lora.use_bnb_nested_quant,
        bnb_4bit_compute_dtype=dtype,
    )
    more: dict[str, Any] = {"quantization_config": four}
    if torch.cuda.is_available():
        more["device_map"] = {"": int(os.environ.get("LOCAL_RANK", "0"))}
    return more
