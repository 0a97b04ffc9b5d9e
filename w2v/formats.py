"""Questions as the rows that other trainers read, and such rows back as questions.

Each format is a pair of functions: ``pack`` writes what the trainer wants, ``unpack`` reads what
a row of that trainer says. What a question knows beyond that stands in one more column, ``w2v``,
so that a row we wrote reads back exactly; where the row was edited, the row wins. The column is
JSON *text*: a column of objects with keys of their own would be refused by Arrow, which wants one
type per column (huggingface/datasets#6777). Every trainer here passes over a column it does not
know, or hands it to the reward function.

A row from elsewhere has no such column. It becomes a question of what it says: the id is a digest
of the row, the task is known only where it is stated, the scene is read off World2VLM's paths.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from w2v import boxes, motion, paths, phrases
from w2v.errors import BadFile, BadLine, BadRecord
from w2v.provenance import digest
from w2v.records import Message, Question
from w2v.stream import dumps, loads, raw

Row = dict[str, Any]
Place = Callable[[str], str]
COLUMN, TAG = "w2v", "<image>"


@dataclass(frozen=True, kw_only=True)
class Format:
    """How one trainer wants its rows.

    Args:
        pack: Return the row of a question, without our own column.
        unpack: Return the fields of a question that a row states, as plain JSON.
        finds: How that trainer is told the folder of relative picture paths; empty where it
            cannot be told, and paths should be absolute.
        keeps: Whether our own column is added.
        shelf: Key of the object in which our column stands; empty for the row itself.
    """

    pack: Callable[[Question], Row]
    unpack: Callable[[Row], Row]
    finds: str
    keeps: bool = True
    shelf: str = ""

    def write(self, question: Question, place: Place = str) -> Row:
        """Return the row of a question; ``place`` rewrites the path of a picture.

        Raises:
            BadRecord: This trainer could not read the row.
        """
        question = dataclasses.replace(question, images=tuple(map(place, question.images)))
        _count_images(question)
        row = self.pack(question)
        if self.keeps:
            said = _filled(self.unpack(row))
            kept = {k: v for k, v in question.to_json().items() if k not in said or said[k] != v}
            kept.pop("kind")
            self._shelf(row)[COLUMN] = dumps(kept)
        return row

    def read(self, row: Row, place: Place = str) -> Question:
        """Return the question in a row; ``place`` finds a picture and returns its path.

        Raises:
            BadRecord: The row is not of this format; the message names the key.
        """
        said = self.unpack(row)
        said["images"] = [place(image) for image in said["images"]]
        kept = self._kept(row) or _from_paths(said["images"]) | {"id": digest(row)}
        question = Question.from_json({"kind": Question.kind, **_filled(said), **kept})
        _count_images(question)
        return question

    def _shelf(self, row: Row) -> Row:
        found = row.get(self.shelf) if self.shelf else row
        return found if isinstance(found, dict) else {}

    def _kept(self, row: Row) -> Row:
        """Return what our own column holds, empty where there is none."""
        found = self._shelf(row).get(COLUMN)
        if not found:
            return {}
        try:
            kept = loads(found) if isinstance(found, str) else found
        except ValueError:
            kept = None
        if not isinstance(kept, dict):
            raise BadRecord(f"row.{COLUMN} should be an object written as JSON text")
        return kept


# ── what a question says without saying it ─────────────────────────────────────────────────────

_TRUTHS = ("yes", "no", "true", "false")
_OPTION = re.compile(r"^([A-Z])\. (.+)$", re.MULTILINE)
_ONE_BOX = re.compile(r"\[[^\[\]]*\]")
_IN_BUNDLE = re.compile(r"^(?P<bundle>(?:.*/)?(?P<scene>[^/]+)/traj_(?P<name>[^/]+))/samples-rgb/")


@functools.cache
def _defaults() -> Row:
    """Return the value of every field that a row may leave out."""
    empty = Question(id="", task_type="", messages=(), images=(), answer="")
    return {k: v for k, v in empty.to_json().items() if k not in ("kind", "id", "meta")}


def _filled(said: Row) -> Row:
    """Return all fields but the id: as said, else by the way question and answer are written."""
    form = _form(said["task_type"], said["answer"])
    options = _options(said["messages"]) if form == "choice" else []
    return {**_defaults(), "meta": {}, "form": form, "options": options, **said}


def _options(turns: list[dict[str, str]]) -> list[str]:
    """Return the options that a question lists, one per line: ``A. …``, ``B. …``."""
    asked = next((turn["content"] for turn in turns if turn["role"] == "user"), "")
    found = _OPTION.findall(asked)
    listed = all(letter == phrases.LETTERS[k] for k, (letter, _) in enumerate(found))
    return [text for _, text in found] if listed and len(found) > 1 else []


def _form(task_type: str, answer: str) -> str:
    """Return plain, choice or sentence: how an answer to one of the eight tasks is written."""
    if task_type not in ("A1", "A2", "A3", "A4", "D1", "D2", "D3", "D4"):
        return "plain"
    if len(answer) == 1:
        return "choice"
    if task_type == "D1":
        plain = bool(_ONE_BOX.fullmatch(answer) and boxes.find(answer))
    elif task_type in ("A4", "D2", "D4"):
        plain = answer.lower() in _TRUTHS
    else:
        plain = _all_moves(answer)
    return "plain" if plain else "sentence"


def _all_moves(answer: str) -> bool:
    try:
        return bool(motion.read(answer))
    except BadRecord:
        return False


def _from_paths(images: list[str]) -> Row:
    """Return scene, clip and bundle of pictures that lie in one World2VLM bundle."""
    found = {m.group(): m for m in map(_IN_BUNDLE.match, images) if m}
    if len(found) != 1:
        return {}
    match = next(iter(found.values()))
    scene = match["scene"]
    return {"scene": scene, "clip": f"{scene}/{match['name']}", "bundle": match["bundle"]}


def _count_images(question: Question) -> None:
    """Check that there is one picture for each tag.

    Raises:
        BadRecord: There is not; every trainer would fail on it, or skip it.
    """
    tags = sum(m.content.count(TAG) for m in question.messages)
    if tags != len(question.images):
        raise BadRecord(
            f"messages hold {tags} {TAG} tags but images hold {len(question.images)} paths",
            f"write one {TAG} where each picture belongs",
        )


# ── parts of rows ──────────────────────────────────────────────────────────────────────────────


def _need(row: Row, key: str, where: str = "row") -> Any:
    if row.get(key) is None:
        raise BadRecord(f"{where} lacks {key!r}")
    return row[key]


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise BadRecord(f"{where} should be text, got {type(value).__name__}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadRecord(f"{where} should be a list, got {type(value).__name__}")
    return value


def _object(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise BadRecord(f"{where} should be an object, got {type(value).__name__}")
    return value


def _images(row: Row) -> list[str]:
    """Return the picture paths of a row: ``images``, or one ``image``; texts or ``{path}``."""
    found = row.get("images") or row.get("image")
    found = [found] if isinstance(found, str | dict) else found
    return [
        _path(image, f"row.images[{k}]") for k, image in enumerate(_list(found or [], "images"))
    ]


def _path(image: Any, where: str) -> str:
    if isinstance(image, dict):
        if image.get("bytes"):
            raise BadRecord(f"{where} is a picture inside the row", "save it to a file first")
        image = image.get("path") if image.get("image") is None else image["image"]
    return _text(image, where).removeprefix("file://")


_ROLES = {"human": "user", "gpt": "assistant"}
_SHAREGPT = {role: name for name, role in _ROLES.items()} | {"system": "system"}


def _turns(row: Row, *keys: str) -> list[dict[str, str]]:
    """Return messages from the first of these keys, in OpenAI's or in ShareGPT's words.

    A content may be text with ``<image>`` tags or a list of typed parts; a ``system`` column
    becomes the first message.
    """
    key = next((k for k in keys if row.get(k) is not None), keys[0])
    turns = []
    for k, found in enumerate(_list(_need(row, key), f"row.{key}")):
        where = f"row.{key}[{k}]"
        turn = _object(found, where)
        role = _text(turn.get("role", turn.get("from")), f"{where}.role")
        content = turn.get("content", turn.get("value"))
        turns.append({"role": _ROLES.get(role, role), "content": _joined(content, where)})
    if row.get("system"):
        turns.insert(0, {"role": "system", "content": _text(row["system"], "row.system")})
    return turns


def _joined(content: Any, where: str) -> str:
    """Return a content as text with ``<image>`` tags."""
    if isinstance(content, str):
        return content
    said = []
    for k, found in enumerate(_list(content, f"{where}.content")):
        part = _object(found, f"{where}.content[{k}]")
        if part.get("type") == "image":
            said.append(TAG)
        elif part.get("type") == "text":
            said.append(_text(part.get("text"), f"{where}.content[{k}].text"))
        else:
            raise BadRecord(f"{where}.content[{k}] is neither text nor image")
    return "".join(said)


def _parts(message: Message) -> Row:
    """Return a message whose content is a list of typed parts."""
    parts: list[Row] = []
    for k, text in enumerate(message.content.split(TAG)):
        parts += [{"type": "image"}] if k else []
        parts += [{"type": "text", "text": text}] if text else []
    return {"role": message.role, "content": parts}


def _plain(messages: Iterable[Message]) -> list[Row]:
    return [{"role": m.role, "content": m.content} for m in messages]


def _asked(question: Question) -> tuple[Message, ...]:
    """Return the messages without the answer turn.

    Raises:
        BadRecord: Nothing is left to ask.
    """
    said = question.messages
    said = said[:-1] if said and said[-1].role == "assistant" else said
    if not said:
        raise BadRecord("messages hold no question")
    return said


def _told(question: Question) -> tuple[Message, ...]:
    """Return the messages with an answer turn at the end."""
    asked = _asked(question)
    given = question.messages[len(asked) :]
    return asked + (given or (Message(role="assistant", content=question.answer),))


def _spoken(turns: list[dict[str, str]]) -> str:
    """Return the answer that a conversation ends with."""
    if not turns or turns[-1]["role"] != "assistant":
        raise BadRecord("row.messages should end with the assistant's answer")
    return turns[-1]["content"]


def _gold(row: Row, *keys: str) -> str:
    """Return the answer from the first of these keys."""
    key = next((k for k in keys if row.get(k) is not None), keys[0])
    return _text(_need(row, key), f"row.{key}")


def _answered(turns: list[dict[str, str]], answer: str) -> list[dict[str, str]]:
    """Return the turns of a prompt with the answer behind them."""
    return [*turns, {"role": "assistant", "content": answer}]


def _fields(row: Row, turns: list[dict[str, str]], answer: str) -> Row:
    """Return what nearly every row says."""
    task_type = _text(row.get("task_type") or "", "row.task_type")
    return {"task_type": task_type, "messages": turns, "images": _images(row), "answer": answer}


# ── the formats ────────────────────────────────────────────────────────────────────────────────


def _pack_world2vlm(question: Question) -> Row:
    return {
        "task_type": question.task_type,
        "messages": _plain(_told(question)),
        "images": list(question.images),
    }


def _unpack_messages(row: Row) -> Row:
    turns = _turns(row, "messages", "conversations")
    return _fields(row, turns, _spoken(turns))


def _pack_swift_grpo(question: Question) -> Row:
    """GRPO hands every further column to the reward functions; ``solution`` is swift's own."""
    return {
        "messages": _plain(_asked(question)),
        "images": list(question.images),
        "solution": question.answer,
        "task_type": question.task_type,
    }


