"""The built-in checks of ``w2v validate``. This half is light; the checks are in its siblings.

A check's options are its factory's parameters. One that reads files takes ``root``, which the
command fills in with ``--root``. No module here is named like a check: importing it would hide the
factory of that name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from w2v import hookimpl
from w2v.kinds import Check, Offer
from w2v.plugins import need

EXTRA = "w2v[checks]"


@hookimpl
def w2v_checks() -> Mapping[str, Offer]:
    """Offer the built-in checks, cheap ones first."""
    makers = (
        grammar,
        duplicates,
        leaks,
        images,
        boxes,
        moves,
        geometry,
        balance,
        blind,
        contamination,
    )
    return {make.__name__: Offer(make=make) for make in makers}


def grammar() -> Check:
    """Messages are well formed, images are as many as the task wants, the answer can be read."""
    from w2v.checks.rows import Grammar

    return Grammar()


def images(root: Path = Path(".")) -> Check:
    """Every picture decodes, lies under the root and has the size of its clip's frames."""
    need("PIL", "w2v[images]")
    from w2v.checks.rows import Images

    return Images(root)


def boxes(root: Path = Path(".")) -> Check:
    """Boxes lie in the frame, and those in words are those of the evidence."""
    from w2v.checks.rows import Boxes

    return Boxes(root)


def moves(root: Path = Path(".")) -> Check:
    """Moves in question and answer are those that the bundle says were made."""
    from w2v.checks.rows import Moves

    return Moves(root)


def geometry(root: Path = Path("."), limit: float = 0.98) -> Check:
    """Labels are derived again from poses, masks and depth; fails where too few agree.

    ``limit`` is the least share of agreement, per task, among the answers that can be derived.
    """
    need("numpy", "w2v[images]")
    from w2v.checks.labels import Geometry

    return Geometry(root, limit)


def duplicates() -> Check:
    """No question is asked twice; fails where one question has two answers."""
    from w2v.checks.sets import Duplicates

    return Duplicates()


def leaks(limit: float = 0.0) -> Check:
    """No question contains its answer, no scene is in two splits.

    Fails where more than ``limit`` of a task's questions give the answer away. Questions in the
    paper's own wording, which names the direction in A1 and A2, are counted but kept.
    """
    from w2v.checks.sets import Leaks

    return Leaks(limit)


def balance(limit: float = 0.6) -> Check:
    """No answer is too common; fails where a yes-or-no task has one above ``limit``."""
    from w2v.checks.sets import Balance

    return Balance(limit)


def blind(limit: float = 0.55, sample: int = 5000) -> Check:
    """What guessing without looking earns; fails where the text gives yes or no away.

    A task fails where even the lower end of the 95 % interval of the best guesser is above
    ``limit``. At most ``sample`` questions per task are used, chosen by hash.
    """
    need("sklearn", EXTRA)
    from w2v.checks.text_only import Blind

    return Blind(limit, sample)


def contamination(root: Path = Path("."), against: Path | None = None, distance: int = 4) -> Check:
    """No picture is one of a benchmark's, by perceptual hash; ``against`` is its folder.

    Two pictures are taken for the same where their 64-bit hashes differ in at most ``distance``
    bits. Without ``against`` nothing is compared.
    """
    if against is not None:
        need("imagehash", EXTRA)
    from w2v.checks.hashes import Contamination

    return Contamination(root, against, distance)
