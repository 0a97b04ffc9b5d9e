"""A small model of the real Qwen2.5-VL classes, with a tokenizer made for our answers.

Everything that holds for a Qwen2.5-VL holds for it (processor, chat template, adapters, merging);
only its size, its words and its boxes (on the grid 0-1000) are its own.

The tokenizer knows whole words: those of our templates, answers, labels and colours, each with and
without the space before it; and every number from 0 to 1000 and from 0.0 to 9.9 as one token, whose
embedding starts out as sines of its value, so that near numbers are alike before anything is
learned. ", " before a digit is one token too. Any other text is spelled in bytes, so nothing is
unknown. A move takes 4 tokens ("turn left 30 degrees"), a box 9.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from w2v import boxes, detectors, motion, phrases, torchvision_cpu
from w2v.students import families, folders
from w2v.tasks import templates
from w2v.teachers.sim import materials

torchvision_cpu.install()

import torch  # noqa: E402
import transformers  # noqa: E402
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers  # noqa: E402
from transformers import (  # noqa: E402
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

transformers.logging.disable_progress_bar()

PATCH, MERGE, HEAD = 14, 2, 32
SQUARE = PATCH * MERGE
"""Side in pixels of what becomes one token, where nothing else is asked for."""

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (PAD, START, END, *families.QWEN.special)

BASE = dict(width=192, layers=5, vision_width=192, vision_layers=4, image_size=128, patch=16)
"""The sizes of the base that comes with w2v."""

_TEMPLATE = """\
{%- for m in messages -%}
START{{ m['role'] }}
{% if m['content'] is string %}{% set parts = [{'type': 'text', 'text': m['content']}] -%}
{% else %}{% set parts = m['content'] %}{% endif -%}
{% if m['role'] == 'assistant' -%}
{% generation %}{% for p in parts %}{{ p['text'] }}{% endfor %}END{% endgeneration +%}
{% else -%}
{% for p in parts %}{% if p['type'] == 'image' %}IMAGE{% else %}{{ p['text'] }}{% endif -%}
{% endfor %}END
{% endif %}{% endfor -%}
{% if add_generation_prompt %}STARTassistant
{% endif %}"""


def template(start: str, end: str, image: str) -> str:
    """Return a chat template without a system prompt, from a family's marks.

    The answer and the end of its turn are inside ``generation``, so that a loss can be taken on
    them alone.
    """
    return _TEMPLATE.replace("START", start).replace("END", end).replace("IMAGE", image)


TEMPLATE = template(START, END, "<|vision_start|><|image_pad|><|vision_end|>")

_PIECES = r", (?=\d)| ?[A-Za-z]+| ?\d\.\d(?!\d)| ?\d{1,4}(?!\d)| ?\d| ?[^\sA-Za-z\d]|\s"
"""How text falls into pieces: words, numbers and signs, each with the space before it."""
NUMBERS = {str(n): n / boxes.GRID for n in range(boxes.GRID + 1)} | {
    f"{n / 10:.1f}": n / 100 for n in range(100)
}
"""The numbers that are tokens, and where each lies between none and the most of its kind."""

THINGS = (
    "ball basket bed bookshelf bottle box ceiling lamp chair clock cupboard curtain desk door "
    "floor fruit bowl globe kettle laptop monitor mug office ottoman oven pendant picture pot "
    "potted plant refrigerator rug sofa stack of books stool suitcase trash can tv vase wardrobe "
    "window cabinet counter sink dining table coffee nightstand dresser"
)
"""Words for the things of the simulator's rooms."""
WORDS = (
    "a an the this that these those it its they is are was were be been being am has have had do "
    "does did can could will would shall should may might must not no yes true false none nothing "
    "there here where which what who when why how many much more most less least fewer than as "
    "and or but if then so because with without within of in on at to from by for into onto over "
    "under above below behind before after between beside near nearer nearest close closer "
    "closest far farther farthest left right top bottom middle center front back up down side "
    "corner edge higher lower larger largest smaller smallest big small tall short wide narrow "
    "long bright dark first second third last next same other another different one two three "
    "four five six seven eight nine ten zero count number object objects thing things color "
    "colour colored picture pictures image images photo room camera view scene see seen show "
    "shows shown look looks visible hidden gone part wall walls ceiling ground made material "
    "metal cloth glass plastic describe name answer question word words sentence box boxes "
    "coordinates pixel pixels meters degrees user assistant system"
)
"""Words of plain questions about a picture."""