def _unpack_swift_grpo(row: Row) -> Row:
    turns = _turns(row, "messages")
    answer = _gold(row, "solution", "answer")
    return _fields(row, _answered(turns, answer), answer)


def _pack_sharegpt(question: Question) -> Row:
    """LLaMA-Factory skips a row whose turns do not alternate, with a warning: refuse it here."""
    said = _told(question)
    turns = said[1:] if said[0].role == "system" else said
    if len(turns) % 2 or any(m.role != ("user", "assistant")[k % 2] for k, m in enumerate(turns)):
        raise BadRecord(
            "ShareGPT wants turns of user and assistant in alternation, "
            f"got {', '.join(m.role for m in said)}"
        )
    return {
        "conversations": [{"from": _SHAREGPT[m.role], "value": m.content} for m in said],
        "images": list(question.images),
        "task_type": question.task_type,
    }


def _unpack_sharegpt(row: Row) -> Row:
    turns = _turns(row, "conversations", "messages")
    return _fields(row, turns, _spoken(turns))


def _pack_easyr1(question: Question) -> Row:
    """EasyR1 has one text per prompt; the answer is JSON text, as World2VLM's reward reads it."""
    asked = _asked(question)
    if [m.role for m in asked] != ["user"]:
        raise BadRecord(
            f"EasyR1 carries one turn of the user, got {', '.join(m.role for m in asked)}"
        )
    gold = {"task_type": question.task_type, "answer": question.answer}
    return {
        "prompt": asked[0].content,
        "answer": json.dumps(gold, ensure_ascii=False),
        "images": list(question.images),
        "task_type": question.task_type,
    }


