"""The room itself: floor, walls with their openings, windows, curtains, doors.

What belongs to a wall is drawn in the wall's own frame: x along it, y up from the floor, +z into
the room, with the origin at the middle of the wall's foot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from w2v.teachers.sim import materials
from w2v.teachers.sim.materials import Material
from w2v.teachers.sim.pieces import Piece
from w2v.teachers.sim.shapes import (
    Surface,
    box,
    cylinder,
    lathe,
    panel,
    sheet,
    turn_x,
    turn_y,
    turn_z,
)

REVEAL = 0.14
"""How deep a window sits in its wall, meters."""


@dataclass(frozen=True)
class Opening:
    """A window's hole in a wall: left, right, sill and head, meters in the wall's frame."""

    left: float
    right: float
    sill: float
    head: float

    @property
    def width(self) -> float:
        """Meters from side to side."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Meters from sill to head."""
        return self.head - self.sill

    @property
    def middle(self) -> tuple[float, float]:
        """The x and y of its centre."""
        return (self.left + self.right) / 2, (self.sill + self.head) / 2


def _patch(width: float, height: float, offset: tuple[float, float]) -> Surface:
    """Return a panel whose texture continues from that of its neighbours."""
    flat = panel(width, height)
    return Surface(flat.points, flat.normals, flat.uv + np.array(offset))


def wall(width: float, height: float, holes: list[Opening], paper: Material) -> Piece:
    """Draw a wall around its windows, with their reveals."""
    piece = Piece("")
    cuts = [-width / 2, *(x for h in holes for x in (h.left, h.right)), width / 2]
    spans = [(cuts[k], cuts[k + 1], 0.0, height) for k in range(0, len(cuts), 2)]
    for hole in holes:
        spans += [(hole.left, hole.right, 0.0, hole.sill)]
        spans += [(hole.left, hole.right, hole.head, height)]
    for left, right, low, high in spans:
        middle = ((left + right) / 2, (low + high) / 2)
        flat = _patch(right - left, high - low, middle)
        piece.parts.append((flat.moved(None, (*middle, 0.0)), paper))
    for hole in holes:
        x, y = hole.middle
        lie, stand = panel(hole.width, REVEAL), panel(REVEAL, hole.height)
        piece.add(lie, materials.TRIM, (x, hole.sill, -REVEAL / 2), turn_x(-90))
        piece.add(lie, materials.TRIM, (x, hole.head, -REVEAL / 2), turn_x(90))
        piece.add(stand, materials.TRIM, (hole.left, y, -REVEAL / 2), turn_y(90))
        piece.add(stand, materials.TRIM, (hole.right, y, -REVEAL / 2), turn_y(-90))
    return piece


def skirting(width: float) -> Piece:
    """Draw the board along the foot of a wall."""
    piece = Piece("")
    piece.add(box(width, 0.09, 0.016, 0.004), materials.TRIM, (0, 0.045, 0.008))
    return piece


def floor(width: float, depth: float, finish: Material) -> Piece:
    """Draw the floor, with its boards along the longer side."""
    piece, turn = Piece(""), turn_x(-90)
    flat = panel(width, depth)
    if depth > width:
        flat = Surface(flat.points, flat.normals, flat.uv[..., ::-1])
    piece.parts.append((flat.moved(turn, (0, 0, 0)), finish))
    return piece


def ceiling(width: float, depth: float) -> Piece:
    """Draw the ceiling, at y = 0."""
    piece = Piece("")
    white = Material("plaster", (0.86, 0.86, 0.85), scale=2.0, roughness=0.95, specular=0.02)
    piece.parts.append((panel(width, depth).moved(turn_x(90), (0, 0, 0)), white))
    return piece


def window(hole: Opening) -> Piece:
    """Draw the frame, the muntins, the sill and the pane of a window."""
    piece, (x, y), back = Piece("window", {"color": "white"}), hole.middle, -REVEAL + 0.03
    for side in (-1, 0, 1):
        at = (x + side * (hole.width / 2 - 0.025), y, back)
        piece.add(box(0.05, hole.height, 0.05, 0.005), materials.TRIM, at)
        at = (x, y + side * (hole.height / 2 - 0.023), back)
        piece.add(box(hole.width, 0.045, 0.045, 0.005), materials.TRIM, at)
    sill = box(hole.width + 0.1, 0.03, 0.13, 0.008)  # it ends before the curtains begin
    piece.add(sill, materials.TRIM, (x, hole.sill - 0.015, -0.02))
    piece.add(panel(hole.width, hole.height), materials.PANE, (x, y, -REVEAL + 0.01))
    return piece


def curtain(at: float, head: float, width: float, color: str) -> Piece:
    """Draw one drawn-back curtain that hangs about x = ``at`` from just above ``head``."""
    piece, cloth = Piece("curtain", {"color": color}), materials.fabric(color)
    along = np.linspace(-width / 2, width / 2, 15 * max(2, round(width / 0.11)) + 1)
    points = np.empty((len(along), 6, 3))
    points[..., 0] = at + along[:, None]
    points[..., 1] = np.linspace(head + 0.16, 0.05, 6)
    wave = np.sin((along + width / 2) * 2 * math.pi / 0.085)
    points[..., 2] = 0.085 + 0.032 * wave[:, None] * np.linspace(0.8, 1.1, 6)
    piece.add(sheet(points), cloth)
    return piece


def curtain_rod(hole: Opening) -> Piece:
    """Draw the rod that the curtains of a window hang on."""
    piece, (x, _), long = Piece(""), hole.middle, hole.width + 0.9
    rod = cylinder(0.013, long)
    piece.add(rod, materials.DARK_METAL, (x + long / 2, hole.head + 0.18, 0.085), turn_z(90))
    for side in (-1, 1):
        holder = box(0.02, 0.02, 0.1, 0.003)
        piece.add(holder, materials.DARK_METAL, (x + side * long * 0.46, hole.head + 0.18, 0.05))
    return piece


def door(color: str, at: float) -> Piece:
    """Draw a closed door with two panels, its casing and a knob, about x = ``at``."""
    piece, leaf = Piece("door", {"color": color}), materials.lacquer(color)
    piece.add(box(0.86, 2.03, 0.04, 0.004), leaf, (at, 1.015, 0.02))
    for y, tall in ((0.5, 0.7), (1.45, 0.85)):
        piece.add(box(0.6, tall, 0.02, 0.009), leaf, (at, y, 0.042))
    for side in (-1, 1):
        piece.add(box(0.08, 2.09, 0.05, 0.006), materials.TRIM, (at + side * 0.47, 1.045, 0.02))
    piece.add(box(1.02, 0.08, 0.052, 0.006), materials.TRIM, (at, 2.07, 0.021))
    knob = [(0.012, 0), (0.012, 0.04), (0.028, 0.05), (0.03, 0.065), (0.02, 0.08), (0, 0.082)]
    piece.add(lathe(knob, 16), materials.METAL, (at - 0.36, 1.0, 0.04), turn_x(90))
    return piece
