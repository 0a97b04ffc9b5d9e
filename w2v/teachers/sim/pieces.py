"""A piece of furniture, or of the building, while it is being drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from w2v.teachers.sim.materials import Material
from w2v.teachers.sim.shapes import Surface, Vector


@dataclass(frozen=True)
class Lamp:
    """A small lamp in a piece: where it is, what it sends out, and whether only downwards.

    ``power`` is radiant intensity, red green blue; ``radius`` is in meters.
    """

    at: Vector
    power: Vector
    radius: float
    downwards: bool = False


@dataclass
class Piece:
    """Surfaces with their materials; x right, y up, front towards +z, standing on y = 0.

    ``label`` is empty for the building itself, which is no thing. ``top`` is the height at which
    other things may stand on it.
    """

    label: str
    attributes: dict[str, str] = field(default_factory=dict)
    top: float = 0.0
    parts: list[tuple[Surface, Material]] = field(default_factory=list)
    lamps: list[Lamp] = field(default_factory=list)

    def add(
        self,
        shape: Surface | Iterable[Surface],
        material: Material,
        at: Vector = (0.0, 0.0, 0.0),
        turn: np.ndarray | None = None,
    ) -> None:
        """Add a shape, turned and then shifted.

        The texture is shifted too, by a different amount for each part, so that two legs of a
        table do not show the same grain.
        """
        for surface in (shape,) if isinstance(shape, Surface) else shape:
            moved = surface.moved(turn, at)
            if material.kind in ("wood", "marble", "plaster"):
                shift = (len(self.parts) * np.array([0.618, 0.382])) % 1.0 * material.scale
                moved = Surface(moved.points, moved.normals, moved.uv + shift, moved.texels)
            self.parts.append((moved, material))

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and highest (3,) corner, meters."""
        low = np.min([s.points.min((0, 1, 2)) for s, _ in self.parts], axis=0)
        high = np.max([s.points.max((0, 1, 2)) for s, _ in self.parts], axis=0)
        return low, high