def _unpack_easyr1(row: Row) -> Row:
    answer = _text(_need(row, "answer"), "row.answer")
    try:
        gold = loads(answer)
    except ValueError:
        gold = None
    if isinstance(gold, dict) and "answer" in gold:
        row = {"task_type": gold.get("task_type"), **row}
        answer = _text(gold["answer"], "row.answer.answer")
    turns = [{"role": "user", "content": _text(_need(row, "prompt"), "row.prompt")}]
    return _fields(row, _answered(turns, answer), answer)


def _pack_verl(question: Question) -> Row:
    """Verl groups its validation scores by ``data_source``: one for each task."""
    return {
        "data_source": f"w2v/{question.task_type}",
        "prompt": _plain(_asked(question)),
        "images": [{"image": image} for image in question.images],
        "ability": "spatial",
        "reward_model": {"style": "rule", "ground_truth": question.answer},
        "extra_info": {"id": question.id, "task_type": question.task_type},
    }


def _unpack_verl(row: Row) -> Row:
    gold = _object(_need(row, "reward_model"), "row.reward_model")
    answer = _text(gold.get("ground_truth"), "row.reward_model.ground_truth")
    extra = _object(row.get("extra_info") or {}, "row.extra_info")
    turns = _answered(_turns(row, "prompt"), answer)
    return _fields({**row, "task_type": extra.get("task_type")}, turns, answer)


