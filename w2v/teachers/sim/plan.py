"""The floor plan: where pieces stand, so that nothing stands in anything else.

The plan has x to the right and z forward, with the origin in the corner; a yaw of 0 faces the
wall at z = 0. That is the world's frame, whose y points down with the floor at 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from w2v.teachers.sim.pieces import Piece

Block = tuple[float, float, float, float, float, float]
"""x, height and z of the lowest corner, then of the highest, in the plan; meters."""


@dataclass(frozen=True)
class Spot:
    """Where a piece stands: its origin on the plan, its height, and which way it faces."""

    x: float
    z: float
    yaw: float = 0.0
    height: float = 0.0

    def beside(self, right: float, ahead: float, yaw: float = 0.0, up: float = 0.0) -> Spot:
        """Return a spot given in the frame of a piece that stands here (ahead: to its front)."""
        c, s = math.cos(math.radians(self.yaw)), math.sin(math.radians(self.yaw))
        x = self.x + c * right - s * ahead
        z = self.z - s * right - c * ahead
        return Spot(x, z, self.yaw + yaw, self.height + up)


@dataclass(frozen=True)
class Wall:
    """One of the four walls: the middle of its foot, the way it faces, and its width."""

    spot: Spot
    width: float


@dataclass
class Plan:
    """A rectangular room with what already stands in it.

    ``reserved`` are blocks that must stay empty (the swing of a door) without being solid.
    """

    width: float
    depth: float
    height: float
    rng: np.random.Generator
    placed: list[tuple[Piece, Spot]] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    reserved: list[Block] = field(default_factory=list)

    @property
    def walls(self) -> tuple[Wall, ...]:
        """The walls at z = depth, x = width, z = 0 and x = 0, facing inwards."""
        w, d = self.width, self.depth
        return (
            Wall(Spot(w / 2, d, 0), w),
            Wall(Spot(w, d / 2, 90), d),
            Wall(Spot(w / 2, 0, 180), w),
            Wall(Spot(0, d / 2, -90), d),
        )

    def block(self, piece: Piece, spot: Spot) -> Block:
        """Return the upright block that a piece fills when it stands at a spot."""
        low, high = piece.bounds()
        corners = [
            spot.beside(float(x), float(z)) for x in (low[0], high[0]) for z in (low[2], high[2])
        ]
        xs, zs = [c.x for c in corners], [c.z for c in corners]
        up = spot.height
        return min(xs), up + float(low[1]), min(zs), max(xs), up + float(high[1]), max(zs)

    def fits(self, block: Block, gap: float = 0.0) -> bool:
        """Return whether a block lies in the room and ``gap`` meters clear of all others."""
        taken = self.blocks + self.reserved
        return self.inside(block) and not any(_meet(block, other, gap) for other in taken)

    def inside(self, block: Block) -> bool:
        """Return whether a block lies within the walls."""
        x1, _, z1, x2, _, z2 = block
        return x1 >= 0 and z1 >= 0 and x2 <= self.width and z2 <= self.depth

    def lay(self, piece: Piece, spot: Spot) -> None:
        """Put a piece that others may stand on or before, such as a rug."""
        self.placed.append((piece, spot))

    def add(self, piece: Piece, spot: Spot) -> Spot:
        """Put a piece somewhere without asking."""
        self.placed.append((piece, spot))
        self.blocks.append(self.block(piece, spot))
        return spot

    def put(self, piece: Piece, spot: Spot, gap: float = 0.0) -> Spot | None:
        """Put a piece at a spot if it fits there."""
        if not self.fits(self.block(piece, spot), gap):
            return None
        return self.add(piece, spot)

    def against(
        self,
        piece: Piece,
        walls: tuple[int, ...] = (0, 1, 2, 3),
        gap: float = 0.05,
        behind: float = 0.03,
        keep: float = 0.0,
        corner: bool = False,
        middle: bool = False,
    ) -> Spot | None:
        """Stand a piece with its back to one of the walls, wherever it fits.

        Args:
            piece: What to stand there.
            walls: Which walls may be used, by their place in ``walls``.
            gap: Distance to keep from everything else, meters.
            behind: Distance to keep from the wall, meters.
            keep: Free floor wanted in front, meters.
            corner: Try the ends of the wall only.
            middle: Try near the middle of the wall only.
        """
        low, high = piece.bounds()
        for _ in range(40):
            wall = self.walls[walls[int(self.rng.integers(len(walls)))]]
            room = wall.width / 2 - float(high[0] - low[0]) / 2 - behind - 0.02
            if room < 0:
                continue
            share = self.rng.uniform(-1, 1)
            if corner:
                share = math.copysign(1 - 0.1 * abs(share), share)
            elif middle:
                share *= 0.35
            offset = share * room - float(high[0] + low[0]) / 2
            spot = wall.spot.beside(offset, behind - float(low[2]))
            here, ahead = self.block(piece, spot), self.block(piece, spot.beside(0, keep))
            if self.fits(_join(here, ahead), gap):
                return self.add(piece, spot)
        return None

    def anywhere(self, piece: Piece, gap: float, yaw: float | None = None) -> Spot | None:
        """Stand a piece on free floor, facing anywhere unless told."""
        for _ in range(60):
            x, z = self.rng.uniform([0, 0], [self.width, self.depth])
            turn = float(self.rng.uniform(-180, 180)) if yaw is None else yaw
            if spot := self.put(piece, Spot(float(x), float(z), turn), gap):
                return spot
        return None

    def hang(
        self,
        piece: Piece,
        height: float,
        walls: tuple[int, ...] = (0, 1, 2, 3),
        reach: float = 0.45,
    ) -> Spot | None:
        """Hang a piece on a wall where nothing stands within ``reach`` meters before it."""
        low, high = piece.bounds()
        for _ in range(40):
            wall = self.walls[walls[int(self.rng.integers(len(walls)))]]
            room = wall.width / 2 - float(high[0] - low[0]) / 2 - 0.25
            if room < 0:
                continue
            spot = wall.spot.beside(float(self.rng.uniform(-room, room)), 0.001, up=height)
            block = self.block(piece, spot)
            if self.fits(_join(block, self.block(piece, spot.beside(0, reach))), 0.1):
                return self.add(piece, spot)
        return None

    def reserve(self, block: Block) -> None:
        """Keep a block of the room empty."""
        self.reserved.append(block)


def _meet(one: Block, two: Block, gap: float) -> bool:
    sides = zip(one[:3], one[3:], two[:3], two[3:], strict=True)
    return all(
        a1 < b2 + g and b1 < a2 + g
        for (a1, a2, b1, b2), g in zip(sides, (gap, 0, gap), strict=True)
    )


def _join(one: Block, two: Block) -> Block:
    low = [min(a, b) for a, b in zip(one[:3], two[:3], strict=True)]
    high = [max(a, b) for a, b in zip(one[3:], two[3:], strict=True)]
    return low[0], low[1], low[2], high[0], high[1], high[2]
