"""The forward pass of a Qwen2.5-VL for pictures of one size, without what other sizes need.

The real classes walk through pictures one by one, and on a CPU their attention and their cutting
of pictures are slow to learn through. These functions compute the same numbers from the same
weights several times as fast, and ``torch.compile`` fuses them. ``Way.see`` holds where all
pictures of a batch are squares of one size and every vision layer sees all of a picture,
``Way.read`` where nothing is kept for tokens to come.
"""

from __future__ import annotations

import hashlib
import types
from collections.abc import Sequence
from typing import Any

import numpy as np

from w2v import torchvision_cpu

torchvision_cpu.install()

import torch  # noqa: E402
from torch.nn import functional  # noqa: E402
from transformers.modeling_outputs import (  # noqa: E402
    BaseModelOutputWithPast,
    BaseModelOutputWithPooling,
)
from transformers.vision_utils import get_vision_position_ids  # noqa: E402

Rotation = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines of the rotary embedding, each (positions, head), or with a batch before."""


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


def later(length: int, device: Any) -> torch.Tensor:
    """Return, of a row's places (length, length), whether the second comes after the first."""
    return torch.ones(length, length, dtype=torch.bool, device=device).triu(1)


# ── what is computed ──────────────────────────────────────────────────────────────────────────


class Way:
    """The computation, layer by layer; what a layer does is fused where that was asked for.

    Args:
        compiled: Whether to fuse; takes a C++ compiler, and half a minute at first.
    """

    def __init__(self, *, compiled: bool = False) -> None:
        self._look, self._think = _look, _think
        if compiled:  # one layer is compiled, and serves for all
            # Parts of one layer are too small to be exchanged alone, and cutting it fails where
            # its lengths vary (torch 2.13).
            torch._dynamo.config.optimize_ddp = False
            self._look, self._think = (torch.compile(f, dynamic=True) for f in (_look, _think))

    def see(self, visual: Any, cut: torch.Tensor, rotation: Rotation) -> torch.Tensor:
        """Return the tokens (P, tokens, width) of pictures (P, patches, values of a patch)."""
        told = functional.linear(cut, visual.patch_embed.proj.weight.flatten(1))
        number, length, _ = told.shape
        for block in visual.blocks:
            told = self._look(block, told, rotation)
        merged = visual.spatial_merge_size**2
        shown = _norm(told, visual.merger.ln_q).reshape(number, length // merged, -1)
        seen: torch.Tensor = visual.merger.mlp(shown)
        return seen

    def read(
        self,
        language: Any,
        told: torch.Tensor,
        rotation: Rotation,
        unseen: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Return the hidden states (rows, length, width) of embedded rows after each layer.

        Those after the last are normalised, as the head reads them.

        Args:
            language: The language side.
            told: The rows, (rows, length, width).
            rotation: Of their places, (length, head) or (rows, 1, length, head).
            unseen: Whether a place (row) may not look at another (column), (length, length) or
                (rows, 1, length, length); each sees one at least.
        """
        halved = torch.is_autocast_enabled(told.device.type)
        dtype = torch.get_autocast_dtype(told.device.type) if halved else told.dtype
        added = torch.zeros_like(unseen, dtype=dtype).masked_fill(unseen, float("-inf"))
        states_after = []
        for layer in language.layers:
            told = self._think(layer, told, rotation, added)
            states_after.append(told)
        return *states_after[:-1], _norm(told, language.norm)


def _look(block: Any, told: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """Return what a layer of the vision side makes of (P, patches, width)."""
    number, length, _ = told.shape
    heads = block.attn.num_heads
    parts = block.attn.qkv(_norm(told, block.norm1)).view(number, length, 3, heads, -1)
    told = told + block.attn.proj(_attend(parts.permute(2, 0, 3, 1, 4).unbind(0), rotation))
    return told + _mix(_norm(told, block.norm2), block.mlp)


def _think(layer: Any, told: torch.Tensor, rotation: Rotation, added: torch.Tensor) -> torch.Tensor:
    """Return what a layer of the language side makes of (rows, length, width)."""
    rows, length, _ = told.shape
    attention = layer.self_attn
    states = _norm(told, layer.input_layernorm)
    parts = [
        project(states).view(rows, length, -1, attention.head_dim).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    ]
    told = told + attention.o_proj(_attend(parts, rotation, added))
    return told + _mix(_norm(told, layer.post_attention_layernorm), layer.mlp)


def _attend(
    parts: Sequence[torch.Tensor], rotation: Rotation, added: torch.Tensor | None = None
) -> torch.Tensor:
    """Return what heads gather, as (batch, length, width).

    Args:
        parts: Queries, keys and values, each (batch, heads, length, head).
        rotation: Of the places.
        added: To the scores: -inf where a place (row) may not look (column), 0 elsewhere.
    """
    query, key, value = parts
    query, key = (_rotate(part.float(), *rotation).to(value.dtype) for part in (query, key))
    batch, heads, length, head = query.shape
    if heads > key.shape[1]:
        groups = heads // key.shape[1]
        key, value = (part.repeat_interleave(groups, 1) for part in (key, value))
    # Written out: the fused kernel for a CPU takes several times as long to go backwards.
    query, key, value = (part.reshape(batch * heads, length, head) for part in (query, key, value))
    query, key = query * head**-0.5, key.transpose(1, 2)
    if added is None:
        scores = torch.bmm(query, key)
    else:
        every = added.expand(batch, heads, length, length).reshape(-1, length, length)
        scores = torch.baddbmm(every, query, key)
    gathered = torch.bmm(scores.softmax(-1), value)
    return gathered.view(batch, heads, length, head).transpose(1, 2).flatten(2)


def _rotate(part: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    one, two = part.chunk(2, -1)
    return part * cos + torch.cat((-two, one), -1) * sin


def _norm(told: torch.Tensor, norm: Any) -> torch.Tensor:
    wide = told.float()
    scale = torch.rsqrt(wide.pow(2).mean(-1, True) + norm.variance_epsilon)
    return (norm.weight * (wide * scale)).to(norm.weight.dtype)


def _mix(told: torch.Tensor, mlp: Any) -> torch.Tensor:
    return mlp.down_proj(functional.silu(mlp.gate_proj(told)) * mlp.up_proj(told))


# ── in place of the real one ──────────────────────────────────────────────────────────────────


def install(model: Any, *, compiled: bool = False) -> None:
    """Let both sides of a Qwen2.5-VL take the short way wherever it holds.

    Args:
        model: Changed in place.
        compiled: Whether to fuse what is computed, as ``Way`` does.
    """
    visual, language = model.model.visual, model.model.language_model
    visual.way = language.way = Way(compiled=compiled)
    visual.album = Album()
    visual.forward = types.MethodType(_see, visual)  # bound, so that a copy is its own
    language.forward = types.MethodType(_read, language)


def _see(visual: Any, hidden_states: torch.Tensor, grid_thw: torch.Tensor, **named: Any) -> Any:
    shapes = grid_thw.unique(dim=0)
    square = len(shapes) == 1 and shapes[0, 0] == 1 and shapes[0, 1] == shapes[0, 2]
    everywhere = len(visual.fullatt_block_indexes) == len(visual.blocks)
    if not (everywhere and square) or named.get("output_hidden_states"):
        return type(visual).forward(visual, hidden_states, grid_thw, **named)
    cos, sin = vision_rotation(visual, int(shapes[0, 1]) // visual.spatial_merge_size)
    weights = visual.patch_embed.proj.weight
    rotation = cos.to(weights.device), sin.to(weights.device)
    cut = hidden_states.to(weights.dtype).view(len(grid_thw), -1, weights[0].numel())
    keys = [_digest(picture) for picture in cut]
    if torch.is_grad_enabled() and any(part.requires_grad for part in visual.parameters()):
        first = {key: number for number, key in reversed([*enumerate(keys)])}
        places = {key: place for place, key in enumerate(first)}
        seen = visual.way.see(visual, cut[[*first.values()]], rotation)
        told = seen[[places[key] for key in keys]].flatten(0, 1)
    else:
        told = visual.album.look(visual, cut, keys, rotation)
    return BaseModelOutputWithPooling(last_hidden_state=None, pooler_output=told)


def _digest(picture: torch.Tensor) -> bytes:
    values = picture.detach().contiguous().view(torch.uint8).cpu().numpy()
    return hashlib.blake2b(values, digest_size=16).digest()


class Album:
    """What eyes that do not learn have made of pictures, for as long as their weights stay.

    One picture is asked about many times, in several epochs, and in GRPO by three passes over it.
    Always as many are looked at together, so that what is seen does not depend on how many there
    are in a batch, and a run that goes on where it was killed stays the same to the last bit.
    """

    TOGETHER = 8
    """Pictures that are looked at together; fewer are filled up with empty ones."""
    MOST = 20_000
    """Pictures that are kept; 12 KB each for the base that comes with w2v."""

    def __init__(self) -> None:
        self._tokens: dict[object, torch.Tensor] = {}
        self._weights: object = None

    def look(
        self, visual: Any, cut: torch.Tensor, keys: Sequence[bytes], rotation: Rotation
    ) -> torch.Tensor:
        """Return the tokens of pictures, one after the other, (P * tokens, width).

        Args:
            visual: The vision side.
            cut: The pictures, (P, patches, values of a patch).
            keys: One for each picture, the same for the same.
            rotation: Of the patches.
        """
        weights = [(part.data_ptr(), part._version) for part in visual.parameters()]
        if weights != self._weights:
            self._weights, self._tokens = weights, {}
        device = cut.device.type
        halved = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
        way = halved, torch.is_inference_mode_enabled()
        new = {key: n for n, key in enumerate(keys) if (*way, key) not in self._tokens}
        for start in range(0, len(new), self.TOGETHER):
            some = [*new][start : start + self.TOGETHER]
            shown = cut[[new[key] for key in some]]
            filled = torch.cat([shown, shown.new_zeros(self.TOGETHER - len(some), *cut.shape[1:])])
            for key, seen in zip(some, visual.way.see(visual, filled, rotation), strict=False):
                self._tokens[*way, key] = seen.clone()  # of one alone, the rest can go
        told = torch.cat([self._tokens[*way, key] for key in keys])
        for old in [*self._tokens][: max(0, len(self._tokens) - self.MOST)]:
            del self._tokens[old]
        return told


def _read(
    language: Any,
    input_ids: torch.Tensor | None = None,
    attention_mask: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    past_key_values: Any = None,
    inputs_embeds: torch.Tensor | None = None,
    use_cache: bool | None = None,
    **named: Any,
) -> Any:
    keeps = use_cache is not False or past_key_values is not None or language.gradient_checkpointing
    asked = named.get("output_hidden_states") or named.get("output_attentions")
    if (
        keeps
        or asked
        or inputs_embeds is None
        or not isinstance(attention_mask, torch.Tensor)
        or attention_mask.ndim != 2
        or position_ids is None
        or position_ids.ndim != 3
    ):
        named |= {"input_ids": input_ids, "inputs_embeds": inputs_embeds, "use_cache": use_cache}
        named |= {"attention_mask": attention_mask, "position_ids": position_ids}
        return type(language).forward(language, past_key_values=past_key_values, **named)
    cos, sin = language.rotary_emb(inputs_embeds, position_ids[-3:])
    rotation = cos.unsqueeze(1), sin.unsqueeze(1)
    unseen = later(inputs_embeds.shape[1], inputs_embeds.device)
    itself = torch.eye(len(unseen), dtype=torch.bool, device=unseen.device)
    # padding sees itself, so that no row of scores is empty
    unseen = unseen | ~attention_mask.bool()[:, None, None, :] & ~itself
    states = language.way.read(language, inputs_embeds, rotation, unseen)
    return BaseModelOutputWithPast(last_hidden_state=states[-1])
