"""A student from a folder or hub id of transformers: one class for every family.

Auto classes, safetensors only, no remote code, and what is on disk is never looked for elsewhere.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from w2v import images, torchvision_cpu
from w2v.errors import BadFile, BadOption, BadRecord, W2VError
from w2v.kinds import Loaded
from w2v.provenance import digest, seed_of
from w2v.records import Question
from w2v.students import families, folders, lean
from w2v.students.compilers import need_compiler
from w2v.students.families import Family, Size

torchvision_cpu.install()

import torch  # noqa: E402
import transformers  # noqa: E402
from huggingface_hub import try_to_load_from_cache  # noqa: E402
from transformers import (  # noqa: E402
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    GenerationConfig,
)

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

transformers.logging.disable_progress_bar()  # one bar per load is noise in a log

MIB = 1 << 20
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a user may set; see ``w2v.students`` for the meaning of each."""

    path: str
    image_tokens: int = 0
    boxes: str = ""
    base: str = ""
    max_new_tokens: int = 128
    temperature: float = 0.0
    seed: int = 0
    batch: int = 8
    device: str = "auto"
    dtype: str = "auto"
    attention: str = ""
    compile: bool = False


class HFStudent:
    """A vision-language model of transformers."""

    def __init__(self, name: str, options: Options) -> None:
        if options.dtype not in DTYPES:
            raise BadOption(f"dtype={options.dtype} is unknown", f"known: {', '.join(DTYPES)}")
        if options.batch < 1 or options.max_new_tokens < 1:
            raise BadOption("batch and max_new_tokens must be 1 or more")
        if options.compile:
            need_compiler("compile=true")
        self.options = options
        self.path = os.path.expanduser(options.path)
        self.base = os.path.expanduser(options.base) or _base(self.path)
        self.stored = folders.settings(Path(self.path)) if Path(self.path).is_dir() else {}
        self.family = _family(name, self.base).with_boxes(
            options.boxes or str(self.stored.get("boxes", ""))
        )

    # ── loading ───────────────────────────────────────────────────────────────────────────────

    @cached_property
    def processor(self) -> Any:
        """Tokenizer and image processor, with the budget set; no weights are read for it."""
        processor = _from_disk_first(AutoProcessor, self._processor_home)
        tokens = self.options.image_tokens or int(self.stored.get("image_tokens", 0))
        if not tokens and not self.stored:
            tokens = self.family.default_tokens
        if tokens:
            self.family.set_image_tokens(processor, tokens)
        processor.tokenizer.padding_side = "left"
        return processor

    @property
    def _processor_home(self) -> str:
        """Where the processor lies: with the weights, or with the base of a bare adapter."""
        folder = Path(self.path)
        own = not folder.is_dir() or (folder / "tokenizer_config.json").exists()
        return self.path if own else self.base

    def load(self, *, dtype: str = "auto", training: bool = False, **more: Any) -> Loaded:
        """Load the weights; see ``w2v.kinds.Trainable``.

        Raises:
            BadFile: The folder is not whole, or holds another kind of model.
        """
        device = "cpu" if training else _device(self.options.device)
        if self.options.attention:
            more.setdefault("attn_implementation", self.options.attention)
        model, told = _from_disk_first(
            AutoModelForImageTextToText,
            self.base,
            dtype=_dtype(dtype if dtype != "auto" else self.options.dtype, device, training),
            use_safetensors=True,
            output_loading_info=True,
            **more,
        )
        if lost := sorted(told["missing_keys"]):  # else they would be drawn at random
            raise BadFile(f"{self.base}: the weights lack {lost[0]}", "is the checkpoint whole?")
        if device == "cpu" and self.family.name == families.TINY.name:
            lean.install(model, compiled=self.options.compile)
        if self.base != self.path:
            model = _with_adapter(model, self.path, training)
        if "quantization_config" not in more:
            model = model.to(device)
        return Loaded(
            model=model.train(training),
            processor=self.processor,
            family=self.family,
            folder=self.path,
            settings=self.settings,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What belongs to the weights and is stored with a checkpoint."""
        return {
            "family": self.family.name,
            "model_type": self.family.model_types[0],
            "image_tokens": self.family.budget(self.processor),
            "boxes": self.family.boxes,
            "base": self.base,
        }

    @cached_property
    def loaded(self) -> Loaded:
        """The model, ready to answer; loaded when the first question is asked."""
        return self.load()

    def describe(self) -> dict[str, Any]:
        """Return what the answers depend on."""
        return {
            **{k: v for k, v in self.settings.items() if k != "base"},
            "weights": weights(self.path),
            **({"base": weights(self.base)} if self.base != self.path else {}),
            "max_new_tokens": self.options.max_new_tokens,
            "temperature": self.options.temperature,
            **({"seed": self.options.seed} if self.options.temperature else {}),
            "dtype": self._dtype_name,
            "transformers": transformers.__version__,
        }

    @property
    def _dtype_name(self) -> str:
        """What ``auto`` comes to here: answers in half precision are not those in full."""
        dtype = _dtype(self.options.dtype, _device(self.options.device), training=False)
        return str((dtype_of(self.base) or "auto") if dtype == "auto" else dtype).split(".")[-1]

    # ── answering ─────────────────────────────────────────────────────────────────────────────

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """Return one response per question, in order; greedy unless a temperature is set.

        Raises:
            BadFile: A picture is missing or cannot be read.
            BadRecord: Pictures and ``<image>`` tags do not match.
        """
        said: dict[int, str] = {}
        for places in self._batches(questions):
            part = [questions[place] for place in places]
            said |= dict(zip(places, self._answer(part), strict=True))
        return [said[place] for place in range(len(questions))]

    def _batches(self, questions: Sequence[Question]) -> Iterator[list[int]]:
        """Yield the places of questions that are answered together.

        Questions without a picture go apart: processors cannot mix them. What is drawn at random
        is drawn alone, so that it does not depend on its company.
        """
        size = 1 if self.options.temperature else self.options.batch
        for pictured in (True, False):
            places = [k for k, q in enumerate(questions) if bool(q.images) == pictured]
            for start in range(0, len(places), size):
                yield places[start : start + size]

    def _answer(self, questions: Sequence[Question]) -> list[str]:
        """Return the responses to one batch."""
        pictures = [open_images(question) for question in questions]
        frames = [self.family.frames(self.processor, [p.size for p in s]) for s in pictures]
        asked = self._encode(questions, pictures, frames)
        if self.options.temperature:
            torch.manual_seed(seed_of(self.options.seed, questions[0].id) % 2**63)
        model = self.loaded.model
        try:
            with torch.inference_mode():
                given = model.generate(**asked.to(model.device), generation_config=self._generation)
        except torch.OutOfMemoryError as error:
            raise W2VError(
                f"{self.path}: out of memory on {model.device} with {len(questions)} questions",
                f"ask fewer at a time (batch={max(1, len(questions) // 2)}) "
                f"or show less (image_tokens={self.family.budget(self.processor) // 2})",
            ) from error
        new = given[:, asked["input_ids"].shape[1] :]
        told = self.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
        return [
            self.family.back(text.strip(), sizes) for text, sizes in zip(told, frames, strict=True)
        ]

    def _encode(
        self,
        questions: Sequence[Question],
        pictures: Sequence[list[Picture]],
        frames: Sequence[list[Size]],
    ) -> Any:
        """Return the model's input for a batch, padded on the left."""
        texts = [
            self.processor.apply_chat_template(
                self.family.messages(question, answer=False, frames=sizes),
                tokenize=False,
                add_generation_prompt=True,
            )
            for question, sizes in zip(questions, frames, strict=True)
        ]
        try:
            return self.processor(
                text=texts,
                images=list(pictures) if pictures[0] else None,
                padding=True,
                add_special_tokens=False,  # the chat template has written them
                return_tensors="pt",
            ).to(dtype=self.loaded.model.dtype)
        except ValueError as error:  # whatever a processor does not like
            names = ", ".join(question.id for question in questions)
            raise BadRecord(f"{names}: the processor refused them ({error})") from error

    @cached_property
    def _generation(self) -> GenerationConfig:
        """How to generate: everything is said, or the checkpoint's own habits would fill in.

        Qwen2.5-VL, for one, ships with a penalty on repetition, which a box of numbers suffers
        from. The ends of a turn are the checkpoint's.
        """
        own = self.loaded.model.generation_config
        tokenizer = self.processor.tokenizer
        warm = self.options.temperature > 0
        return GenerationConfig(
            max_new_tokens=self.options.max_new_tokens,
            do_sample=warm,
            temperature=self.options.temperature if warm else 1.0,
            top_k=0 if warm else 50,
            top_p=1.0,
            min_p=None,
            typical_p=1.0,
            num_beams=1,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            suppress_tokens=self.family.suppressed(self.processor),
            eos_token_id=own.eos_token_id or tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=own.bos_token_id,
        )


def open_images(question: Question) -> list[Picture]:
    """Return a question's pictures: RGB, upright.

    Raises:
        BadFile: A picture is missing or cannot be read.
        BadRecord: Pictures and ``<image>`` tags do not match.
    """
    from PIL import Image

    shown = []
    for path in question.images:
        try:
            shown.append(Image.fromarray(images.load(Path(path))))
        except BadFile as error:
            raise BadFile(f"{question.id}: {error.what}", "is --root right?") from error
    return shown


def weights(path: str) -> str:
    """Return a digest that tells one set of weights from another, of a folder or a cached hub id.

    Of each file the name, the size, and the first and last MiB count.
    """
    config = None if Path(path).is_dir() else try_to_load_from_cache(path, folders.CONFIG)
    folder = Path(config).parent if isinstance(config, str) else Path(path)
    parts = []
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            head = stream.read(MIB)
            stream.seek(max(len(head), file.stat().st_size - MIB))
            parts.append((file.name, file.stat().st_size, head.hex(), stream.read().hex()))
    return digest(*parts)


# ── finding the parts ─────────────────────────────────────────────────────────────────────────


def _base(path: str) -> str:
    """Return where the whole model lies: an adapter names its base."""
    folder = Path(path)
    if not folder.is_dir():
        return path
    return folders.base_of(folder) if folders.is_adapter(folder) else path


def _family(name: str, base: str) -> Family:
    """Return the family of a model, which must be the one that was typed.

    Raises:
        BadFile: It belongs to another family, or to none.
    """
    model_type = type_of(base)
    found = families.named(name, model_type)
    if found is not None:
        return found
    other = families.of_type(model_type)
    hint = f"write {other.name}:path={base}" if other else families.OTHERS.get(model_type, _known())
    raise BadFile(f"{base}: holds a {model_type or 'nameless'} model, which {name} is not", hint)


def _known() -> str:
    types = (kind for family in families.FAMILIES for kind in family.model_types)
    return f"known model types: {', '.join(dict.fromkeys(types))}"


def type_of(path: str) -> str:
    """Return ``model_type`` of a folder or hub id."""
    if Path(path).is_dir():
        return folders.model_type(Path(path))
    return str(_config(path).model_type)


def _config(path: str) -> Any:
    try:
        return _from_disk_first(AutoConfig, path)
    except BadFile as error:
        if "custom code" in error.what or "trust_remote_code" in error.what:
            hint = families.OTHERS["internvl_chat"] if "internvl" in path.lower() else _known()
            raise BadFile(f"{path}: needs remote code, which is never run", hint) from error
        raise


def dtype_of(path: str) -> Any:
    """Return the type that a folder or hub id names for its weights, None where it names none."""
    return _config(path).dtype


def _with_adapter(model: Any, path: str, training: bool) -> Any:
    """Return the model with its adapter around it."""
    from peft import PeftModel

    try:
        with warnings.catch_warnings():  # peft asks transformers by a name that is going away
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            return PeftModel.from_pretrained(model, path, is_trainable=training)
    except Exception as error:  # safetensors and peft raise types of their own
        raise BadFile(
            f"{path}: not an adapter that fits its base ({_first(error)})",
            "is the checkpoint cut in half? name an earlier one",
        ) from error


def _from_disk_first(auto: Any, path: str, **more: Any) -> Any:
    """Load from the folder or the local cache; only then, and only if allowed, from the hub.

    Raises:
        BadFile: It cannot be loaded.
    """
    more["trust_remote_code"] = False
    local = Path(path).is_dir()
    if not local and path.startswith((".", "/")):
        raise BadFile(f"{path}: no such folder", "name the folder of a model, or a hub id")
    offline = os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")
    try:
        try:
            return auto.from_pretrained(path, local_files_only=True, **more)
        except OSError:
            if local or offline:
                raise
        return auto.from_pretrained(path, **more)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # safetensors, tokenizers and json raise types of their own
        raise BadFile(
            f"{path}: cannot be loaded ({_first(error)})",
            "is the checkpoint whole?" if local else f"fetch it first: hf download {path}",
        ) from error


def _first(error: Exception) -> str:
    """Return the first line of an error."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _device(name: str) -> str:
    """Return the device to run on; ``auto`` is the first GPU, else the CPU.

    Raises:
        BadOption: torch has no such device here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise BadOption(f"device {name!r} is not available here", "use device=cpu") from error
    return name


def _dtype(name: str, device: str, training: bool) -> Any:
    """Return the type of the weights; ``auto`` is the checkpoint's own, but float32 on a CPU."""
    if name != "auto":
        return getattr(torch, name)
    return "auto" if training or device != "cpu" else torch.float32
