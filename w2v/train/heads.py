"""The last layer only where it counts, on a CPU too.

TRL scores the tokens that have a label alone on devices with Triton; elsewhere it scores every
token, so that shapes stay alike for compilers, and throws most of that away (trl 1.16,
``trainer/utils.py``, ``add_fused_lm_head``). An answer is a tenth of a row of ours, or less.
"""

from __future__ import annotations

from typing import Any

from trl.kernels import chunked_logprob
from trl.trainer import utils


def install() -> None:
    """Let TRL's head leave out tokens without a label on a CPU as on a GPU."""
    utils._use_triton = _leaves_out


def _leaves_out(device: Any) -> bool:
    return bool(device.type == "cpu" or chunked_logprob._use_triton(device))
