"""What things are made of: a texture, and how it takes the light."""

from __future__ import annotations

from dataclasses import dataclass

from w2v.teachers.sim.textures import Color

COLORS: dict[str, Color] = {
    "red": (0.60, 0.15, 0.12),
    "blue": (0.16, 0.26, 0.48),
    "green": (0.20, 0.37, 0.22),
    "yellow": (0.78, 0.61, 0.20),
    "gray": (0.46, 0.46, 0.47),
    "beige": (0.72, 0.64, 0.52),
    "brown": (0.38, 0.25, 0.16),
    "white": (0.82, 0.82, 0.80),
    "black": (0.09, 0.09, 0.095),
    "teal": (0.14, 0.40, 0.42),
    "orange": (0.74, 0.38, 0.15),
    "purple": (0.36, 0.23, 0.43),
}
WOODS: dict[str, Color] = {
    "oak": (0.66, 0.49, 0.32),
    "walnut": (0.38, 0.25, 0.17),
    "pine": (0.79, 0.64, 0.44),
    "cherry": (0.52, 0.28, 0.18),
    "white wood": (0.80, 0.79, 0.76),
    "black wood": (0.13, 0.12, 0.12),
}
_GRAY: Color = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Material:
    """A texture and its optics.

    Args:
        kind: The texture's painter, with ``color``, ``second`` and ``variant``.
        color: Main colour, sRGB.
        second: Second colour of a pattern, sRGB.
        variant: Tells apart textures that are otherwise described alike.
        scale: Meters that one repeat of the texture covers.
        roughness: 0 is a mirror, 1 is chalk; above 0.5 nothing is reflected.
        specular: Reflectance seen head-on.
        emission: Light given off, in units of the texture's colour.
        clear: Lets the light of lamps and sun pass (glass, a lit bulb).
        outdoors: Shows what is outside, as a window pane does.
    """

    kind: str
    color: Color
    second: Color = _GRAY
    variant: int = 0
    scale: float = 1.0
    roughness: float = 0.8
    specular: float = 0.04
    emission: float = 0.0
    clear: bool = False
    outdoors: bool = False


def fabric(color: str) -> Material:
    """Return woven cloth of a named colour."""
    return Material("fabric", COLORS[color], scale=0.35, roughness=0.95, specular=0.02)


def striped(color: str, second: str) -> Material:
    """Return striped cloth of two named colours."""
    stripes = COLORS[color], COLORS[second]
    return Material("stripes", *stripes, scale=0.4, roughness=0.95, specular=0.02)


def wood(name: str) -> Material:
    """Return varnished wood of a named kind."""
    return Material("wood", WOODS[name], scale=0.8, roughness=0.45, specular=0.05)


def lacquer(color: str) -> Material:
    """Return satin paint of a named colour."""
    return Material("flat", COLORS[color], roughness=0.4, specular=0.05)


def ceramic(color: str) -> Material:
    """Return glazed ceramic of a named colour."""
    return Material("flat", COLORS[color], roughness=0.15, specular=0.06)


def rug(color: str, second: str, variant: int, scale: float) -> Material:
    """Return a rug pattern, one repeat to ``scale`` meters."""
    colors = COLORS[color], COLORS[second]
    return Material("rug", *colors, variant, scale, roughness=1.0, specular=0.01)


def plain(color: Color, roughness: float = 0.8, specular: float = 0.04) -> Material:
    """Return an even surface of any colour."""
    return Material("flat", color, roughness=roughness, specular=specular)


def glowing(color: Color, emission: float) -> Material:
    """Return a bulb or a lamp glass that gives off light."""
    return Material("flat", color, roughness=0.5, emission=emission, clear=emission > 2)


METAL = Material("metal", (0.55, 0.55, 0.57), scale=0.3, roughness=0.25, specular=0.5)
DARK_METAL = Material("metal", (0.16, 0.16, 0.17), scale=0.3, roughness=0.4, specular=0.2)
STEEL = Material("metal", (0.68, 0.69, 0.70), scale=0.6, roughness=0.35, specular=0.35)
CARDBOARD = Material(
    "cardboard", (0.66, 0.48, 0.30), (0.78, 0.66, 0.46), scale=0.4, roughness=0.9, specular=0.02
)
LEAF = Material("leaf", (0.18, 0.37, 0.12), roughness=0.55, specular=0.04)
STEM = plain((0.22, 0.32, 0.12))
SOIL = plain((0.13, 0.09, 0.06), 1.0, 0.01)
TRIM = plain((0.84, 0.84, 0.82), 0.45)
BLACK_GLASS = plain((0.03, 0.032, 0.038), 0.08, 0.08)
MARBLE = Material("marble", (0.80, 0.79, 0.77), scale=0.9, roughness=0.2, specular=0.05)
PANE = Material("flat", (0.9, 0.95, 1.0), roughness=1.0, clear=True, outdoors=True)
PAPER = plain((0.80, 0.78, 0.72), 0.95, 0.02)
