"""Random models of the real classes, so small that they are made in a second.

For tests, dry runs and plugin authors: what runs with a toy runs with the checkpoint of its
family, since classes, processors and chat templates have the same shape. They know nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import processors

from w2v.errors import UnknownName
from w2v.students import families, folders, tiny

TILE = 56
"""Side in pixels of what a toy with squares of fixed size sees; a patch has 14, pooled 2 x 2."""
TOKENS = (TILE // tiny.SQUARE) ** 2

_TEXT = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)
_EYES = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)


def build(name: str, folder: Path | str, *, seed: int = 0) -> Path:
    """Write the toy of a family, with processor, tokenizer and chat template, to a folder.

    Args:
        name: ``qwen2.5-vl``, ``gemma3``, ``gemma4`` or ``internvl``.
        folder: Created if need be.
        seed: Of the weights.

    Returns:
        The folder.
    """
    if name not in TOYS:
        raise UnknownName("toy", name, TOYS)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, processor = TOYS[name]()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    folder, family = Path(folder), families.of_type(model.config.model_type)
    assert family is not None
    told = {"family": family.name, "model_type": model.config.model_type, "boxes": family.boxes}
    budget = {"image_tokens": family.budget(processor), "method": "random"}
    folders.write_settings(folder, told | budget)
    return folder


def _qwen() -> tuple[Any, Any]:
    words = tiny.tokenizer()
    eyes = dict(patch_size=tiny.PATCH, merge_size=tiny.MERGE, temporal_patch_size=2)
    size = {"shortest_edge": TILE**2, "longest_edge": TILE * 3 * tiny.SQUARE}
    processor = hf.Qwen2_5_VLProcessor(
        image_processor=hf.Qwen2VLImageProcessor(size=size, **eyes),
        video_processor=hf.Qwen2VLVideoProcessor(size=size, **eyes),
        tokenizer=words,
        chat_template=tiny.TEMPLATE,
    )
    model = tiny.network(words, width=64, layers=2, vision_width=32, vision_layers=2)
    return model, processor


def _gemma3() -> tuple[Any, Any]:
    words = _begun(
        _tokenizer(
            ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
            families.GEMMA3.special,
            boi_token="<start_of_image>",
            eoi_token="<end_of_image>",
            image_token="<image_soft_token>",
        )
    )
    processor = hf.Gemma3Processor(
        image_processor=hf.Gemma3ImageProcessor(size={"height": TILE, "width": TILE}),
        tokenizer=words,
        chat_template=_gemma_template("<start_of_turn>", "<end_of_turn>", "<start_of_image>"),
        image_seq_length=TOKENS,
    )
    ids = words.convert_tokens_to_ids
    model = hf.Gemma3ForConditionalGeneration(
        hf.Gemma3Config(
            text_config=_text(
                words, head_dim=16, query_pre_attn_scalar=16, layer_types=_sliding(), **_window()
            ),
            vision_config=dict(
                _EYES, image_size=TILE, patch_size=tiny.PATCH, vision_use_head=False
            ),
            mm_tokens_per_image=TOKENS,
            boi_token_index=ids("<start_of_image>"),
            eoi_token_index=ids("<end_of_image>"),
            image_token_index=ids("<image_soft_token>"),
        )
    )
    # It is drawn as zeros, and a Gemma 3 with it sees nothing.
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.02)
    return _ending(model, words), processor


def _gemma4() -> tuple[Any, Any]:
    words = _begun(
        _tokenizer(
            ("<pad>", "<eos>", "<bos>", "<|turn>", "<turn|>"),
            families.GEMMA4.special,
            boi_token="<|image>",
            eoi_token="<image|>",
            image_token="<|image|>",
            boa_token="<|audio>",
            eoa_token="<audio|>",
            audio_token="<|audio|>",
        )
    )
    least = families.GEMMA4_TOKENS[0]
    eyes = dict(patch_size=8, pooling_kernel_size=2, max_soft_tokens=least)
    processor = hf.Gemma4Processor(
        feature_extractor=hf.Gemma4AudioFeatureExtractor(),
        image_processor=hf.Gemma4ImageProcessor(**eyes),
        video_processor=hf.Gemma4VideoProcessor(**eyes),
        tokenizer=words,
        chat_template=_gemma_template("<|turn>", "<turn|>", "<|image|>"),
        image_seq_length=least,
    )
    ids = words.convert_tokens_to_ids
    model = hf.Gemma4ForConditionalGeneration(
        hf.Gemma4Config(
            text_config=_text(
                words,
                head_dim=16,
                global_head_dim=16,
                layer_types=_sliding(),
                vocab_size_per_layer_input=_rows(words),
                hidden_size_per_layer_input=8,
                **_window(),
            ),
            vision_config=dict(
                _EYES,
                num_key_value_heads=2,
                head_dim=16,
                patch_size=8,
                pooling_kernel_size=2,
                position_embedding_size=128,
            ),
            audio_config=None,
            boi_token_id=ids("<|image>"),
            eoi_token_id=ids("<image|>"),
            image_token_id=ids("<|image|>"),
            video_token_id=ids("<|video|>"),
            boa_token_id=ids("<|audio>"),
            eoa_token_index=ids("<audio|>"),
            audio_token_id=ids("<|audio|>"),
        )
    )
    return _ending(model, words), processor


def _internvl() -> tuple[Any, Any]:
    words = _tokenizer(
        (tiny.PAD, tiny.END, tiny.START),
        families.INTERNVL.special,
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    size = {"height": TILE, "width": TILE}
    processor = hf.InternVLProcessor(
        image_processor=hf.GotOcr2ImageProcessor(size=size, min_patches=1, max_patches=1),
        video_processor=hf.InternVLVideoProcessor(size=size),
        tokenizer=words,
        chat_template=tiny.template(tiny.START, tiny.END, "<IMG_CONTEXT>\n"),
        image_seq_length=TOKENS,
    )
    model = hf.InternVLForConditionalGeneration(
        hf.InternVLConfig(
            text_config=_text(words, model_type="qwen2"),
            vision_config=dict(_EYES, image_size=[TILE, TILE], patch_size=[tiny.PATCH] * 2),
            image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
            image_seq_length=TOKENS,
            downsample_ratio=1 / tiny.MERGE,
        )
    )
    return _ending(model, words), processor


TOYS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "qwen2.5-vl": _qwen,
    "gemma3": _gemma3,
    "gemma4": _gemma4,
    "internvl": _internvl,
}


def _tokenizer(own: Sequence[str], special: Sequence[str], **named: str) -> Any:
    """Return the tokenizer of ``tiny`` with another family's special tokens: pad, eos, bos first.

    The checkpoints' tokenizers know those of pictures by name, and their processors ask for them.
    """
    return tiny.tokenizer(
        special=(*own, *special),
        pad_token=own[0],
        eos_token=own[1],
        bos_token=own[2],
        extra_special_tokens=named,
    )


def _begun(words: Any) -> Any:
    """Return a tokenizer that begins every text with its mark, as Gemma's do.

    Their chat templates write it, too: who tokenizes what a template wrote must ask for no
    further special tokens, or it stands there twice.
    """
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", words.bos_token_id)]
    )
    return words


def _gemma_template(start: str, end: str, image: str) -> str:
    """Return a chat template that begins with the mark of a text's beginning, as Gemma's do."""
    return "<bos>" + tiny.template(start, end, image)


def _rows(words: Any) -> int:
    return -(-len(words) // 8) * 8


def _text(words: Any, **more: Any) -> dict[str, Any]:
    """Return the configuration of a language side."""
    return dict(
        _TEXT,
        vocab_size=_rows(words),
        num_key_value_heads=2,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        **more,
    )


def _sliding() -> list[str]:
    return ["sliding_attention", "full_attention"]


def _window() -> dict[str, int]:
    return {"sliding_window": 64}


def _ending(model: Any, words: Any) -> Any:
    """Return the model with a generation that ends where a turn ends."""
    end = next(t for t in ("<end_of_turn>", "<turn|>", tiny.END) if t in words.get_vocab())
    model.generation_config = hf.GenerationConfig(
        eos_token_id=[words.convert_tokens_to_ids(end), words.eos_token_id],
        pad_token_id=words.pad_token_id,
        bos_token_id=words.bos_token_id,
    )
    return model
