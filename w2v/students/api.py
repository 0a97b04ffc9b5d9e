"""A student behind an OpenAI-compatible endpoint: vLLM, SGLang, llama.cpp, a vendor's own.

For evaluation only, and from the standard library alone. Boxes are asked for as the prompt has
them, on the grid 0-1000.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from w2v.errors import BadFile, BadOption, BadRecord, W2VError
from w2v.records import Question
from w2v.students.families import IMAGE

KINDS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}
"""First bytes of the pictures that are sent as they are; others are sent as PNG."""
AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)
"""Answers of HTTP that say: not now."""
LONGEST_WAIT = 60.0


@dataclass(frozen=True, kw_only=True)
class ApiStudent:
    """Asks an endpoint, several questions at a time; see ``w2v.students`` for the options."""

    base_url: str
    model: str
    key_env: str = "OPENAI_API_KEY"
    max_new_tokens: int = 128
    temperature: float = 0.0
    concurrency: int = 8
    timeout: float = 120.0
    retries: int = 5
    limit: str = "max_tokens"
    pause: float = 1.0

    def __post_init__(self) -> None:
        if urllib.parse.urlsplit(self.base_url).scheme not in ("http", "https"):
            raise BadOption(
                f"base_url={self.base_url} is not an http address",
                "write openai:base_url=http://localhost:8000/v1,model=NAME",
            )
        if self.concurrency < 1 or self.retries < 0 or self.timeout <= 0:
            raise BadOption("concurrency must be 1 or more, retries 0 or more, timeout above 0")

    def describe(self) -> dict[str, Any]:
        """Return what the answers depend on, as far as it can be known from here."""
        return {
            "family": "openai",
            "base_url": self.base_url,
            "model": self.model,
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
        }

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """Return one response per question, in order.

        Raises:
            W2VError: The endpoint refused, stayed busy or out of reach, or made no sense.
            BadFile: A picture is missing or cannot be read.
        """
        with ThreadPoolExecutor(self.concurrency) as pool:
            waiting = [pool.submit(self._ask, question) for question in questions]
            try:
                return [said.result() for said in waiting]
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _ask(self, question: Question) -> str:
        """Return the response to one question, trying again where that may help."""
        body = json.dumps(
            {
                "model": self.model,
                "messages": messages(question),
                "temperature": self.temperature,
                self.limit: self.max_new_tokens,
            }
        ).encode()
        for tried in range(self.retries + 1):
            try:
                return self._read(self._post(body))
            except _NotNow as error:
                if tried == self.retries:
                    raise W2VError(
                        f"{question.id}: {self.base_url}: {error}, {tried + 1} times",
                        "lower concurrency, or raise timeout or retries",
                    ) from error
                # Twice as long each time, and never all at once.
                wait = self.pause * 2**tried * random.uniform(0.5, 1.0)
                time.sleep(min(LONGEST_WAIT, max(wait, error.wait)))
        raise AssertionError("the last try returns or raises")

    def _post(self, body: bytes) -> bytes:
        """Return what the endpoint answers to one request."""
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.key_env, ""):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(
            self.base_url.rstrip("/") + "/chat/completions", data=body, headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            with error:
                what = f"HTTP {error.code} {_said(error)}".strip()
            if error.code in AGAIN:
                raise _NotNow(what, _seconds(error.headers.get("Retry-After"))) from error
            raise W2VError(f"{self.base_url}: {what}", self._advice(error.code)) from error
        except TimeoutError as error:
            raise _NotNow(f"no answer within {self.timeout:g} s") from error
        except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise _NotNow(f"no answer within {self.timeout:g} s") from error
            raise _NotNow(f"cannot be reached ({reason})") from error

    def _advice(self, code: int) -> str:
        """Return what to do about a request that was refused."""
        if code in (401, 403):
            return f"put the key into the environment variable {self.key_env}, or name another"
        if code == 404:
            return "does base_url end in /v1, and does the endpoint know the model?"
        return "the endpoint may want limit=max_completion_tokens, or smaller or fewer pictures"

    def _read(self, raw: bytes) -> str:
        """Return the text of a chat completion; an empty one is an answer, too."""
        try:
            content = json.loads(raw)["choices"][0]["message"]["content"]
            if content is not None and not isinstance(content, str):
                raise TypeError("content is not text")
        except (ValueError, KeyError, IndexError, TypeError) as error:
            start = raw[:80].decode("utf-8", "replace").replace("\n", " ")
            raise W2VError(
                f"{self.base_url}: not a chat completion: {start!r}",
                "base_url should name an OpenAI-compatible endpoint, up to /v1",
            ) from error
        return (content or "").strip()


class _NotNow(Exception):
    """A failure that may pass; ``wait`` is how many seconds the endpoint asks for."""

    def __init__(self, what: str, wait: float = 0.0) -> None:
        super().__init__(what)
        self.wait = wait


def _seconds(header: str | None) -> float:
    """Return a Retry-After in seconds; a date is passed over, our own pause grows anyway."""
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        return 0.0


def _said(error: urllib.error.HTTPError) -> str:
    """Return what an error's body says, on one line."""
    raw = error.read(2000).decode("utf-8", "replace")
    try:
        told = json.loads(raw)
        told = told.get("error", told) if isinstance(told, dict) else told
        raw = str(told.get("message", told) if isinstance(told, dict) else told)
    except ValueError:
        pass
    return " ".join(raw.split())[:200]


def messages(question: Question) -> list[dict[str, Any]]:
    """Return a question's turns but the answer, its pictures inside as data URIs.

    Raises:
        BadRecord: Pictures and ``<image>`` tags do not match.
        BadFile: A picture is missing or cannot be read.
    """
    asked = [m for m in question.messages if m.role != "assistant"]
    tags = sum(m.content.count(IMAGE) for m in asked)
    if tags != len(question.images):
        raise BadRecord(f"{question.id}: {tags} {IMAGE} tags, {len(question.images)} images")
    pictures = iter(question.images)
    return [{"role": m.role, "content": _content(question.id, m.content, pictures)} for m in asked]


def _content(name: str, text: str, pictures: Any) -> Any:
    """Return one turn: plain text, or parts where it shows pictures."""
    if IMAGE not in text:
        return text
    parts: list[dict[str, Any]] = []
    for place, words in enumerate(text.split(IMAGE)):
        if place:
            url = data_uri(name, Path(next(pictures)))
            parts.append({"type": "image_url", "image_url": {"url": url}})
        if words:
            parts.append({"type": "text", "text": words})
    return parts


def data_uri(name: str, path: Path) -> str:
    """Return a picture as a data URI: its bytes as they are, where every endpoint reads them.

    Raises:
        BadFile: The picture is missing or cannot be read.
    """
    from w2v import images

    try:
        frame = images.load(path)
        raw = path.read_bytes()
        kind = next((kind for start, kind in KINDS.items() if raw.startswith(start)), "")
        raw, kind = (raw, kind) if kind else (images.encode(frame), "png")
    except (BadFile, OSError) as error:
        raise BadFile(f"{name}: {getattr(error, 'what', error)}", "is --root right?") from error
    return f"data:image/{kind};base64,{base64.b64encode(raw).decode()}"