def build(
    folder: Path | str,
    *,
    width: int = 192,
    layers: int = 4,
    image_size: int = 112,
    seed: int = 0,
    vision_width: int = 96,
    vision_layers: int = 4,
    patch: int = PATCH,
    texts: Iterable[str] = (),
) -> Path:
    """Write a model with random weights, its processor and its tokenizer to a folder.

    Args:
        folder: Created if need be; files of an earlier model are overwritten.
        width: Of the language side; a multiple of 32.
        layers: Of the language side.
        image_size: Side in pixels of a square picture that just fits the budget of tokens; a
            multiple of two patches. With patches of 14, one of 112 pixels takes 16 tokens.
        seed: Of the weights.
        vision_width: Of the vision side; a multiple of 32.
        vision_layers: Of the vision side.
        patch: Side in pixels of a patch; two by two become one token.
        texts: Further text whose words are to be tokens.

    Returns:
        The folder.
    """
    folder = Path(folder)
    words = tokenizer(texts)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = network(words, width, layers, vision_width, vision_layers, patch)
    model.save_pretrained(folder)
    made = processor(words, image_size, patch)
    made.save_pretrained(folder)
    told = {"family": "tiny", "model_type": "qwen2_5_vl", "boxes": families.TINY.boxes}
    budget = families.TINY.budget(made)
    folders.write_settings(folder, {**told, "image_tokens": budget, "method": "random"})
    return folder


# ── words ─────────────────────────────────────────────────────────────────────────────────────


def corpus() -> Iterator[str]:
    """Yield the text whose words are tokens: all that our tasks ask and answer."""
    for style in templates.SETS:
        for task in templates.IMAGES:
            yield from templates.written(style, task).values()
    for phrase in phrases.PHRASES.values():
        yield from (*phrase.words, *phrase.choices, *phrase.sentences)
    yield phrases.say_moves(())
    yield phrases.say_box((0, 0, 0, 0))
    yield from (f"{verb} 1 {unit}" for verb, unit in motion.UNITS.items())
    yield detectors.INDOOR.replace("+", " ")
    yield " ".join((*materials.COLORS, *materials.WOODS))
    yield f"{THINGS} {WORDS}"
    yield " ".join(phrases.LETTERS[:8])


def vocabulary(texts: Iterable[str]) -> list[str]:
    """Return every word of the texts, each in both spellings that a space makes, sorted."""
    cut = _cut()
    found: set[str] = set()
    for text in texts:
        for piece, _ in cut.pre_tokenize_str(text):
            bare = piece.removeprefix("Ġ")
            if bare.isalpha():
                found |= {bare, "Ġ" + bare, bare.lower(), "Ġ" + bare.lower()}
            else:
                found.add(piece)
    return sorted(found)


def tokenizer(
    texts: Iterable[str] = (),
    *,
    special: Sequence[str] = SPECIAL,
    pad_token: str = PAD,
    eos_token: str = END,
    **named: Any,
) -> Any:
    """Return the tokenizer: whole words where they are known, bytes elsewhere."""
    numbers = [space + number for space in ("", "Ġ") for number in NUMBERS]
    words = vocabulary([*corpus(), *texts])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = dict.fromkeys([*special, *alphabet, ",Ġ", *numbers, *words])
    made = Tokenizer(
        models.BPE(
            vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], ignore_merges=True
        )
    )
    made.pre_tokenizer, made.decoder = _cut(), decoders.ByteLevel()
    made.add_special_tokens(list(special))
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token=pad_token,
        eos_token=eos_token,
        model_max_length=4096,
        padding_side="left",
        **named,
    )


