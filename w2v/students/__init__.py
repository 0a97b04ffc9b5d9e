"""Students that come with w2v: three families of vision-language models, a tiny one, an endpoint.

A manifest: light to import. Each factory imports its heavy half when it is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from w2v import hookimpl
from w2v.kinds import Offer, Student
from w2v.plugins import need

if TYPE_CHECKING:
    from w2v.students.hf import HFStudent

TRAINS = frozenset({"trains"})
BASE = Path(__file__).parent / "base"
"""The base of ``tiny`` that comes with w2v."""


@hookimpl
def w2v_students() -> Mapping[str, Offer]:
    """Offer the built-in students."""
    return {
        "qwen2.5-vl": Offer(
            make=make_qwen, licence="Apache-2.0 (7B, 32B; others: see their cards)", can=TRAINS
        ),
        "gemma": Offer(make=make_gemma, licence="Gemma terms (3), Apache-2.0 (4)", can=TRAINS),
        "internvl": Offer(make=make_internvl, licence="Apache-2.0", can=TRAINS),
        "tiny": Offer(make=make_tiny, licence="Apache-2.0", may_train=True, can=TRAINS),
        "openai": Offer(make=make_openai, licence="see the terms of the endpoint"),
    }


def make_qwen(
    path: str = "Qwen/Qwen2.5-VL-7B-Instruct",
    image_tokens: int = 0,
    boxes: str = "",
    base: str = "",
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    seed: int = 0,
    batch: int = 8,
    device: str = "auto",
    dtype: str = "auto",
    attention: str = "",
) -> Student:
    """Answer with a Qwen2.5-VL; boxes in pixels of the resized picture.

    Args:
        path: Folder or hub id.
        image_tokens: Most tokens a picture may take; 0: as stored with the checkpoint, else 1280.
        boxes: ``pixels`` (as the family was trained) or ``grid`` (0-1000, as the paper asks it).
        base: Folder or hub id of an adapter's base, where it has moved.
        max_new_tokens: Longest response.
        temperature: 0 for greedy; above it, sampling with ``seed``.
        seed: Of the sampling; each question is drawn for itself.
        batch: Questions answered together.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` …
        dtype: ``auto``: the checkpoint's own, but float32 on a CPU.
        attention: ``sdpa``, ``eager``, ``flash_attention_2`` …; default: as transformers picks.
    """
    return _student("qwen2.5-vl", locals())


def make_gemma(
    path: str = "google/gemma-4-E4B-it",
    image_tokens: int = 0,
    boxes: str = "",
    base: str = "",
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    seed: int = 0,
    batch: int = 8,
    device: str = "auto",
    dtype: str = "auto",
    attention: str = "",
) -> Student:
    """Answer with a Gemma 3 or Gemma 4; boxes on the grid 0-1000.

    ``image_tokens``: Gemma 3 always takes 256, Gemma 4 one of 70, 140, 280, 560, 1120. Other
    options as for ``qwen2.5-vl``.
    """
    return _student("gemma", locals())


def make_internvl(
    path: str = "OpenGVLab/InternVL3_5-8B-HF",
    image_tokens: int = 0,
    boxes: str = "",
    base: str = "",
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    seed: int = 0,
    batch: int = 8,
    device: str = "auto",
    dtype: str = "auto",
    attention: str = "",
) -> Student:
    """Answer with an InternVL 3 or 3.5 in the format of transformers (its name ends in -HF).

    Boxes on the grid 0-1000. ``image_tokens``: 256 a tile; 256 shows one tile, 768 and more
    several tiles and a thumbnail. Other options as for ``qwen2.5-vl``.
    """
    return _student("internvl", locals())


def make_tiny(
    path: str = "",
    image_tokens: int = 0,
    boxes: str = "",
    base: str = "",
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    batch: int = 64,
    device: str = "auto",
    dtype: str = "auto",
    attention: str = "",
    compile: bool = False,
) -> Student:
    """Answer with w2v's own small model of the Qwen2.5-VL classes; boxes on the grid 0-1000.

    ``path``: a folder made by ``w2v.students.tiny.build`` or a checkpoint; default: the base that
    comes with w2v. ``compile``: fuse what is computed on a CPU, which takes a C++ compiler and
    half a minute at first. Other options as for ``qwen2.5-vl``.
    """
    return _student("tiny", locals() | {"path": path or str(BASE)})


def make_openai(
    base_url: str,
    model: str,
    key_env: str = "OPENAI_API_KEY",
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    concurrency: int = 8,
    timeout: float = 120.0,
    retries: int = 5,
    limit: str = "max_tokens",
) -> Student:
    """Ask an OpenAI-compatible endpoint; for evaluation only.

    Args:
        base_url: Up to the version, such as ``http://localhost:8000/v1``.
        model: Name that the endpoint knows.
        key_env: Environment variable that holds the key; an unset one sends none.
        max_new_tokens: Longest response.
        temperature: 0 for as greedy as the endpoint can be.
        concurrency: Questions under way at a time.
        timeout: Seconds to wait for one response.
        retries: Further tries after the endpoint was busy, broken or out of reach.
        limit: What the endpoint calls the length limit (or ``max_completion_tokens``).
    """
    from w2v.students.api import ApiStudent

    return ApiStudent(
        base_url=base_url,
        model=model,
        key_env=key_env,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        concurrency=concurrency,
        timeout=timeout,
        retries=retries,
        limit=limit,
    )


def _student(name: str, options: dict[str, Any]) -> HFStudent:
    """Build the student of a family."""
    for package in ("torch", "torchvision", "transformers", "PIL"):
        need(package, "w2v[students]")
    from w2v.students.hf import HFStudent, Options

    return HFStudent(name, Options(**options))
