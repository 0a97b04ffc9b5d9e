"""The built-in benchmarks of ``w2v eval``. This half is light; the scoring is in its siblings.

A benchmark's options are its factory's parameters. The command fills in ``path`` with the file of
questions it was given, for a benchmark that takes one.
"""

from __future__ import annotations

from collections.abc import Mapping

from w2v import hookimpl
from w2v.errors import BadOption
from w2v.kinds import Benchmark, Offer
from w2v.plugins import parse_spec


@hookimpl
def w2v_benchmarks() -> Mapping[str, Offer]:
    """Offer the questions that w2v itself asks."""
    return {"questions": Offer(make=questions)}


def questions(
    path: str, reward: str = "robust", meters: float = 0.5, degrees: float = 5.0
) -> Benchmark:
    """Ask the questions in a file of ``build-tasks`` or ``validate``; ``path`` is that file.

    ``reward`` grades. An amount is within tolerance where it is off by at most so many ``meters``
    or ``degrees``.
    """
    if meters < 0 or degrees < 0:
        raise BadOption("benchmark questions: a tolerance cannot be negative")
    from w2v.benchmarks.ours import Questions

    return Questions(path, parse_spec("reward", reward), meters, degrees)