@functools.cache
def _cut() -> Any:
    """Return what cuts text into pieces; a space is written Ġ, as byte-level tokenizers do."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


# ── eyes ──────────────────────────────────────────────────────────────────────────────────────


def processor(words: Any, image_size: int, patch: int = PATCH) -> Any:
    """Return the processor for square pictures of this side; other shapes take as many tokens."""
    square = patch * MERGE
    shape = dict(patch_size=patch, merge_size=MERGE, temporal_patch_size=2)
    sizes = {"shortest_edge": 4 * square**2, "longest_edge": image_size**2}
    made = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=sizes, **shape),
        video_processor=Qwen2VLVideoProcessor(size=sizes, **shape),
        tokenizer=words,
        chat_template=TEMPLATE,
    )
    families.TINY.set_image_tokens(made, (image_size // square) ** 2)
    return made


def network(
    words: Any, width: int, layers: int, vision_width: int, vision_layers: int, patch: int = PATCH
) -> Any:
    """Return the model with random weights."""
    heads = width // HEAD
    text = dict(
        vocab_size=-(-len(words) // 64) * 64,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2 if heads % 2 == 0 else heads,
        max_position_embeddings=4096,
        # keeps the scale of what a layer reads; transformers' 0.02 is meant for greater widths
        initializer_range=width**-0.5,
        # Time, height and width each turn parts of a head (arXiv 2409.12191, 2.1). In three blocks,
        # as in large models, width would get the slowest turns alone, by which the few columns of
        # a small picture cannot be told apart; so they take turns.
        rope_parameters={
            "rope_type": "default",
            "mrope_section": [1] * (HEAD // 2),
            "rope_theta": 100.0,
        },
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        bos_token_id=None,
    )
    vision = dict(
        depth=vision_layers,
        hidden_size=vision_width,
        intermediate_size=2 * vision_width,
        num_heads=vision_width // HEAD,
        out_hidden_size=width,
        patch_size=patch,
        spatial_merge_size=MERGE,
        # pictures are small: every layer sees all of one
        fullatt_block_indexes=list(range(vision_layers)),
    )
    named = words.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=named("<|image_pad|>"),
        video_token_id=named("<|video_pad|>"),
        vision_start_token_id=named("<|vision_start|>"),
        vision_end_token_id=named("<|vision_end|>"),
        tie_word_embeddings=True,  # a number that is read and one that is said are near alike
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    _count(words, model.get_input_embeddings().weight)
    model.generation_config = GenerationConfig(
        eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id
    )
    return model


def _count(words: Any, embedding: torch.Tensor) -> None:
    """Let the rows of numbers be sines of their value, and a draw that is common to their kind.

    Drawn one by one, a thousand numbers would each have to be met often before sums come out right;
    so drawn, what is learned of one holds for those around it.

    Args:
        words: The tokenizer.
        embedding: (vocabulary, width), changed in place.
    """
    width = embedding.shape[1]
    turns = torch.logspace(math.log10(_TURNS[0]), math.log10(_TURNS[1]), width // 2)
    known = words.get_vocab()
    with torch.no_grad():
        for space in ("", "Ġ"):
            for tenths in (False, True):
                of_kind = {n: v for n, v in NUMBERS.items() if ("." in n) == tenths}
                angles = 2 * math.pi * turns * torch.tensor([*of_kind.values()]).unsqueeze(1)
                rows = torch.cat([angles.sin(), angles.cos()], 1) + 0.7 * torch.randn(width)
                embedding[[known[space + n] for n in of_kind]] = rows * width**-0.5


_TURNS = 0.25, 60.0
"""Slowest and fastest sine of a number: turns between none and the most of its kind."""
