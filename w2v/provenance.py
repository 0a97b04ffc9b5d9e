"""Where things come from: digests of what was asked, and draws that depend on nothing else."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def digest(*parts: Any, size: int = 8) -> str:
    """Return ``2 * size`` hex digits that stand for some plain JSON values."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()


def seed_of(*parts: Any) -> int:
    """Return a 64-bit seed that is a hash of what the draw is for, never of when it is made."""
    return int(digest(*parts), 16)


def draw(number: int, *parts: Any) -> int:
    """Return one of 0 … number-1, chosen by a hash of what the draw is for."""
    text = "\x1f".join(map(str, parts))
    found = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(found, "little") % number
