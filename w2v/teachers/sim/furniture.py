"""Large furniture. Each function draws one piece that stands on the floor, front towards +z."""

from __future__ import annotations

import numpy as np

from w2v.teachers.sim import materials
from w2v.teachers.sim.materials import Material
from w2v.teachers.sim.pieces import Piece
from w2v.teachers.sim.shapes import box, cushion, cylinder, lathe, turn_x, turn_y, turn_z

CHAIR_STYLES = ("slats", "upholstered", "spindles")


def _corners(width: float, depth: float) -> list[tuple[float, float]]:
    return [(sx * width / 2, sz * depth / 2) for sx in (-1, 1) for sz in (-1, 1)]


def _legs(
    piece: Piece,
    size: tuple[float, float, float],
    material: Material,
    radius: float = 0.022,
    splay: float = 0.0,
) -> None:
    """Add four tapered legs at the corners of a (width, height, depth) block.

    ``splay`` is how many degrees they lean outwards.
    """
    width, height, depth = size
    for x, z in _corners(width, depth):
        lean = turn_z(-np.sign(x) * splay) @ turn_x(np.sign(z) * splay)
        foot = lathe([(0, -height), (radius * 0.65, -height), (radius, 0), (0, 0)], 10)
        piece.add(foot, material, (x, height, z), lean.T)


def chair(wood: str, cloth: str, style: str) -> Piece:
    """Draw a dining chair: with slats, upholstered, or with spindles."""
    frame, cover = materials.wood(wood), materials.fabric(cloth)
    soft = style == "upholstered"
    piece = Piece("chair", {"color": cloth} if soft else {"material": wood})
    width, height, depth = 0.45, 0.45, 0.44
    _legs(piece, (width - 0.07, height, depth - 0.07), frame, 0.02, 3)
    piece.add(box(width, 0.035, depth, 0.012), frame, (0, height, 0))
    if soft:
        piece.add(cushion(width, 0.08, depth, 6), cover, (0, height + 0.045, 0))
    lean, back = turn_x(-9), -depth / 2 + 0.03

    def behind(up: float) -> tuple[float, float, float]:
        return (0.0, height + up, back - 0.158 * up)

    for side in (-1, 1):
        x = side * (width / 2 - 0.03)
        piece.add(cylinder(0.016, 0.5), frame, (x, height, back), lean)
    if soft:
        piece.add(box(width - 0.03, 0.36, 0.055, 0.025), cover, behind(0.31), lean)
    elif style == "slats":
        for k in range(4):
            piece.add(box(width - 0.05, 0.05, 0.018, 0.008), frame, behind(0.14 + 0.1 * k), lean)
    else:
        for k in range(6):
            x, y, z = behind(0.0)
            piece.add(cylinder(0.008, 0.44), frame, (x + (k - 2.5) * 0.06, y, z), lean)
        piece.add(box(width - 0.01, 0.07, 0.026, 0.01), frame, behind(0.46), lean)
    return piece


def stool(wood: str, height: float = 0.62) -> Piece:
    """Draw a round stool."""
    frame, piece = materials.wood(wood), Piece("stool", {"material": wood}, top=height)
    edge = [(0, height - 0.035), (0.16, height - 0.035), (0.17, height - 0.02)]
    piece.add(lathe([*edge, (0.165, height), (0, height)], 28), frame)
    _legs(piece, (0.2, height - 0.03, 0.2), frame, 0.018, 6)
    for side in (-1, 1):
        rod = cylinder(0.009, 0.24)
        piece.add(rod, frame, (-0.12, height * 0.35, side * 0.12), turn_z(-90))
        piece.add(rod, frame, (side * 0.12, height * 0.42, -0.12), turn_x(90))
    return piece


