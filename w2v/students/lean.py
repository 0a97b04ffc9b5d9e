"""The forward pass of a Qwen2.5-VL for pictures of one size, without what other sizes need.

The real classes walk through pictures one by one, and on a CPU their attention and their cutting
of pictures are slow to learn through. These functions compute the same numbers from the same
weights several times as fast, and ``torch.compile`` fuses them. They hold where all pictures of a
batch are squares of one size, every vision layer sees all of a picture, and, for ``read``, rows
are padded on the right.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

import numpy as np

from w2v import torchvision_cpu

torchvision_cpu.install()

import torch  # noqa: E402
from torch.nn import functional  # noqa: E402
from transformers.modeling_outputs import BaseModelOutputWithPooling  # noqa: E402
from transformers.vision_utils import get_vision_position_ids  # noqa: E402

Rotation = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines of the rotary embedding, each (positions, head)."""


# ── what goes in ──────────────────────────────────────────────────────────────────────────────


def patches(frames: Sequence[np.ndarray], settings: Any) -> torch.Tensor:
    """Return frames (S, S, 3) uint8 as the family's image processor would, without resizing.

    Args:
        frames: S a multiple of two patches, and no more than the budget of tokens allows.
        settings: The image processor.

    Returns:
        (P, patches, values of a patch). Patches that become one token stand together; a picture
        stands for two frames in time.
    """
    patch, merge, times = settings.patch_size, settings.merge_size, settings.temporal_patch_size
    pixels = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (settings.image_mean, settings.image_std))
    number, channels, side, _ = pixels.shape
    grid = side // (patch * merge)
    cut = ((pixels - mean) / std).view(number, channels, *(grid, merge, patch) * 2)
    cut = cut.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
    cut = cut.expand(*cut.shape[:6], times, patch, patch)
    return cut.reshape(number, (grid * merge) ** 2, -1)


def vision_rotation(visual: Any, grid: int) -> Rotation:
    """Return the rotation of the patches of one picture of ``grid`` by ``grid`` tokens."""
    merge = visual.spatial_merge_size
    shape = torch.tensor([[1, merge * grid, merge * grid]])
    cos, sin = visual.rotary_pos_emb(torch.zeros(1), get_vision_position_ids(shape, merge))
    return cos, sin


def text_rotation(model: Any, ids: Sequence[int], image: int, grid: int, pictures: int) -> Rotation:
    """Return the rotation of a row's tokens.

    Args:
        model: With the processor's own way to count positions.
        ids: Of the row.
        image: The id that stands for a token of a picture.
        grid: Tokens along a picture's side.
        pictures: In the row.
    """
    row = torch.tensor([ids])
    merge = model.visual.spatial_merge_size
    shape = torch.tensor([[1, merge * grid, merge * grid]] * pictures)
    places, _ = model.get_rope_index(
        row, (row == image).int(), image_grid_thw=shape, attention_mask=torch.ones_like(row)
    )
    cos, sin = model.language_model.rotary_emb(torch.zeros(1), places)
    return cos[0], sin[0]


# ── what is computed ──────────────────────────────────────────────────────────────────────────


def see(visual: Any, cut: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """Return the tokens (P, tokens, width) of pictures (P, patches, values of a patch)."""
    told = functional.linear(cut, visual.patch_embed.proj.weight.flatten(1))
    number, length, width = told.shape
    for block in visual.blocks:
        heads = block.attn.num_heads
        parts = block.attn.qkv(_norm(told, block.norm1)).view(number, length, 3, heads, -1)
        mixed = _attend(parts.permute(2, 0, 3, 1, 4).unbind(0), rotation, causal=False)
        told = told + block.attn.proj(mixed)
        told = told + _mix(_norm(told, block.norm2), block.mlp)
    merge = visual.spatial_merge_size**2
    return visual.merger.mlp(_norm(told, visual.merger.ln_q).reshape(number, length // merge, -1))


def read(language: Any, told: torch.Tensor, rotation: Rotation) -> tuple[torch.Tensor, ...]:
    """Return the hidden states (rows, length, width) of embedded rows after each layer.

    Those after the last are normalised, as the head reads them.
    """
    rows, length, _ = told.shape
    states_after = []
    for layer in language.layers:
        attention = layer.self_attn
        states = _norm(told, layer.input_layernorm)
        parts = [
            project(states).view(rows, length, -1, attention.head_dim).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        ]
        told = told + attention.o_proj(_attend(parts, rotation, causal=True))
        told = told + _mix(_norm(told, layer.post_attention_layernorm), layer.mlp)
        states_after.append(told)
    return *states_after[:-1], _norm(told, language.norm)


def _attend(parts: Sequence[torch.Tensor], rotation: Rotation, *, causal: bool) -> torch.Tensor:
    """Return what heads gather, as (batch, length, width).

    Args:
        parts: Queries, keys and values, each (batch, heads, length, head).
        rotation: Of the places.
        causal: Whether later places are out of sight.
    """
    query, key, value = parts
    query, key = (_rotate(part.float(), *rotation).to(value.dtype) for part in (query, key))
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (part.repeat_interleave(groups, 1) for part in (key, value))
    # Written out: the fused kernel for a CPU takes several times as long to go backwards.
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if causal:
        length = query.shape[-2]
        later = torch.ones(length, length, dtype=torch.bool, device=query.device).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
    gathered = scores.float().softmax(-1).to(value.dtype) @ value
    return gathered.transpose(1, 2).flatten(2)


def _rotate(part: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    one, two = part.chunk(2, -1)
    return part * cos + torch.cat((-two, one), -1) * sin


def _norm(told: torch.Tensor, norm: Any) -> torch.Tensor:
    wide = told.float()
    return norm.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, True) + norm.variance_epsilon))


def _mix(told: torch.Tensor, mlp: Any) -> torch.Tensor:
    return mlp.down_proj(functional.silu(mlp.gate_proj(told)) * mlp.up_proj(told))


# ── in place of the real one ──────────────────────────────────────────────────────────────────


def install(model: Any) -> None:
    """Let the vision side of a Qwen2.5-VL take the short way wherever it holds."""
    visual = model.model.visual
    visual.forward = types.MethodType(_forward, visual)  # bound, so that a copy is its own


def _forward(visual: Any, hidden_states: torch.Tensor, grid_thw: torch.Tensor, **named: Any) -> Any:
    shapes = grid_thw.unique(dim=0)
    square = len(shapes) == 1 and shapes[0, 0] == 1 and shapes[0, 1] == shapes[0, 2]
    everywhere = len(visual.fullatt_block_indexes) == len(visual.blocks)
    if not (everywhere and square) or named.get("output_hidden_states"):
        return type(visual).forward(visual, hidden_states, grid_thw, **named)
    cos, sin = vision_rotation(visual, int(shapes[0, 1]) // visual.spatial_merge_size)
    weights = visual.patch_embed.proj.weight
    cut = hidden_states.to(weights.dtype).view(len(grid_thw), -1, weights[0].numel())
    seen = see(visual, cut, (cos.to(weights.device), sin.to(weights.device)))
    return BaseModelOutputWithPooling(last_hidden_state=None, pooler_output=seen.flatten(0, 1))
