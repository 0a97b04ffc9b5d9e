"""Work shared among processes, with the results in the order of the items."""

from __future__ import annotations

import collections
import contextlib
import gc
import itertools
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, Generic, Self, TypeVar

from w2v.errors import W2VError

T = TypeVar("T")
R = TypeVar("R")
G = TypeVar("G", bound=Sized)

MOST = 8
"""Processes that one can keep up with, which writes what they make."""
BATCH = 4
"""Items that travel together, since a message costs as much as some work."""
STOPS = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1}
"""What tells a stage to stop, often with all its processes at once."""
SMALL = 1 << 14
"""Bytes of a message that fit into a pipe whose other end is not read."""


def cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def enough(groups: Iterator[G], each: int, asked: int | None = None) -> tuple[Iterator[G], int]:
    """Return the groups as they were, and how many processes to start for what is in them.

    Args:
        groups: What is to be shared; only the first are looked at.
        each: How much in groups is worth a process.
        asked: How many the user wants whatever there is to do; None: as many as are worth it.
    """
    if sys.platform != "linux":
        return groups, 1  # others cannot fork safely
    if asked is not None:
        return groups, asked
    most = min(cores(), MOST)
    seen: list[G] = []
    size = 0
    while size < most * each and (group := next(groups, None)) is not None:
        seen.append(group)
        size += len(group)
    return itertools.chain(seen, groups), max(1, min(most, size // each))


class Workers(Generic[T, R]):
    """Copies of this process that all do the same work.

    Being copies they need nothing but the items, which must pickle as the results must. They
    leave it to this process to be interrupted, and end with it, however it ends.
    """

    def __init__(self, work: Callable[[T], R], number: int) -> None:
        """Say what the work is; the copies are made on entering, where no thread may run yet."""
        self._work, self._number = work, number
        self._pipes: list[Any] = []
        self._processes: list[Any] = []

    def __enter__(self) -> Self:
        """Start them."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # for good in the copies
        try:
            try:
                for _ in range(self._number):
                    self._start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        import multiprocessing  # costs a light stage more than it may need

        copies = multiprocessing.get_context("fork")
        ours, theirs = copies.Pipe()
        process = copies.Process(target=_serve, args=(self._work, theirs, ours), daemon=True)
        process.start()
        theirs.close()
        self._pipes.append(ours)
        self._processes.append(process)

    def __exit__(self, *error: object) -> None:
        """End them; they hold nothing that could be lost."""
        for process in self._processes:
            process.kill()
        for process, pipe in zip(self._processes, self._pipes, strict=True):
            process.join()
            pipe.close()

    def map(self, items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Yield each item with what the work makes of it, in order.

        Items are taken as they are needed: each worker has two batches at most, so that it need
        not wait for the second.

        Raises:
            W2VError: A worker died.
        """
        waiting: collections.deque[tuple[Any, list[T]]] = collections.deque()
        turns = itertools.cycle(self._pipes)
        source = iter(items)
        while batch := list(itertools.islice(source, BATCH)):
            message, pipe = pickle.dumps(batch), next(turns)
            # What may not fit is sent only to a worker that reads, or both would wait to be read.
            while len(waiting) == 2 * self._number or (
                len(message) > SMALL and any(busy is pipe for busy, _ in waiting)
            ):
                yield from _receive(*waiting.popleft())
            with contextlib.suppress(OSError):  # it died, as will be seen on receiving
                pipe.send_bytes(message)
            waiting.append((pipe, batch))
        while waiting:
            yield from _receive(*waiting.popleft())


def _receive(pipe: Any, batch: list[T]) -> Iterator[tuple[T, Any]]:
    try:
        made = pipe.recv()
    except (EOFError, OSError) as error:
        raise W2VError(
            "a worker process died", "it may have run out of memory; try --workers 1"
        ) from error
    return zip(batch, made, strict=True)


def _serve(work: Callable[[T], R], pipe: Any, other: Any) -> None:
    """Work until the other end of the pipe is closed."""
    other.close()
    gc.freeze()
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.send([work(item) for item in pipe.recv()])