def sofa(color: str, seats: int, pillow: str) -> Piece:
    """Draw a sofa of two or three seats with two pillows, or an armchair (one seat)."""
    piece = Piece("sofa" if seats > 1 else "armchair", {"color": color})
    cover, seat = materials.fabric(color), 0.62
    width, depth = seat * seats + 0.34, 0.86
    piece.add(box(width - 0.06, 0.2, depth - 0.08, 0.03), cover, (0, 0.2, 0))
    for side in (-1, 1):
        arm = box(0.18, 0.5, depth, 0.07)
        piece.add(arm, cover, (side * (width / 2 - 0.09), 0.36, 0))
    piece.add(box(width - 0.3, 0.62, 0.2, 0.07), cover, (0, 0.5, -depth / 2 + 0.11), turn_x(-5))
    for k in range(seats):
        x = (k - (seats - 1) / 2) * seat
        piece.add(box(seat - 0.008, 0.17, 0.68, 0.055), cover, (x, 0.375, 0.07))
        back = cushion(seat - 0.01, 0.44, 0.22, 5)
        piece.add(back, cover, (x, 0.645, -0.22), turn_x(-12))
    for x, z in _corners(width - 0.2, depth - 0.16):
        piece.add(cylinder(0.02, 0.12, 0.03), materials.wood("walnut"), (x, 0, z))
    sides = (-1, 1) if seats > 1 else ()
    for side in sides:
        at = (side * (width / 2 - 0.4), 0.63, 0.0)
        turn = turn_y(-14 * side) @ turn_x(-22)
        piece.add(cushion(0.42, 0.42, 0.15, 3.4), materials.fabric(pillow), at, turn)
    return piece


def ottoman(color: str) -> Piece:
    """Draw a round stuffed footstool."""
    piece = Piece("ottoman", {"color": color}, top=0.4)
    edge = [(0, 0.03), (0.2, 0.03), (0.25, 0.06), (0.27, 0.12), (0.27, 0.31), (0.25, 0.37)]
    piece.add(lathe([*edge, (0.2, 0.4), (0, 0.405)], 32), materials.fabric(color))
    piece.add(cylinder(0.2, 0.03), materials.wood("black wood"))
    return piece


def table(
    width: float, depth: float, height: float, wood: str, label: str = "dining table"
) -> Piece:
    """Draw a rectangular table with an apron under its top."""
    piece, frame = Piece(label, {"material": wood}, top=height), materials.wood(wood)
    piece.add(box(width, 0.035, depth, 0.01), frame, (0, height - 0.0175, 0))
    thick = 0.035 if height > 0.6 else 0.026
    _legs(piece, (width - 0.14, height - 0.03, depth - 0.14), frame, thick)
    for side in (-1, 1):
        long, short = box(width - 0.2, 0.07, 0.02), box(0.02, 0.07, depth - 0.2)
        piece.add(long, frame, (0, height - 0.07, side * (depth / 2 - 0.07)))
        piece.add(short, frame, (side * (width / 2 - 0.07), height - 0.07, 0))
    return piece


def round_table(width: float, height: float, wood: str, label: str = "dining table") -> Piece:
    """Draw a round table on a pedestal."""
    piece, frame, r = Piece(label, {"material": wood}, top=height), materials.wood(wood), width / 2
    low = height - 0.035
    rim = [(0, low), (r - 0.01, low), (r, low + 0.01), (r, height - 0.008), (r - 0.008, height)]
    piece.add(lathe([*rim, (0, height)], 44), frame)
    foot = r * 0.45
    column = [(foot, 0), (foot, 0.02), (0.06, 0.06), (0.04, 0.2), (0.05, height - 0.15)]
    piece.add(lathe([*column, (0.12, low)], 20), frame)
    return piece