def _pack_trl(question: Question) -> Row:
    """Every content is a list of typed parts: one type per column is all that Arrow takes."""
    said = _told(question)
    return {
        "prompt": list(map(_parts, said[:-1])),
        "completion": list(map(_parts, said[-1:])),
        "images": list(question.images),
        "task_type": question.task_type,
    }


def _unpack_trl(row: Row) -> Row:
    if row.get("prompt") is None:
        return _unpack_messages(row)
    turns = _turns(row, "prompt") + _turns({**row, "system": None}, "completion")
    return _fields(row, turns, _spoken(turns))


def _pack_trl_grpo(question: Question) -> Row:
    """Every further column is handed to the reward functions."""
    return {
        "prompt": list(map(_parts, _asked(question))),
        "images": list(question.images),
        "answer": question.answer,
        "task_type": question.task_type,
    }


def _unpack_trl_grpo(row: Row) -> Row:
    answer = _gold(row, "answer", "solution")
    return _fields(row, _answered(_turns(row, "prompt"), answer), answer)


_SWIFT = "start swift with ROOT_IMAGE_DIR={folder}"
FORMATS: dict[str, Format] = {
    "world2vlm": Format(pack=_pack_world2vlm, unpack=_unpack_messages, finds=_SWIFT, keeps=False),
    "ms-swift": Format(pack=_pack_world2vlm, unpack=_unpack_messages, finds=_SWIFT),
    "ms-swift-grpo": Format(pack=_pack_swift_grpo, unpack=_unpack_swift_grpo, finds=_SWIFT),
    "llama-factory": Format(
        pack=_pack_sharegpt,
        unpack=_unpack_sharegpt,
        finds="name the folder with dataset_dir: {folder}",
    ),
    "easyr1": Format(
        pack=_pack_easyr1, unpack=_unpack_easyr1, finds="start EasyR1 with data.image_dir={folder}"
    ),
    "verl": Format(pack=_pack_verl, unpack=_unpack_verl, finds="", shelf="extra_info"),
    "trl": Format(pack=_pack_trl, unpack=_unpack_trl, finds=""),
    "trl-grpo": Format(pack=_pack_trl_grpo, unpack=_unpack_trl_grpo, finds=""),
}
"""Every format by the name the user types. ``world2vlm`` is that of its own tools: three keys."""


