"""Records in and out of the pipe. Standard output carries JSONL and nothing else."""

from __future__ import annotations

import collections
import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TextIO, TypeVar

from w2v import errors
from w2v.errors import BadFile, BadLine, BadRecord, W2VError
from w2v.records import Record

try:
    import orjson
except ImportError:  # the light core does without; the bytes written are the same
    orjson = None  # type: ignore[assignment]

R = TypeVar("R", bound=Record)
T = TypeVar("T")


def loads(text: str | bytes) -> Any:
    """Return parsed JSON.

    Raises:
        ValueError: The text is not JSON; NaN and Infinity are not.
    """
    return orjson.loads(text) if orjson else json.loads(text, parse_constant=_not_json)


def dumps(value: Any) -> str:
    """Return compact JSON on one line.

    Raises:
        ValueError: A number in it is not finite.
    """
    return _fast(value) if orjson else _plain(value)


def line(record: Record) -> str:
    """Return a record as a line, ``kind`` first."""
    return dumps(record.to_json()) + "\n"


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _fast(value: Any) -> str:
    made = orjson.dumps(value)
    if b"null" in made and not _finite([value]):  # orjson writes NaN as null
        raise ValueError("a number is not finite")
    return made.decode()


_SAFE = frozenset({str, int, bool, type(None)})


def _finite(value: Any) -> bool:
    """Return whether no number in JSON, however deep, is infinite or NaN."""
    for item in value.values() if isinstance(value, dict) else value:
        kind = type(item)
        if kind is float:
            if item - item != 0:
                return False
        elif kind not in _SAFE and not _finite(item):
            return False
    return True


def _not_json(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


@contextlib.contextmanager
def open_input(path: str) -> Iterator[TextIO]:
    """Open a JSONL file, or stdin for ``-``, so that broken text is met line by line.

    Raises:
        BadFile: The file cannot be opened.
    """
    if path == "-":
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="surrogateescape")  # type: ignore[union-attr]
        yield sys.stdin
        return
    try:
        file = open(path, encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror}") from error
    with file:
        yield file


def rows(path: str) -> Iterator[tuple[str, int, str, dict[str, Any] | BadLine]]:
    """Yield (source, line number, text, parsed object or what is wrong with it) of a file."""
    source = "<stdin>" if path == "-" else path
    with open_input(path) as lines:
        for number, text, value in raw(lines, source):
            yield source, number, text, value


def raw(lines: Iterable[str], source: str) -> Iterator[tuple[int, str, dict[str, Any] | BadLine]]:
    """Yield (line number, text, parsed object or what is wrong with it); blank lines pass."""
    import jsonlines

    number = 0

    def counted() -> Iterator[str]:
        nonlocal number
        for line in lines:
            number += 1
            yield line

    reader = jsonlines.Reader(counted(), loads=loads)
    while True:
        try:
            value = reader.read(type=dict, skip_empty=True)
            yield number, "", value
        except EOFError:
            return
        except jsonlines.InvalidLineError as error:
            what = str(error).rpartition(" (line ")[0] or str(error)
            yield error.lineno, str(error.line), BadLine(source, error.lineno, what)


def write_atomic(path: Path, text: str | bytes) -> None:
    """Write a file under a temporary name in the same folder, then rename it."""
    import tempfile

    data = text.encode() if isinstance(text, str) else text
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        os.chmod(temporary, rights())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def rights() -> int:
    """Return who may do what with a new file, as the user's umask has it."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


@contextlib.contextmanager
def own_stdout() -> Iterator[TextIO]:
    """Yield the real standard output; send every stray print, from Python or C, to stderr."""
    real = sys.stdout
    with contextlib.ExitStack() as stack:
        try:
            fd = real.fileno()
        except (OSError, ValueError):  # click's CliRunner has no file descriptors
            out: TextIO = real
        else:
            real.flush()
            out = stack.enter_context(os.fdopen(os.dup(fd), "w", encoding="utf-8", newline="\n"))
            os.dup2(sys.stderr.fileno(), fd)
            stack.callback(lambda: os.dup2(out.fileno(), fd))
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield out


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options that mean the same for every stage."""

    root: Path = Path(".")
    shard: tuple[int, int] = (0, 1)
    limit: int | None = None
    dry_run: bool = False
    summary: Path | None = None
    rejects: Path | None = None
    on_error: str = "fail"
    quiet: bool = False
    verbose: bool = False