def desk(width: float, wood: str) -> Piece:
    """Draw a desk with metal legs and a drawer unit on the right."""
    piece, top = Piece("desk", {"material": wood}, top=0.74), materials.wood(wood)
    piece.add(box(width, 0.03, 0.68, 0.008), top, (0, 0.725, 0))
    for x, z in _corners(width - 0.08, 0.6):
        piece.add(box(0.04, 0.71, 0.04, 0.004), materials.DARK_METAL, (x, 0.355, z))
    x = width / 2 - 0.3
    piece.add(box(0.4, 0.56, 0.56, 0.006), materials.lacquer("white"), (x, 0.43, -0.02))
    for k in range(3):
        y = 0.245 + 0.185 * k
        piece.add(box(0.38, 0.172, 0.018, 0.004), materials.lacquer("white"), (x, y, 0.268))
        piece.add(box(0.12, 0.012, 0.02, 0.004), materials.METAL, (x, y + 0.05, 0.285))
    return piece


def office_chair(color: str) -> Piece:
    """Draw a swivel chair on five castors."""
    piece, cover = Piece("office chair", {"color": color}), materials.fabric(color)
    dark = materials.lacquer("black")
    for k in range(5):
        turn = turn_y(72 * k)
        x, _, z = turn @ np.array([0.0, 0.0, 0.14])
        piece.add(box(0.045, 0.03, 0.28, 0.01), dark, (x, 0.09, z), turn)
        x, _, z = turn @ np.array([0.0, 0.0, 0.27])
        piece.add(cushion(0.045, 0.07, 0.07, 2.4), dark, (x, 0.037, z), turn)
    piece.add(cylinder(0.028, 0.36), materials.METAL, (0, 0.08, 0))
    piece.add(box(0.5, 0.09, 0.48, 0.04), cover, (0, 0.48, 0))
    piece.add(box(0.05, 0.36, 0.03, 0.01), dark, (0, 0.6, -0.27), turn_x(-6))
    piece.add(cushion(0.46, 0.58, 0.1, 5), cover, (0, 0.84, -0.26), turn_x(-8))
    for side in (-1, 1):
        piece.add(box(0.03, 0.2, 0.05, 0.01), dark, (side * 0.27, 0.58, -0.02))
        piece.add(box(0.07, 0.03, 0.26, 0.012), dark, (side * 0.27, 0.69, 0.0))
        piece.add(box(0.08, 0.02, 0.05, 0.006), dark, (side * 0.24, 0.48, -0.02))
    return piece


def _books(
    piece: Piece, rng: np.random.Generator, left: float, right: float, floor: float, gap: float
) -> None:
    """Stand books between ``left`` and ``right`` on a shelf board, ``gap`` meters high."""
    names = sorted(materials.COLORS)
    x = left
    while True:
        if rng.random() < 0.12:
            x += 0.05 + 0.12 * rng.random()
        wide, tall, deep = rng.uniform([0.018, 0.6 * gap, 0.15], [0.05, 0.9 * gap, 0.22])
        if x + wide > right:
            return
        cover = materials.lacquer(names[rng.integers(len(names))])
        at = (x + wide / 2, floor + tall / 2, deep / 2 - 0.11)
        piece.add(box(wide - 0.002, tall, deep, 0.003), cover, at)
        x += wide


def bookshelf(
    rng: np.random.Generator, wood: str, width: float = 0.9, height: float = 1.9, rows: int = 5
) -> Piece:
    """Draw an open shelf full of books."""
    piece, board = Piece("bookshelf", {"material": wood}, top=height), materials.wood(wood)
    depth, thick = 0.3, 0.022
    for side in (-1, 1):
        x = side * (width - thick) / 2
        piece.add(box(thick, height, depth, 0.003), board, (x, height / 2, 0))
    inner = width - 2 * thick
    piece.add(box(inner, height - thick, 0.008), board, (0, height / 2, -depth / 2 + 0.004))
    levels = np.linspace(0.06, height - thick / 2, rows + 1)
    for y in levels:
        piece.add(box(inner, thick, depth - 0.01, 0.003), board, (0, float(y), 0.002))
    piece.add(box(inner, 0.05, 0.012), board, (0, 0.026, depth / 2 - 0.02))
    for low, high in zip(levels[:-1], levels[1:], strict=True):
        edge = inner / 2 - 0.01
        _books(piece, rng, -edge, edge, float(low) + thick / 2, float(high - low) - thick)
    return piece


