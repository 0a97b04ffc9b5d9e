"""The forward pass of a Qwen2.5-VL for pictures of one size, without what other sizes need.

The real classes walk through pictures one by one, and on a CPU their attention and their cutting
of pictures are slow to learn through. These functions compute the same numbers from the same
weights several times as fast, and ``torch.compile`` fuses them. ``Way.see`` holds where all
pictures of a batch are squares of one size and every vision layer sees all of a picture,
``Way.read`` where nothing is kept for tokens to come. Rows that begin alike, as responses to one
prompt do in GRPO, are read once as far as they are the same, where nothing is fused.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from w2v import torchvision_cpu

torchvision_cpu.install()

import torch  # noqa: E402
from torch.nn import functional  # noqa: E402
from transformers import DynamicCache  # noqa: E402
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


# ── rows that begin alike ─────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Alike:
    """How rows begin, as those of GRPO do, which are several responses to each prompt.

    Args:
        length: Places that count as the beginning.
        first: The rows of which each is the first to begin so, (beginnings,).
        group: Of every row, which of these it begins as, (rows,).
    """

    length: int
    first: torch.Tensor
    group: torch.Tensor

    def spread(self, made: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        """Return, for each row, what was made of its beginning."""
        # Adds gradients up in one order on a CPU, where indexing does so in any (torch 2.13).
        return [part.index_select(0, self.group) for part in made]


WORTH = 0.6
"""Most of the places, as a share, that reading beginnings once may leave to compute."""
_MARKS = 4
"""Values of a place by which rows are told apart at first."""


def alike(told: torch.Tensor, there: torch.Tensor, places: torch.Tensor) -> Alike | None:
    """Return how rows begin where reading beginnings once saves work, else None.

    Beginnings are as long as saves most: of responses to a few prompts, as long as a prompt.

    Args:
        told: The embedded rows, (rows, length, width).
        there: Whether a place is no padding, (rows, length).
        places: Positions, (kinds, rows, length).
    """
    rows, length, _ = told.shape
    if rows == 1:
        return None
    marks = [*told.detach()[..., :_MARKS].unbind(-1), there, *places]
    same = torch.ones(rows, rows, length, dtype=torch.bool, device=told.device)
    for mark in marks:
        same &= mark.unsqueeze(1) == mark.unsqueeze(0)
    so_far = same.logical_not_().cumsum(2, dtype=torch.int32) == 0
    firsts = so_far.int().argmax(1)  # (rows, length): the first row that is alike up to here
    own = torch.arange(rows, device=told.device).unsqueeze(1)
    beginnings = (firsts == own).sum(0)
    ends = torch.arange(1, length + 1, device=told.device)
    left = beginnings * ends + rows * (length - ends)
    least = int(left.argmin())
    if int(left[least]) > WORTH * rows * length:
        return None
    first, group = firsts[:, least].unique(return_inverse=True)
    cut = least + 1
    if not torch.equal(told[:, :cut], told[first, :cut].index_select(0, group)):
        return None  # the marks are those of another
    return Alike(cut, first, group)


# ── what is computed ──────────────────────────────────────────────────────────────────────────


class Way:
    """The computation, layer by layer; what a layer does is fused where that was asked for.

    Args:
        compiled: Whether to fuse; takes a C++ compiler, and half a minute at first.
    """

    def __init__(self, *, compiled: bool = False) -> None:
        self.compiled = compiled
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
        added = _added(unseen, told)
        states_after = []
        for layer in language.layers:
            told = self._think(layer, told, rotation, added)
            states_after.append(told)
        return *states_after[:-1], _norm(told, language.norm)

    def read_once(
        self,
        language: Any,
        told: torch.Tensor,
        rotation: Rotation,
        unseen: torch.Tensor,
        begin: Alike,
    ) -> torch.Tensor:
        """Return the last of what ``read`` returns, computing but once how rows begin alike.

        Args:
            language: The language side.
            told: The rows, (rows, length, width).
            rotation: Of their places, each (rows, 1, length, head).
            unseen: As for ``read``, (rows, 1, length, length).
            begin: How the rows begin.
        """
        cut, first = begin.length, begin.first
        start, rest = told[first, :cut], told[:, cut:]
        cos, sin = rotation
        turns = (cos[first, :, :cut], sin[first, :, :cut]), (cos[:, :, cut:], sin[:, :, cut:])
        added = _added(unseen, told)
        hidden = added[first, :, :cut, :cut], added[:, :, cut:]
        for layer in language.layers:
            start, *kept = _begin(layer, start, turns[0], hidden[0])
            if rest.shape[1]:
                rest = _go_on(layer, rest, turns[1], hidden[1], begin.spread(kept))
        whole = torch.cat([*begin.spread([start]), rest], 1)
        return _norm(whole, language.norm)


def _added(unseen: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """Return what is added to scores: -inf where a place may not look, 0 elsewhere."""
    device = told.device.type
    halved = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if halved else told.dtype
    return torch.zeros_like(unseen, dtype=dtype).masked_fill(unseen, float("-inf"))


def _look(block: Any, told: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """Return what a layer of the vision side makes of (P, patches, width)."""
    number, length, _ = told.shape
    heads = block.attn.num_heads
    parts = block.attn.qkv(_norm(told, block.norm1)).view(number, length, 3, heads, -1)
    query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
    query, key = _turn(query, key, rotation, value.dtype)
    told = told + block.attn.proj(_gather(query, key, value))
    return told + _mix(_norm(told, block.norm2), block.mlp)


def _think(layer: Any, told: torch.Tensor, rotation: Rotation, added: torch.Tensor) -> torch.Tensor:
    """Return what a layer of the language side makes of (rows, length, width)."""
    return _begin(layer, told, rotation, added)[0]


def _begin(
    layer: Any, told: torch.Tensor, rotation: Rotation, added: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what a layer makes of how rows begin, and its keys and values for ``_go_on``."""
    query, key, value = _parts(layer, told, rotation)
    return _finish(layer, told, _gather(query, key, value, added)), key, value