def dataset_info(file: Path) -> Row:
    """Return LLaMA-Factory's entry for a file of ours, for ``dataset_info.json`` beside it.

    The tags are its defaults for ShareGPT (data/README.md), so only the columns are named.
    """
    columns = {"messages": "conversations", "images": "images"}
    entry = {"file_name": file.name, "formatting": "sharegpt", "columns": columns}
    return {paths.safe_name(file.stem): entry}


# ── rows in files, pictures beside them ────────────────────────────────────────────────────────


def rows(lines: Iterable[str], source: str) -> Iterator[tuple[int, str, Row | BadLine]]:
    """Yield (line or item number, text, row or what is wrong with it) of JSONL or a JSON array."""
    lines = iter(lines)
    for first in lines:
        if first.strip():
            break
    else:
        return
    if not first.lstrip().startswith("["):
        yield from raw(_again(first, lines), source)
        return
    try:
        found = loads(first + "".join(lines))
    except ValueError as error:
        yield 1, "", BadLine(source, 1, f"not JSON ({error})")
        return
    for number, row in enumerate(found, start=1):
        good = isinstance(row, dict)
        yield number, "", row if good else BadLine(source, number, "not an object")


def _again(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def finder(root: Path, beside: Path) -> Place:
    """Return what turns a path in a foreign row into one relative to the root.

    It is looked for as written, under the root, beside the file, under ``scenes`` of both, and,
    where it holds a folder ``scenes``, from there on: World2VLM writes all of these, absolute
    paths of another machine included.

    Args:
        root: Folder that paths in records are relative to.
        beside: Folder of the file that names the picture.
    """

    def find(path: str) -> str:
        tried = [path]
        if "/scenes/" in path:
            tried.append("scenes/" + path.rpartition("/scenes/")[2])
        for base in (root, beside, root / "scenes", beside / "scenes"):
            for name in tried:
                if os.path.isfile(base / name):
                    return paths.relative(root, base / name)
        raise BadFile(f"{path}: no such picture", "name the folder it is under with --root")

    return find


def placer(how: str, root: Path, beside: Path | None, folder: Path) -> Place:
    """Return what rewrites the path of a picture for a file in ``folder``.

    Args:
        how: relative (to the folder), absolute, or keep (as it is written, unchecked).
        root: Folder that paths in records are relative to.
        beside: Folder of the file that the record came from.
        folder: Folder of the file to be written.
    """
    if how == "keep":
        return str

    def put(path: str) -> str:
        found = os.path.abspath(paths.resolve(root, path, beside))
        return found if how == "absolute" else Path(os.path.relpath(found, folder)).as_posix()

    return put