def cabinet(
    width: float, height: float, depth: float, wood: str, doors: int, label: str = "cabinet"
) -> Piece:
    """Draw a cabinet with doors on short metal legs."""
    piece, frame = Piece(label, {"material": wood}, top=height), materials.wood(wood)
    body = height - 0.1
    piece.add(box(width, body, depth, 0.008), frame, (0, 0.1 + body / 2, 0))
    _legs(piece, (width - 0.12, 0.11, depth - 0.12), materials.DARK_METAL, 0.016)
    step = (width - 0.04) / doors
    for k in range(doors):
        x, side = (k - (doors - 1) / 2) * step, 1 if k < doors / 2 else -1
        front = box(step - 0.012, body - 0.04, 0.018, 0.005)
        piece.add(front, frame, (x, 0.1 + body / 2, depth / 2 + 0.008))
        at = (x + side * step * 0.38, 0.1 + body * 0.62, depth / 2 + 0.017)
        piece.add(cylinder(0.012, 0.022), materials.METAL, at, turn_x(90))
    return piece


def dresser(width: float, height: float, wood: str, columns: int, rows: int) -> Piece:
    """Draw a chest of drawers; a nightstand, if it is small."""
    label = "nightstand" if width < 0.7 else "dresser"
    piece, frame, depth = Piece(label, {"material": wood}, top=height), materials.wood(wood), 0.42
    body = height - 0.08
    piece.add(box(width, body, depth, 0.008), frame, (0, 0.08 + body / 2, 0))
    _legs(piece, (width - 0.1, 0.09, depth - 0.1), frame, 0.022)
    wide, tall = (width - 0.04) / columns, (body - 0.04) / rows
    for i in range(columns):
        for k in range(rows):
            x, y = (i - (columns - 1) / 2) * wide, 0.1 + tall * (k + 0.5)
            front = box(wide - 0.014, tall - 0.014, 0.018, 0.005)
            piece.add(front, frame, (x, y, depth / 2 + 0.007))
            knob = box(min(0.16, wide / 3), 0.014, 0.022, 0.005)
            piece.add(knob, materials.DARK_METAL, (x, y + tall * 0.12, depth / 2 + 0.026))
    return piece


def wardrobe(wood: str, doors: int = 2) -> Piece:
    """Draw a tall wardrobe with panelled doors."""
    piece, frame = Piece("wardrobe", {"material": wood}), materials.wood(wood)
    width, height, depth = 0.52 * doors, 2.02, 0.58
    piece.add(box(width, height - 0.06, depth, 0.006), frame, (0, 0.03 + height / 2, 0))
    piece.add(box(width - 0.04, 0.07, depth - 0.04), frame, (0, 0.035, -0.01))
    piece.add(box(width + 0.05, 0.05, depth + 0.03, 0.012), frame, (0, height + 0.015, 0.01))
    step = (width - 0.03) / doors
    for k in range(doors):
        x, side = (k - (doors - 1) / 2) * step, 1 if k % 2 == 0 else -1
        leaf = box(step - 0.01, height - 0.16, 0.02, 0.005)
        piece.add(leaf, frame, (x, height / 2 + 0.03, depth / 2 + 0.009))
        for y, tall in ((0.58, 0.72), (1.46, 0.86)):
            piece.add(box(step - 0.14, tall, 0.016, 0.007), frame, (x, y, depth / 2 + 0.02))
        at = (x + side * (step / 2 - 0.045), 1.05, depth / 2 + 0.032)
        piece.add(box(0.014, 0.18, 0.024, 0.006), materials.METAL, at)
    return piece


