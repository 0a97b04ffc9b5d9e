"""What is known of each family of models: its names, its boxes, what a picture costs.

Light: a processor is handed in, never imported. One budget of tokens per picture is written into
the processor's own settings, so that training, evaluation and any other tool that loads the saved
folder see the same picture.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from w2v import boxes
from w2v.errors import BadOption, BadRecord
from w2v.records import Message, Question

Size = tuple[int, int]
"""Width and height in pixels."""

IMAGE = "<image>"
BOXES = ("grid", "pixels")

_BOX = re.compile(r"\[\s*(?:[-+]?\d+(?:\.\d+)?\s*,\s*){3}[-+]?\d+(?:\.\d+)?\s*\]")
_SAID = (
    ("in whole numbers from 0 to 1000", "in whole pixels"),
    ("use normalized integer coordinates in [0,1000]", "use integer pixel coordinates"),
)
"""How our templates and the paper's say which numbers a box is written in: grid, pixels."""

LANGUAGE = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""Linear layers on the language side. By bare suffix the vision towers would match too, and those
of Gemma 4 are of a kind that PEFT refuses."""


@dataclass(frozen=True, kw_only=True)
class Family(ABC):
    """Facts of one family; subclasses know its processor.

    Args:
        name: The student that users type.
        model_types: ``model_type`` of the configurations that belong to it.
        boxes: ``grid`` (0-1000) or ``pixels`` (of the picture as the processor resized it).
        default_tokens: Budget per picture where none is given; 0 keeps the checkpoint's own.
        lora_targets: Regex over module names: linear layers on the language side.
        vision: Regex that finds the parameters of the vision tower and its projector.
        special: Tokens that stand for pictures, sound and the like; never to be generated.
    """

    name: str
    model_types: tuple[str, ...]
    boxes: str = "grid"
    default_tokens: int = 0
    lora_targets: str = LANGUAGE
    vision: str
    special: tuple[str, ...]

    # ── what a picture costs ──────────────────────────────────────────────────────────────────

    @abstractmethod
    def set_image_tokens(self, processor: Any, tokens: int) -> None:
        """Let no picture take more tokens than this; written into the processor's settings.

        Raises:
            BadOption: The family cannot show a picture with so few.
        """

    @abstractmethod
    def budget(self, processor: Any) -> int:
        """Return the most tokens that a picture of common shape may take."""

    @abstractmethod
    def image_tokens(self, processor: Any, width: int, height: int) -> int:
        """Return how many tokens a picture of this size will take, its two brackets not counted."""

    @abstractmethod
    def placeholder(self, processor: Any, tokens: int) -> str:
        """Return what the processor writes in place of the template's mark for a picture."""

    def tokens(
        self, processor: Any, question: Question, sizes: Sequence[Size], *, answer: bool
    ) -> int:
        """Return the length in tokens of a question, and of its answer if wanted.

        Exactly what the processor will make of it, but no picture is opened.

        Args:
            processor: With its budget set.
            question: Any.
            sizes: Of its pictures on disk, in order.
            answer: Whether the answer and the end of its turn count.
        """
        frames = self.frames(processor, sizes)
        said = self.messages(question, answer=answer, frames=frames)
        text = processor.apply_chat_template(said, tokenize=False, add_generation_prompt=not answer)
        pieces = text.split(processor.image_token)
        if len(pieces) != len(sizes) + 1:
            raise _miscounted(question, len(pieces) - 1)
        text = pieces[0]
        for piece, (width, height) in zip(pieces[1:], sizes, strict=True):
            text += self.placeholder(processor, self.image_tokens(processor, width, height)) + piece
        return len(processor.tokenizer(text, add_special_tokens=False).input_ids)

    # ── what is said ──────────────────────────────────────────────────────────────────────────

    def frames(self, processor: Any, sizes: Sequence[Size]) -> list[Size]:
        """Return, for pictures of these sizes, the width and height that boxes are written in."""
        if self.boxes == "grid":
            return [(boxes.GRID, boxes.GRID)] * len(sizes)
        return [self.resized(processor, width, height) for width, height in sizes]

    def resized(self, processor: Any, width: int, height: int) -> Size:
        """Return the size of a picture as the model will see it."""
        raise BadOption(
            f"{self.name} has no boxes in pixels: it sees pictures in tiles", "write boxes=grid"
        )

    def messages(
        self, question: Question, *, answer: bool, frames: Sequence[Size]
    ) -> list[dict[str, Any]]:
        """Return the turns with typed content parts, boxes in the family's own numbers.

        Args:
            question: Boxes in its text are on the grid.
            answer: Whether the last turn, the answer, is wanted too.
            frames: What ``frames`` returns for the question's pictures.

        Raises:
            BadRecord: Pictures and ``<image>`` tags do not match, or the text holds one of the
                family's own marks for pictures.
        """
        asked = list(question.messages)
        if asked and asked[-1].role == "assistant":
            asked.pop()
        if answer:
            asked.append(Message(role="assistant", content=question.answer))
        tags = sum(m.content.count(IMAGE) for m in asked)
        if tags != len(question.images) or len(frames) != tags:
            raise _miscounted(question, tags)
        if found := [mark for mark in self.special if any(mark in m.content for m in asked)]:
            raise BadRecord(f"{question.id}: {found[0]} stands for a picture, not for words")
        turns, seen = [], 0
        for message in asked:
            content = message.content
            if self.boxes == "pixels":
                first = len(frames) - 1 if message.role == "assistant" else seen
                content, number = _to_frames(content, frames, first)
                seen += number
            turns.append({"role": message.role, "content": _parts(content)})
        return turns

    def back(self, response: str, frames: Sequence[Size]) -> str:
        """Return a response with its boxes on the grid; they lie in the last picture."""
        if self.boxes == "grid" or not frames:
            return response
        width, height = frames[-1]
        return _BOX.sub(
            lambda m: boxes.say(boxes.to_grid(boxes.find(m[0])[0], width, height)), response
        )

    def suppressed(self, processor: Any) -> list[int]:
        """Return the ids of tokens that must never be generated."""
        ids = {name: processor.tokenizer.convert_tokens_to_ids(name) for name in self.special}
        return sorted(
            i
            for name, i in ids.items()
            if i is not None and processor.tokenizer.convert_ids_to_tokens(i) == name
        )

    def with_boxes(self, convention: str) -> Family:
        """Return the family with another convention for boxes, where one is named.

        Raises:
            BadOption: There is no such convention.
        """
        if convention not in ("", *BOXES):
            raise BadOption(f"boxes={convention} is unknown", f"known: {', '.join(BOXES)}")
        return replace(self, boxes=convention or self.boxes)


