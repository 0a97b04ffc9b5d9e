"""Procedural textures: small square sRGB pictures that tile, drawn with numpy alone.

A texture depends only on its own description, never on the room that asks for it, so that it may
be kept and used again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from w2v import provenance

Color = tuple[float, float, float]

_LINEAR = np.arange(256, dtype=np.float32) / 255
_LINEAR = np.where(_LINEAR <= 0.04045, _LINEAR / 12.92, ((_LINEAR + 0.055) / 1.055) ** 2.4)
_LINEAR = _LINEAR.astype(np.float32)


def noise(
    rng: np.random.Generator, n: int, falloff: float, across: float = 1.0, along: float = 1.0
) -> np.ndarray:
    """Return (n, n) tileable noise about 0.5 whose spectrum falls as 1 / f ** falloff.

    Args:
        rng: Where the phases come from.
        n: Size in pixels.
        falloff: 0.2 is grain, 3 is clouds.
        across: Less than 1 stretches the noise along x.
        along: The same along y.
    """
    fy = np.fft.fftfreq(n)[:, None] * n * along
    fx = np.fft.rfftfreq(n)[None, :] * n * across
    f = np.sqrt(fx * fx + fy * fy)
    f[0, 0] = 1
    size = f ** (-falloff / 2)
    size[0, 0] = 0
    wave = np.fft.irfft2(size * np.exp(2j * np.pi * rng.random(size.shape)), s=(n, n))
    wave = (wave - wave.mean()) / (wave.std() + 1e-9)
    return np.clip(0.5 + wave * 0.18, 0, 1).astype(np.float32)


def _mix(one: Color | np.ndarray, two: Color | np.ndarray, share: np.ndarray) -> np.ndarray:
    first = np.asarray(one)
    mixed: np.ndarray = first + (np.asarray(two) - first) * share[..., None]
    return mixed


def _tinted(color: Color, gain: np.ndarray) -> np.ndarray:
    tinted: np.ndarray = np.asarray(color) * gain[..., None]
    return tinted


def _grid(n: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:n, 0:n] / n
    return x, y


def _flat(rng: np.random.Generator, color: Color, second: Color) -> np.ndarray:
    return _tinted(color, 0.985 + 0.03 * noise(rng, 64, 1.0))


def _plaster(rng: np.random.Generator, color: Color, second: Color) -> np.ndarray:
    return _tinted(color, 0.965 + 0.03 * noise(rng, 256, 2.0) + 0.04 * noise(rng, 256, 0.6))


def _wood(rng: np.random.Generator, color: Color, second: Color, n: int = 256) -> np.ndarray:
    grain = noise(rng, n, 2.0, across=0.12, along=1.6)  # the grain runs along x
    fine = noise(rng, n, 1.0, across=0.03)
    rings = 0.5 + 0.5 * np.sin(grain * 34)
    share = 0.2 * rings + 0.5 * fine + 0.28 * grain
    return _mix(np.asarray(color) * 0.66, np.asarray(color) * 1.12, share)


def _planks(rng: np.random.Generator, color: Color, second: Color) -> np.ndarray:
    n, rows = 512, 8
    tall = n // rows
    base, made = _wood(rng, color, second, n), np.empty((n, n, 3))
    for r in range(rows):
        row = np.roll(base, (int(rng.integers(n)), int(rng.integers(n))), (0, 1))[:tall].copy()
        cut = int(rng.integers(n // 3))
        cuts = [cut, cut + n // 3 + int(rng.integers(n // 4))]
        for start, end in ((cuts[0], cuts[1]), (cuts[1], cuts[0] + n)):
            row[:, np.arange(start, end) % n] *= 0.82 + 0.3 * rng.random()
        for cut in cuts:
            row[:, [cut, cut + 1]] *= 0.5
        row[:2] *= 0.55
        made[r * tall : (r + 1) * tall] = row
    return made


def _tiles(rng: np.random.Generator, color: Color, second: Color) -> np.ndarray:
    n, count = 512, 4
    place = np.arange(n) % (n // count)
    edge = np.minimum(place, n // count - place)
    joint = np.minimum(edge[:, None], edge[None, :]) < 3
    gain = 0.94 + 0.1 * rng.random((count, count)).repeat(n // count, 0).repeat(n // count, 1)
    made = _tinted(color, gain * (0.93 + 0.14 * noise(rng, n, 2.4)))
    made[joint] = np.asarray(color) * 0.6 + 0.05
    return made


def _checks(rng: np.random.Generator, color: Color, second: Color) -> np.ndarray:
    n, count = 256, 4
    place = np.arange(n) * count // n
    odd = ((place[:, None] + place[None, :]) % 2).astype(np.float32)
    return _mix(color, second, odd) * (0.94 + 0.12 * noise(rng, n, 2.0))[..., None]


def _fabric(rng: np.random.Generator, color: Color, second: Color) -> np.ndarray:
    n, threads = 256, 64
    y, x = np.mgrid[0:n, 0:n] * (2 * np.pi * threads / n)
    weave = np.sin(x) * np.sign(np.sin(y / 2)) + np.sin(y) * np.sign(np.sin(x / 2))
    uneven = 0.25 * (noise(rng, n, 1.4) - 0.5) + 0.12 * (noise(rng, n, 0.2) - 0.5)
    return _tinted(color, 0.86 + 0.055 * weave + uneven)


def _stripes(rng: np.random.Generator, color: Color, second: Color) -> np.ndarray:
    n, count = 256, 8
    share = (np.sin(np.arange(n) * 2 * np.pi * count / n) > 0).astype(np.float32)
    made = _mix(color, second, np.broadcast_to(share, (n, n)))
    return made * (0.93 + 0.1 * noise(rng, n, 1.0))[..., None]


def _rug(rng: np.random.Generator, color: Color, second: Color) -> np.ndarray:
    x, y = (2 * a - 1 for a in _grid(512))
    reach, pattern = np.maximum(abs(x), abs(y)), int(rng.integers(3))
    wave = (abs(x) + abs(y), np.maximum(abs(x), abs(y)), abs(np.sin(3 * x * np.pi) / 3 + y))
    inner = (np.sin(wave[pattern] * 22) > 0) & (reach < 0.78)
    share = (inner | ((reach > 0.84) & (reach < 0.92))).astype(np.float32)
    return _mix(color, second, share) * (0.84 + 0.26 * noise(rng, 512, 0.3))[..., None]


def _metal(rng: np.random.Generator, color: Color, second: Color) -> np.ndarray:
    return _tinted(color, 0.9 + 0.2 * noise(rng, 128, 1.0, across=0.05))


def _cardboard(rng: np.random.Generator, color: Color, second: Color) -> np.ndarray:
    n = 256
    ribs = 0.03 * np.sin(np.arange(n)[:, None] * 2 * np.pi * 40 / n)
    gain = 0.9 + ribs + 0.16 * (noise(rng, n, 1.2) - 0.5)
    made, tape = _tinted(color, gain), slice(n // 2 - 12, n // 2 + 12)
    made[tape] = _tinted(second, gain[tape])
    return made


def _leaf(rng: np.random.Generator, color: Color, second: Color) -> np.ndarray:
    x, y = _grid(128)
    middle = np.exp(-(((x - 0.5) / 0.03) ** 2))
    veins = 0.4 * (np.sin((y * 14 + abs(x - 0.5) * 8) * 2 * np.pi) > 0.86)
    return _tinted(color, 0.8 + 0.3 * noise(rng, 128, 1.6) + 0.3 * np.clip(middle + veins, 0, 1))


def _marble(rng: np.random.Generator, color: Color, second: Color) -> np.ndarray:
    veins = np.abs(np.sin(noise(rng, 256, 2.6) * 14)) ** 0.35
    return _tinted(color, 0.74 + 0.26 * veins)


def _art(rng: np.random.Generator, color: Color, second: Color) -> np.ndarray:
    """Paint hills under a sky, or soft shapes, in few muted colours."""
    n = 256
    x, y = _grid(n)
    paints = 0.2 + 0.6 * rng.random((6, 3))
    paints = paints * 0.7 + paints.mean(1, keepdims=True) * 0.3
    made = _mix(tuple(paints[0]), tuple(paints[1]), y)
    if rng.random() < 0.5:
        for k in range(2, 6):
            ridge = 0.15 * k + 0.6 * (noise(rng, n, 3.0)[0] - 0.5) / k
            made[y > ridge] = paints[k]
    else:
        for k in range(2, 6):
            cx, cy, r = 0.15 + 0.7 * rng.random(), 0.15 + 0.7 * rng.random(), rng.uniform(0.1, 0.3)
            shape = (x - cx) ** 2 + (y - cy) ** 2 < r * r
            if k % 2:
                shape = (abs(x - cx) < r) & (abs(y - cy) < 0.7 * r)
            made[shape] = paints[k]
    made[np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y)) < 0.07] = 0.83  # the mount
    return made * (0.9 + 0.2 * noise(rng, n, 1.0))[..., None]


def _screen(rng: np.random.Generator, color: Color, second: Color) -> np.ndarray:
    """Draw a desktop with two windows of text."""
    n = 128
    x, y = _grid(n)
    made = _mix(color, second, y)
    for left, top in ((0.06, 0.1), (0.5, 0.25)):
        made[(x > left) & (x < left + 0.42) & (y > top) & (y < top + 0.55)] = (0.85, 0.86, 0.88)
        for line in range(9):
            wide, at = 0.12 + 0.24 * rng.random(), top + 0.05 + 0.05 * line
            text = (x > left + 0.03) & (x < left + 0.03 + wide) & (abs(y - at) < 0.009)
            made[text] = (0.3, 0.32, 0.36)
    return made


def _globe(rng: np.random.Generator, color: Color, second: Color) -> np.ndarray:
    return _mix(color, second, (noise(rng, 256, 2.6) > 0.53).astype(np.float32))


def _clock(rng: np.random.Generator, color: Color, second: Color) -> np.ndarray:
    n = 256
    x, y = (2 * a - 1 for a in _grid(n))
    r, angle = np.hypot(x, y), np.arctan2(x, -y)
    made = np.broadcast_to(np.asarray(color), (n, n, 3)).copy()
    tick = abs((angle / (np.pi / 6) + 0.5) % 1 - 0.5) * r < 0.05
    made[tick & (r > 0.72) & (r < 0.88)] = second
    for reach, thick in ((0.45, 0.045), (0.68, 0.028)):
        at = rng.uniform(0, 2 * np.pi)
        ahead, aside = x * np.sin(at) - y * np.cos(at), x * np.cos(at) + y * np.sin(at)
        made[(ahead > -0.08) & (ahead < reach) & (abs(aside) < thick)] = second
    return made


_PAINTERS: dict[str, Callable[[np.random.Generator, Color, Color], np.ndarray]] = {
    "flat": _flat,
    "plaster": _plaster,
    "wood": _wood,
    "planks": _planks,
    "tiles": _tiles,
    "checks": _checks,
    "fabric": _fabric,
    "stripes": _stripes,
    "rug": _rug,
    "metal": _metal,
    "cardboard": _cardboard,
    "leaf": _leaf,
    "marble": _marble,
    "art": _art,
    "screen": _screen,
    "globe": _globe,
    "clock": _clock,
}


@functools.lru_cache(maxsize=96)
def paint(kind: str, color: Color, second: Color, variant: int) -> np.ndarray:
    """Return the (n, n, 3) uint8 sRGB texture of that description, n a power of two."""
    rng = np.random.default_rng(provenance.seed_of("texture", kind, color, second, variant))
    made = _PAINTERS[kind](rng, color, second)
    return (np.clip(made, 0, 1) * 255 + 0.5).astype(np.uint8)


def linear(image: np.ndarray) -> np.ndarray:
    """Return an sRGB uint8 picture as float32 in linear light, 0 to 1."""
    return _LINEAR[image]


def pyramid(image: np.ndarray) -> list[np.ndarray]:
    """Return a texture and its halvings down to one pixel, float32 in linear light."""
    levels = [linear(image)]
    while len(x := levels[-1]) > 1:
        levels.append((x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4)
    return levels