def bed(color: str, second: str, wood: str, width: float = 1.5) -> Piece:
    """Draw a bed with a headboard at its back, a blanket and pillows."""
    piece, frame = Piece("bed", {"color": color}), materials.wood(wood)
    long, white = 2.0, materials.fabric("white")
    piece.add(box(width + 0.06, 0.2, long + 0.04, 0.02), frame, (0, 0.2, 0))
    for x, z in _corners(width - 0.1, long - 0.16):
        piece.add(cylinder(0.025, 0.12, 0.032), frame, (x, 0, z))
    piece.add(cushion(width, 0.26, long, 8), white, (0, 0.41, 0))
    cover = cushion(width + 0.09, 0.3, long * 0.66, 12)
    piece.add(cover, materials.fabric(color), (0, 0.43, 0.36))
    fold = materials.striped(second, "white")
    piece.add(cushion(width + 0.11, 0.31, 0.3, 9), fold, (0, 0.435, -0.2))
    piece.add(box(width + 0.1, 0.98, 0.06, 0.02), frame, (0, 0.55, -long / 2 - 0.05))
    count = 2 if width > 1.2 else 1
    for k in range(count):
        x = (k - (count - 1) / 2) * 0.74
        piece.add(cushion(0.64, 0.17, 0.42, 3.6), white, (x, 0.6, -0.73), turn_x(18))
    for k in range(count):
        x = (k - (count - 1) / 2) * 0.6
        pillow = cushion(0.4, 0.38, 0.14, 3.4)
        piece.add(pillow, materials.fabric(second), (x, 0.7, -0.5), turn_x(-30))
    return piece


def tv_stand(width: float, wood: str) -> Piece:
    """Draw a low cabinet for a television."""
    return cabinet(width, 0.5, 0.42, wood, 3, "tv stand")


def refrigerator(steel: bool) -> Piece:
    """Draw a fridge with a freezer drawer below."""
    color = "gray" if steel else "white"
    piece = Piece("refrigerator", {"color": color})
    skin = materials.STEEL if steel else materials.lacquer("white")
    piece.add(box(0.68, 1.8, 0.6, 0.012), skin, (0, 0.93, -0.03))
    piece.add(box(0.64, 0.05, 0.56), materials.lacquer("black"), (0, 0.025, -0.03))
    for y, tall in ((1.21, 1.2), (0.32, 0.53)):
        piece.add(box(0.67, tall, 0.06, 0.018), skin, (0, y, 0.3))
        at = (-0.27, 1.15, 0.355) if tall > 1 else (0.0, 0.5, 0.355)
        size = (0.022, 0.5, 0.03) if tall > 1 else (0.46, 0.022, 0.03)
        piece.add(box(*size, 0.008), materials.METAL, at)
    return piece


def oven(steel: bool) -> Piece:
    """Draw a free-standing oven with four hot plates."""
    piece = Piece("oven", {"color": "gray" if steel else "white"}, top=0.92)
    skin = materials.STEEL if steel else materials.lacquer("white")
    piece.add(box(0.6, 0.88, 0.6, 0.008), skin, (0, 0.45, 0))
    piece.add(box(0.6, 0.025, 0.6, 0.006), materials.BLACK_GLASS, (0, 0.905, 0))
    for x, z in _corners(0.28, 0.28):
        ring = lathe([(0.09, 0.9195), (0.09, 0.922), (0.075, 0.922), (0.075, 0.9195)], 24)
        piece.add(ring, materials.DARK_METAL, (x, 0, z))
    piece.add(box(0.56, 0.5, 0.03, 0.01), skin, (0, 0.43, 0.31))
    piece.add(box(0.42, 0.3, 0.008, 0.003), materials.BLACK_GLASS, (0, 0.43, 0.327))
    piece.add(box(0.46, 0.022, 0.03, 0.01), materials.METAL, (0, 0.64, 0.355))
    for k in range(5):
        at = ((k - 2) * 0.1, 0.78, 0.3)
        piece.add(cylinder(0.02, 0.03), materials.DARK_METAL, at, turn_x(90))
    return piece