def _miscounted(question: Question, tags: int) -> BadRecord:
    return BadRecord(
        f"{question.id}: {tags} {IMAGE} tags, {len(question.images)} images",
        "w2v validate finds such rows",
    )


def _parts(content: str) -> list[dict[str, str]]:
    """Return a turn as typed parts, one for each picture and each stretch of text."""
    parts: list[dict[str, str]] = []
    for place, text in enumerate(content.split(IMAGE)):
        if place:
            parts.append({"type": "image"})
        if text:
            parts.append({"type": "text", "text": text})
    return parts


def _to_frames(text: str, frames: Sequence[Size], first: int) -> tuple[str, int]:
    """Return a text with its grid boxes in pixels, and how many there were.

    The k-th box of a prompt lies in the k-th picture, and all further ones in the last: our tasks
    name the first picture's box first. Boxes of an answer lie in the last picture.
    """
    for grid, pixels in _SAID:
        text = text.replace(grid, pixels)
    found = 0

    def write(match: re.Match[str]) -> str:
        nonlocal found
        width, height = frames[min(first + found, len(frames) - 1)]
        found += 1
        scale = (width / boxes.GRID, height / boxes.GRID) * 2
        box = boxes.find(match[0])[0]
        return boxes.say([round(v * s) for v, s in zip(box, scale, strict=True)])

    return _BOX.sub(write, text) if frames else text, found


# ── the families ──────────────────────────────────────────────────────────────────────────────


