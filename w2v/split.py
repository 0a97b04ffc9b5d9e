"""Splits by scene: a scene's name alone, not chance, says whether it is trained on or held out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from w2v.errors import BadRecord
from w2v.provenance import seed_of

_RANGE = float(1 << 64)


def parse(text: str) -> dict[str, float]:
    """Read ``train=.99,val=.01``; shares are scaled to a sum of 1.

    Raises:
        BadRecord: A part is not NAME=SHARE, a name is given twice, a share is not a positive
            number, or there are no shares.
    """
    shares: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, share = (word.strip() for word in part.partition("="))
        try:
            value = float(share)
        except ValueError:
            value = math.nan
        if not (name and equals and math.isfinite(value) and value >= 0) or name in shares:
            raise BadRecord(f"{part!r} is not a split", "write e.g. train=.99,val=.01")
        shares[name] = value
    total = sum(shares.values())
    if not 0 < total < math.inf:
        raise BadRecord(f"{text!r} names no split", "write e.g. train=.99,val=.01")
    return {name: share / total for name, share in shares.items()}


def assign(scene: str, shares: Mapping[str, float], seed: int = 0) -> str:
    """Return the split of a scene; it depends on no other scene.

    Shares are met on average only: few scenes may leave a small split empty, see ``assign_all``.
    """
    place, upto, last = seed_of("split", seed, scene) / _RANGE, 0.0, ""
    for name, share in shares.items():
        upto += share
        last = name if share > 0 else last
        if share > 0 and place < upto:
            return name
    return last  # the shares' sum is a rounding error short of 1


def assign_all(scenes: Iterable[str], shares: Mapping[str, float], seed: int = 0) -> dict[str, str]:
    """Return the split of each scene: exact shares, and no empty split while scenes last.

    Scenes are ranked by hash and cut at the cumulative shares, so the order they come in does not
    matter; adding scenes may move some that stand at a cut.
    """
    order = sorted(set(scenes), key=lambda scene: (seed_of("split", seed, scene), scene))
    sizes = _sizes(len(order), {name: share for name, share in shares.items() if share > 0})
    names = [name for name, size in sizes.items() for _ in range(size)]
    return dict(zip(order, names, strict=True))


def _sizes(number: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Return how many scenes each split gets: nearest to its share, one at least if there are.

    Where there are fewer scenes than splits, the largest splits get one each.
    """
    wanted = {name: share * number for name, share in shares.items()}
    biggest = sorted(shares, key=lambda name: -shares[name])
    sizes = {name: max(1, math.floor(wanted[name])) for name in shares}
    for name in biggest[::-1] if number < len(sizes) else ():
        sizes[name] = int(name in biggest[:number])
    while sum(sizes.values()) != number:
        short = sum(sizes.values()) < number
        able = [name for name in sizes if short or sizes[name] > 1]
        gap = {name: (wanted[name] - sizes[name]) * (1 if short else -1) for name in able}
        name = max(able, key=lambda name: gap[name])
        sizes[name] += 1 if short else -1
    return sizes