def counter(width: float, color: str, label: str = "counter") -> Piece:
    """Draw a run of kitchen cabinets under a worktop; with a basin and a tap, if a sink."""
    piece, front = Piece(label, {"color": color}, top=0.92), materials.lacquer(color)
    depth, doors = 0.58, max(1, round(width / 0.5))
    piece.add(box(width, 0.78, depth - 0.02, 0.002), front, (0, 0.49, -0.01))
    piece.add(box(width, 0.1, depth - 0.1), materials.lacquer("black"), (0, 0.05, -0.04))
    step = width / doors
    for k in range(doors):
        x = (k - (doors - 1) / 2) * step
        piece.add(box(step - 0.008, 0.54, 0.02, 0.004), front, (x, 0.385, depth / 2 - 0.01))
        piece.add(box(step - 0.008, 0.2, 0.02, 0.004), front, (x, 0.765, depth / 2 - 0.01))
        for y in (0.6, 0.785):
            bar = box(min(0.2, step / 2), 0.014, 0.024, 0.006)
            piece.add(bar, materials.METAL, (x, y, depth / 2 + 0.012))
    if label == "sink":
        _basin(piece, width)
    else:
        piece.add(box(width, 0.04, depth + 0.04, 0.006), materials.MARBLE, (0, 0.9, 0.01))
    return piece


def _basin(piece: Piece, width: float) -> None:
    """Lay a worktop around a sunk steel basin, and add the tap."""
    hole, side = 0.5, (width - 0.5) / 2
    for x in (-1, 1):
        at = (x * (hole + side) / 2, 0.9, 0.01)
        piece.add(box(side, 0.04, 0.62, 0.004), materials.MARBLE, at)
    for z, deep in ((-0.25, 0.1), (0.26, 0.12)):
        piece.add(box(hole, 0.04, deep, 0.004), materials.MARBLE, (0, 0.9, z))
    piece.add(box(hole + 0.02, 0.012, 0.44), materials.STEEL, (0, 0.888, 0.0))
    for x in (-1, 1):
        piece.add(box(0.014, 0.034, 0.42, 0.004), materials.STEEL, (x * 0.245, 0.908, 0))
    for z in (-0.2, 0.2):
        piece.add(box(0.5, 0.034, 0.014, 0.004), materials.STEEL, (0, 0.908, z))
    piece.add(cylinder(0.02, 0.26, 0.013), materials.METAL, (0, 0.92, -0.24))
    piece.add(cylinder(0.012, 0.2), materials.METAL, (0, 1.17, -0.245), turn_x(80))
    piece.add(cylinder(0.012, 0.04), materials.METAL, (0, 1.165, -0.05))


def wall_cupboard(width: float, color: str) -> Piece:
    """Draw a cupboard that hangs on the wall; its lower edge is at y = 0."""
    piece, front = Piece("cupboard", {"color": color}), materials.lacquer(color)
    height, depth, doors = 0.66, 0.34, max(1, round(width / 0.45))
    piece.add(box(width, height, depth, 0.004), front, (0, height / 2, 0))
    step = width / doors
    for k in range(doors):
        x, side = (k - (doors - 1) / 2) * step, 1 if k % 2 == 0 else -1
        leaf = box(step - 0.008, height - 0.01, 0.02, 0.004)
        piece.add(leaf, front, (x, height / 2, depth / 2 + 0.011))
        at = (x + side * (step / 2 - 0.05), 0.12, depth / 2 + 0.03)
        piece.add(box(0.014, 0.14, 0.024, 0.006), materials.METAL, at)
    return piece


def bench(wood: str, width: float = 1.1) -> Piece:
    """Draw a low wooden bench."""
    return table(width, 0.36, 0.45, wood, "bench")