class Share(NamedTuple):
    """What a share of a stage's work came to, done elsewhere: lines, and how many of what."""

    text: str
    inputs: int
    outputs: int
    dropped: dict[str, int]


@dataclass
class Stage:
    """One run of one stage: reads, writes, counts, and says at the end what became of what.

    ``read`` counts inputs, ``write`` outputs, ``drop`` what a rule left out by reason, ``fail``
    what could not be done. Failures go to the rejects file and the exit code.
    """

    name: str
    settings: Settings
    out: TextIO
    unit: str = "records"
    inputs: int = 0
    outputs: int = 0
    dropped: collections.Counter[str] = field(default_factory=collections.Counter)
    failed: collections.Counter[str] = field(default_factory=collections.Counter)
    notes: dict[str, Any] = field(default_factory=dict)
    _rejects: TextIO | None = None
    _bar: Any = None
    _started: float = field(default_factory=time.monotonic)

    def read(self, kind: type[R], path: str) -> Iterator[R]:
        """Yield one record per line, lazily, so that a pipe stays a pipe; bad lines ``fail``."""
        return self.parse(path, kind.from_json)

    def parse(self, path: str, read: Callable[[dict[str, Any]], T]) -> Iterator[T]:
        """Yield what ``read`` makes of each line; lines it refuses with BadRecord ``fail``."""
        for source, number, text, value in rows(path):
            try:
                if isinstance(value, BadLine):
                    raise value
                made = read(value)
            except BadLine as error:
                self.inputs += 1
                self.fail("bad line", error, text)
            except BadRecord as error:
                self.inputs += 1
                wrong = BadLine(source, number, error.what, error.hint)
                self.fail("bad record", wrong, dumps(value))
            else:
                yield made

    def write(self, *records: Record) -> None:
        """Write records as lines and flush them: a line is a receipt."""
        self._put(len(records), "".join(map(line, records)))

    def write_row(self, row: dict[str, Any]) -> None:
        """Write one line that is not a record, and flush it."""
        self._put(1, dumps(row) + "\n")

    def _put(self, number: int, text: str) -> None:
        self.outputs += number
        if text and not self.settings.dry_run:
            self.out.write(text)
            self.out.flush()

    def share(self, work: Callable[[Stage], None]) -> Share | None:
        """Do some of the work without a trace, to be ``add``ed; None where anything failed."""
        settings = replace(self.settings, on_error="fail", quiet=True)
        lines = io.StringIO()
        alone = Stage(name=self.name, settings=settings, out=lines)
        try:
            work(alone)
        except Exception:  # noqa: BLE001  done again by the stage itself it fails where it is told
            return None
        return Share(lines.getvalue(), alone.inputs, alone.outputs, dict(alone.dropped))

    def add(self, share: Share) -> None:
        """Write and count what was done elsewhere."""
        self.inputs += share.inputs
        self.dropped.update(share.dropped)
        self._put(share.outputs, share.text)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count what a rule left out."""
        self.dropped[reason] += count

    def fail(self, reason: str, error: W2VError, item: str = "") -> None:
        """Count an item that could not be done; list it; stop at once under ``fail``."""
        if self.settings.on_error == "fail":
            raise error
        self.failed[reason] += 1
        self.log(f"skipped: {error.message}")
        self.reject(reason, error.what, item)

    def reject(self, reason: str, what: str, item: str = "") -> None:
        """Put one line into the rejects file, if one was asked for."""
        if self.settings.rejects is None or self.settings.dry_run:
            return
        if self._rejects is None:
            self._rejects = open(self.settings.rejects, "w", encoding="utf-8")
        item = item.encode("utf-8", "backslashreplace").decode()
        line = {"stage": self.name, "reason": reason, "what": what, "item": item}
        self._rejects.write(dumps(line) + "\n")
        self._rejects.flush()

    def log(self, text: str) -> None:
        """Say something on stderr unless ``--quiet``."""
        if not self.settings.quiet:
            from tqdm import tqdm

            tqdm.write(f"w2v {self.name}: {text}", file=sys.stderr)

    def detail(self, text: str) -> None:
        """Say something on stderr with ``--verbose`` only."""
        if self.settings.verbose:
            self.log(text)

    def progress(self, items: Iterable[T], total: int | None = None) -> Iterator[T]:
        """Yield the items and count them; show how far they are on stderr.

        A bar on a terminal; elsewhere a line every half minute.
        """
        lines = not sys.stderr.isatty()
        from tqdm import tqdm

        tqdm.monitor_interval = 0  # its thread would repeat what was said
        self._bar = tqdm(
            items,
            total=total,
            desc=f"w2v {self.name}",
            unit=f" {self.unit}",
            disable=self.settings.quiet,
            file=_Lines(sys.stderr) if lines else sys.stderr,
            mininterval=30 if lines else 0.2,
            miniters=1,
            delay=30 if lines else 0.5,
            leave=False,
        )
        yield from self._bar

    def figures(self) -> dict[str, Any]:
        """Return what became of what, as plain JSON."""
        return {
            "stage": self.name,
            "in": self.inputs,
            "out": self.outputs,
            "dropped": dict(sorted(self.dropped.items())),
            "failed": dict(sorted(self.failed.items())),
            **self.notes,
            "seconds": round(time.monotonic() - self._started, 2),
        }

    def close(self) -> None:
        """Say what became of what, on stderr and in the summary file."""
        told = f"{self.inputs} in, {self.outputs} out"
        for word, counts in (("dropped", self.dropped), ("FAILED", self.failed)):
            if counts:
                reasons = ", ".join(f"{name} {n}" for name, n in counts.most_common())
                told += f", {counts.total()} {word} ({reasons})"
        self.log(told + (" [dry run: nothing written]" if self.settings.dry_run else ""))
        if self.settings.summary:
            write_atomic(self.settings.summary, dumps(self.figures()) + "\n")
        if self._rejects:
            self._rejects.close()

    @property
    def exit_code(self) -> int:
        """3 where items failed and were skipped, else 0."""
        return errors.SKIPPED if self.failed else errors.DONE


class _Lines:
    """Turns the carriage returns of a progress bar into lines, for log files."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, text: str) -> None:
        text = text.strip("\r\n ")
        if text:
            self.file.write(text + "\n")

    def flush(self) -> None:
        self.file.flush()


