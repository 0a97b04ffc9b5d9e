"""Settings worth a name, as plain data: keys are TRL's own, but for the three of ``OWN``.

A recipe is chosen with ``--recipe``, and ``--set key=value`` wins over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OWN = ("rows_per_step", "holdout", "reward")
"""Keys that are not TRL's.

``rows_per_step`` is what one update of the weights sees, over all processes and accumulation
steps: questions for ``sft``, responses for ``grpo``. ``holdout`` is the share of scenes that the
loss is watched on. ``reward`` grades the responses.
"""

Recipe = dict[str, Any]

_ALWAYS: Recipe = {
    "seed": 42,
    "bf16": True,
    "lr_scheduler_type": "cosine",
    "num_train_epochs": 1,
    "logging_steps": 10,
    "save_strategy": "steps",
    "save_steps": 200,
    "save_total_limit": 2,
    "eval_strategy": "epoch",
    "lora_dropout": 0.05,
}

SFT: Mapping[str, Recipe] = {
    "default": _ALWAYS
    | {
        "learning_rate": 1e-4,
        "warmup_steps": 0.03,
        "per_device_train_batch_size": 8,
        "rows_per_step": 64,
        "lora_r": 32,
        "lora_alpha": 64,
        "holdout": 0.01,
    },
    # arXiv 2604.26934, appendix E. Learning rate, weight decay and batch (8 a device, 8 devices,
    # accumulation 2) are those of the authors' script, which the paper does not print. The number
    # of epochs is printed nowhere.
    "world2vlm": _ALWAYS
    | {
        "learning_rate": 1e-5,
        "weight_decay": 0.1,
        "warmup_steps": 0.05,
        "per_device_train_batch_size": 8,
        "rows_per_step": 128,
        "lora_r": 256,
        "lora_alpha": 512,
        "holdout": 0.01,
    },
}

_ROLLOUTS: Recipe = {
    "num_generations": 4,
    "max_completion_length": 256,
    "temperature": 1.0,
    "loss_type": "grpo",
    "scale_rewards": "group",
    "per_device_train_batch_size": 8,
    "save_steps": 50,
    # With dropout on, a policy differs from itself, and the KL term would measure that.
    "disable_dropout": True,
    "eval_strategy": "no",
    "holdout": 0.0,
}

GRPO: Mapping[str, Recipe] = {
    "default": _ALWAYS
    | _ROLLOUTS
    | {
        "learning_rate": 5e-6,
        "warmup_steps": 0.03,
        "beta": 0.01,
        "num_generations": 8,
        "rows_per_step": 64,
        "lora_r": 32,
        "lora_alpha": 64,
        "reward": "robust",
    },
    # arXiv 2604.26934, appendix C: four rollouts, a batch of 2 prompts, KL 0.01 against the SFT
    # policy, one epoch over a balanced set of 1,000 (w2v validate --balance grpo). Their reward
    # gives -1 beyond 200 characters; responses of 256 tokens are those of the authors' script.
    "world2vlm": _ALWAYS
    | _ROLLOUTS
    | {
        "learning_rate": 2e-6,
        "lr_scheduler_type": "constant",
        "beta": 0.01,
        "rows_per_step": 8,
        "lora_r": 256,
        "lora_alpha": 512,
        "reward": "world2vlm",
    },
}

RECIPES: Mapping[str, Mapping[str, Recipe]] = {"sft": SFT, "grpo": GRPO}

BOXES: Mapping[str, str] = {"world2vlm": "grid"}
"""How a student that no training has taught a way writes boxes; else as its family does.

The paper asks every student for numbers from 0 to 1000 (arXiv 2604.26934, appendix B).
"""

FULL: Recipe = {"learning_rate": 1e-5}
"""What changes in the default recipe where all weights are trained."""

NEUTRAL = frozenset(
    {
        "report_to",
        "run_name",
        "disable_tqdm",
        "log_level",
        "logging_dir",
        "logging_steps",
        "logging_strategy",
        "logging_first_step",
        "save_steps",
        "save_strategy",
        "save_total_limit",
        "dataloader_num_workers",
        "dataloader_prefetch_factor",
        "dataloader_pin_memory",
        "use_cpu",
    }
)
"""Settings that may change when a run is taken up again: they leave the weights as they are."""