def _go_on(
    layer: Any,
    told: torch.Tensor,
    rotation: Rotation,
    added: torch.Tensor,
    before: Sequence[torch.Tensor],
) -> torch.Tensor:
    """Return what a layer makes of how rows go on, who may look at keys and values before."""
    query, *own = _parts(layer, told, rotation)
    key, value = (torch.cat(both, 2) for both in zip(before, own, strict=True))
    return _finish(layer, told, _gather(query, key, value, added))


def _parts(layer: Any, told: torch.Tensor, rotation: Rotation) -> tuple[torch.Tensor, ...]:
    """Return queries, keys and values, each (rows, heads, length, head)."""
    rows, length, _ = told.shape
    attention = layer.self_attn
    states = _norm(told, layer.input_layernorm)
    query, key, value = (
        project(states).view(rows, length, -1, attention.head_dim).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    return *_turn(query, key, rotation, value.dtype), value


def _finish(layer: Any, told: torch.Tensor, gathered: torch.Tensor) -> torch.Tensor:
    told = told + layer.self_attn.o_proj(gathered)
    return told + _mix(_norm(told, layer.post_attention_layernorm), layer.mlp)


def _turn(
    query: torch.Tensor, key: torch.Tensor, rotation: Rotation, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    return _rotate(query.float(), *rotation).to(dtype), _rotate(key.float(), *rotation).to(dtype)


def _gather(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, added: torch.Tensor | None = None
) -> torch.Tensor:
    """Return what heads gather, as (batch, length, width).

    Args:
        query: (batch, heads, length, head), rotated.
        key: (batch, heads or a part of them, places, head), rotated.
        value: As many.
        added: To the scores: -inf where a place (row) may not look (column), 0 elsewhere.
    """
    batch, heads, length, head = query.shape
    if heads > key.shape[1]:
        groups = heads // key.shape[1]
        key, value = (part.repeat_interleave(groups, 1) for part in (key, value))
    # Written out: the fused kernel for a CPU takes several times as long to go backwards.
    query, key, value = (part.reshape(batch * heads, -1, head) for part in (query, key, value))
    query, key = query * head**-0.5, key.transpose(1, 2)
    if added is None:
        scores = torch.bmm(query, key)
    else:
        every = added.expand(batch, heads, length, -1).reshape(batch * heads, length, -1)
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
    return hashlib.sha256(values).digest()  # of those that do, the fastest on recent processors


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
    usual: dict[str, Any] = {
        **named,
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "position_ids": position_ids,
        "past_key_values": past_key_values,
        "inputs_embeds": inputs_embeds,
        "use_cache": use_cache,
    }
    real = functools.partial(type(language).forward, language, **usual)
    if (
        named.get("output_hidden_states")
        or named.get("output_attentions")
        or language.gradient_checkpointing
        or inputs_embeds is None
        or not isinstance(attention_mask, torch.Tensor)
        or attention_mask.ndim != 2
        or position_ids is None
        or position_ids.ndim != 3
    ):
        return real()
    if past_key_values is not None or use_cache is not False:
        begins = isinstance(past_key_values, DynamicCache) and not past_key_values.get_seq_length()
        return _read_to_go_on(language, usual) if begins else real()
    places = position_ids.expand(-1, len(inputs_embeds), -1)
    cos, sin = language.rotary_emb(inputs_embeds, places[-3:])
    rotation = cos.unsqueeze(1), sin.unsqueeze(1)
    unseen = later(inputs_embeds.shape[1], inputs_embeds.device)
    itself = torch.eye(len(unseen), dtype=torch.bool, device=unseen.device)
    # padding sees itself, so that no row of scores is empty
    unseen = unseen | ~attention_mask.bool()[:, None, None, :] & ~itself
    begin = _beginnings(language, inputs_embeds, attention_mask, places)
    if begin is None:
        told = language.way.read(language, inputs_embeds, rotation, unseen)[-1]
    else:
        told = language.way.read_once(language, inputs_embeds, rotation, unseen, begin)
    return BaseModelOutputWithPast(last_hidden_state=told)


def _beginnings(language: Any, *rows: torch.Tensor) -> Alike | None:
    """Return what ``alike`` does, but None where parts are left out by chance, row by row.

    And None where layers are compiled: to compile two more functions takes longer than most runs
    of GRPO would win.
    """
    drops = language.training and any(
        isinstance(part, torch.nn.Dropout) and part.p > 0 for part in language.modules()
    )
    return None if drops or language.way.compiled else alike(*rows)


def _read_to_go_on(language: Any, usual: dict[str, Any]) -> Any:
    """Let the real class read rows that will go on, those that are the same but once."""
    told, there, cache = (
        usual[name] for name in ("inputs_embeds", "attention_mask", "past_key_values")
    )
    places = usual["position_ids"].expand(-1, len(told), -1)
    begin = _beginnings(language, told, there, places)
    if begin is None or begin.length < told.shape[1]:
        return type(language).forward(language, **usual)
    one, kept = begin.first, DynamicCache(config=language.config)
    once = usual | {"inputs_embeds": told[one], "attention_mask": there[one]}
    once |= {"position_ids": places[:, one], "past_key_values": kept}
    made = type(language).forward(language, **once)
    for number, layer in enumerate(kept.layers):
        cache.update(*begin.spread((layer.keys, layer.values)), number)
    [hidden] = begin.spread([made.last_hidden_state])
    return BaseModelOutputWithPast(last_hidden_state=hidden, past_key_values=cache)