class _Qwen(Family):
    """Pictures of any size: one token for each square of 28 pixels (arXiv 2502.13923, 2.1)."""

    def set_image_tokens(self, processor: Any, tokens: int) -> None:
        """Set the most pixels; the least stays well below, since small pictures are rounded up."""
        if tokens < 1:
            raise BadOption(f"{self.name}: image_tokens={tokens} shows nothing")
        eye = processor.image_processor
        most = tokens * self._pixels(processor)
        eye.size = {
            "shortest_edge": min(eye.size["shortest_edge"], max(1, most // 4)),
            "longest_edge": most,
        }

    def budget(self, processor: Any) -> int:
        """Return the most pixels in tokens."""
        return int(processor.image_processor.size["longest_edge"]) // self._pixels(processor)

    def image_tokens(self, processor: Any, width: int, height: int) -> int:
        """Return the squares of the resized picture."""
        wide, high = self.resized(processor, width, height)
        return wide * high // self._pixels(processor)

    def placeholder(self, processor: Any, tokens: int) -> str:
        """Return the mark, repeated; the template writes the brackets."""
        return str(processor.image_token) * tokens

    def resized(self, processor: Any, width: int, height: int) -> Size:
        """Return the size in whole squares."""
        from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

        eye = processor.image_processor
        high, wide = smart_resize(
            height,
            width,
            factor=eye.patch_size * eye.merge_size,
            min_pixels=eye.size["shortest_edge"],
            max_pixels=eye.size["longest_edge"],
        )
        return wide, high

    @staticmethod
    def _pixels(processor: Any) -> int:
        """Return how many pixels become one token."""
        eye = processor.image_processor
        return int(eye.patch_size * eye.merge_size) ** 2


class _Gemma3(Family):
    """Every picture is squeezed into one square of always the same number of tokens."""

    def set_image_tokens(self, processor: Any, tokens: int) -> None:
        """Accept any budget that the fixed number fits in."""
        if tokens < processor.image_seq_length:
            raise BadOption(
                f"Gemma 3 always takes {processor.image_seq_length} tokens a picture, not {tokens}",
                f"write image_tokens={processor.image_seq_length}, or leave it out",
            )

    def budget(self, processor: Any) -> int:
        """Return the fixed number."""
        return int(processor.image_seq_length)

    def image_tokens(self, processor: Any, width: int, height: int) -> int:
        """Return the fixed number."""
        return int(processor.image_seq_length)

    def placeholder(self, processor: Any, tokens: int) -> str:
        """Return brackets and soft tokens between empty lines."""
        return str(processor.full_image_sequence)


GEMMA4_TOKENS = (70, 140, 280, 560, 1120)
"""The budgets that Gemma 4 knows (its image processor refuses others)."""


class _Gemma4(Family):
    """Pictures keep their shape and are scaled, up or down, to fill one of five budgets."""

    def set_image_tokens(self, processor: Any, tokens: int) -> None:
        """Take the largest of the five that fits."""
        fitting = [number for number in GEMMA4_TOKENS if number <= tokens]
        if not fitting:
            raise BadOption(
                f"Gemma 4 shows no picture with {tokens} tokens",
                f"write image_tokens={GEMMA4_TOKENS[0]} or more",
            )
        processor.image_processor.max_soft_tokens = fitting[-1]
        processor.image_seq_length = fitting[-1]

    def budget(self, processor: Any) -> int:
        """Return the chosen one of the five."""
        return int(processor.image_processor.max_soft_tokens)

    def image_tokens(self, processor: Any, width: int, height: int) -> int:
        """Return the pooled patches of the scaled picture."""
        wide, high = self.resized(processor, width, height)
        eye = processor.image_processor
        return wide * high // (eye.patch_size * eye.pooling_kernel_size) ** 2

    def placeholder(self, processor: Any, tokens: int) -> str:
        """Return soft tokens in brackets."""
        return f"{processor.boi_token}{processor.image_token * tokens}{processor.eoi_token}"

    def resized(self, processor: Any, width: int, height: int) -> Size:
        """Return the size in whole pooled patches."""
        from transformers.models.gemma4.image_processing_gemma4 import (
            get_aspect_ratio_preserving_size,
        )

        eye = processor.image_processor
        high, wide = get_aspect_ratio_preserving_size(
            height,
            width,
            patch_size=eye.patch_size,
            max_patches=eye.max_soft_tokens * eye.pooling_kernel_size**2,
            pooling_kernel_size=eye.pooling_kernel_size,
        )
        return wide, high


class _InternVL(Family):
    """Pictures are cut into square tiles, and a thumbnail is added where there are several."""

    def set_image_tokens(self, processor: Any, tokens: int) -> None:
        """Set the most tiles.

        The processor cuts tiles whatever its image processor's ``crop_to_patches`` says, so only
        the number of tiles is a safe setting.
        """
        tiles = tokens // processor.image_seq_length
        if tiles < 1:
            raise BadOption(
                f"InternVL takes {processor.image_seq_length} tokens a tile, not {tokens}",
                f"write image_tokens={processor.image_seq_length} or a multiple",
            )
        # Two tiles would need a third for the thumbnail.
        processor.image_processor.min_patches = 1
        processor.image_processor.max_patches = max(1, tiles - 1)

    def budget(self, processor: Any) -> int:
        """Return the most tiles in tokens, with the thumbnail."""
        tiles = int(processor.image_processor.max_patches)
        return int(processor.image_seq_length) * (tiles + (tiles > 1))

    def image_tokens(self, processor: Any, width: int, height: int) -> int:
        """Return the tokens of all tiles."""
        tiles = processor.image_processor.get_number_of_image_patches(
            height, width, {"crop_to_patches": True}
        )
        return int(processor.image_seq_length * tiles)

    def placeholder(self, processor: Any, tokens: int) -> str:
        """Return soft tokens in brackets."""
        start, end = processor.start_image_token, processor.end_image_token
        return f"{start}{processor.image_token * tokens}{end}"


_QWEN_SPECIAL = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_TOWER = r"(^|\.)(vision_tower|multi_modal_projector|embed_vision|audio_tower|embed_audio)\."

QWEN = _Qwen(
    name="qwen2.5-vl",
    model_types=("qwen2_5_vl",),
    boxes="pixels",  # absolute coordinates of the resized picture (arXiv 2502.13923, 2.1.1)
    default_tokens=1280,  # 1,003,520 pixels, as World2VLM trains it (arXiv 2604.26934, app. E)
    vision=r"(^|\.)visual\.",
    special=_QWEN_SPECIAL,
)
TINY = replace(QWEN, name="tiny", boxes="grid", default_tokens=0)
GEMMA3 = _Gemma3(
    name="gemma",
    model_types=("gemma3",),
    vision=_TOWER,
    special=("<start_of_image>", "<end_of_image>", "<image_soft_token>"),
)
GEMMA4 = _Gemma4(
    name="gemma",
    model_types=("gemma4",),
    default_tokens=280,
    vision=_TOWER,
    special=("<|image>", "<image|>", "<|image|>", "<|audio>", "<audio|>", "<|audio|>", "<|video|>"),
)
INTERNVL = _InternVL(
    name="internvl",
    model_types=("internvl",),
    default_tokens=1280,
    vision=_TOWER,
    special=("<img>", "</img>", "<IMG_CONTEXT>", "<video>"),
)
FAMILIES = (QWEN, GEMMA3, GEMMA4, INTERNVL, TINY)
OTHERS = {
    "internvl_chat": "InternVL in its original format needs remote code, which is never run; take "
    "the checkpoint in the format of transformers, whose name ends in -HF "
    "(OpenGVLab/InternVL3_5-8B-HF)",
}
"""Model types that look like a family but cannot be loaded, and what to do about it."""


def named(name: str, model_type: str) -> Family | None:
    """Return the family of a student's name and a configuration's ``model_type``, if any."""
    return next((f for f in FAMILIES if f.name == name and model_type in f.model_types), None)


def of_type(model_type: str) -> Family | None:
    """Return the family that a configuration's ``model_type`` alone tells, if any."""
    return next((f for f in FAMILIES if model_type in f.model_types), None)