@contextlib.contextmanager
def stage(name: str, settings: Settings, unit: str = "records") -> Iterator[Stage]:
    """Run one stage: own stdout, count, and close with the summary and the exit code.

    A full disk, a read-only folder and the like end with one message and exit 1.
    """
    import click

    with own_stdout() as out:
        running = Stage(name=name, settings=settings, out=out, unit=unit)
        try:
            yield running
            out.flush()
        except BrokenPipeError:
            _forget(out)
            raise
        except OSError as error:
            try:
                out.flush()
            except OSError:  # what found no room would be written again on closing
                _forget(out)
            where = f"{error.filename}: " if error.filename else ""
            raise BadFile(f"{where}{error.strerror or error}", _hint(error)) from error
        finally:
            if running._bar is not None:
                running._bar.close()  # else its late end disturbs another bar
        running.close()
    if running.exit_code:
        click.get_current_context().exit(running.exit_code)


def _hint(error: OSError) -> str:
    import errno

    return {
        errno.ENOSPC: "free some space and run the same command again; it continues",
        errno.EDQUOT: "free some quota and run the same command again; it continues",
        errno.EACCES: "choose a folder you may write to",
        errno.EROFS: "choose a folder you may write to",
        errno.EMFILE: "raise the limit of open files (ulimit -n)",
    }.get(error.errno or 0, "")


def _forget(out: TextIO) -> None:
    """Point an output that takes no more at nothing, so that closing it does not complain."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, out.fileno())
        os.close(null)


def take(items: Iterable[T], shard: tuple[int, int], limit: int | None) -> Iterator[T]:
    """Yield items i, i+n, i+2n, … of the first ``limit``."""
    for number, item in enumerate(items):
        if limit is not None and number >= limit:
            return
        if number % shard[1] == shard[0]:
            yield item


def grouped(items: Iterable[T], key: Callable[[T], str]) -> Iterator[list[T]]:
    """Yield runs of neighbours that share a key, as lists."""
    import itertools

    for _, group in itertools.groupby(items, key):
        yield list(group)
