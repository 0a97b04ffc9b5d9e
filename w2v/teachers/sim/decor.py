"""Lamps, plants and small things: what stands on furniture, lies about or hangs on a wall."""

from __future__ import annotations

import math

import numpy as np

from w2v.teachers.sim import materials
from w2v.teachers.sim.materials import Material
from w2v.teachers.sim.pieces import Lamp, Piece
from w2v.teachers.sim.shapes import (
    Surface,
    ball,
    box,
    cushion,
    cylinder,
    lathe,
    panel,
    sheet,
    turn_x,
    turn_y,
    turn_z,
)
from w2v.teachers.sim.textures import Color

WARM = (1.0, 0.75, 0.45)
_BULB = (1.0, 0.9, 0.7)


def _shade(
    piece: Piece, low: tuple[float, float], high: tuple[float, float], color: str, lit: bool
) -> None:
    """Add a lampshade from one (radius, height) to another, with an inside and an outside."""
    cloth = Material(
        "fabric",
        materials.COLORS[color],
        scale=0.2,
        roughness=0.9,
        specular=0.02,
        emission=0.9 if lit else 0.0,
    )
    (r1, y1), (r2, y2), thick = low, high, 0.005
    piece.add(lathe([low, high, (r2 - thick, y2), (r1 - thick, y1), low], 28), cloth)


def _bulb(piece: Piece, height: float, lit: bool, power: float) -> None:
    glass = materials.glowing(_BULB, 6.0) if lit else materials.plain((0.8, 0.8, 0.78), 0.3)
    piece.add(ball(0.035), glass, (0, height, 0))
    if lit:
        red, green, blue = (power * part for part in WARM)
        piece.lamps.append(Lamp((0, height, 0), (red, green, blue), 0.08))


def floor_lamp(color: str, lit: bool) -> Piece:
    """Draw a lamp on a tall pole."""
    piece = Piece("floor lamp", {"color": color})
    piece.add(lathe([(0.15, 0), (0.14, 0.02), (0, 0.025)], 28), materials.DARK_METAL)
    piece.add(cylinder(0.012, 1.44), materials.DARK_METAL)
    _shade(piece, (0.21, 1.32), (0.15, 1.62), color, lit)
    _bulb(piece, 1.47, lit, 1.1)
    return piece


def table_lamp(color: str, lit: bool) -> Piece:
    """Draw a lamp with a ceramic foot."""
    piece = Piece("lamp", {"color": color})
    foot = [(0.075, 0), (0.08, 0.02), (0.03, 0.05), (0.06, 0.12), (0.07, 0.17), (0.05, 0.24)]
    piece.add(lathe([*foot, (0.015, 0.27), (0.012, 0.36)], 22), materials.ceramic(color))
    _shade(piece, (0.15, 0.3), (0.1, 0.49), "beige", lit)
    _bulb(piece, 0.4, lit, 0.6)
    return piece


def desk_lamp(color: str) -> Piece:
    """Draw a jointed desk lamp that is switched off."""
    piece, paint = Piece("lamp", {"color": color}), materials.lacquer(color)
    piece.add(lathe([(0.085, 0), (0.08, 0.018), (0, 0.024)], 24), paint)
    piece.add(cylinder(0.009, 0.3), paint, (0, 0.02, 0), turn_x(-20))
    piece.add(cylinder(0.009, 0.28), paint, (0, 0.3, -0.1), turn_x(55))
    cone = [(0.075, -0.09), (0.03, 0.0), (0.0, 0.012)]
    inside = [(0.026, -0.006), (0.07, -0.09), (0.075, -0.09)]
    piece.add([*lathe(cone, 20), *lathe(inside, 20)], paint, (0, 0.46, 0.14), turn_x(-20))
    return piece


def ceiling_lamp(lit: bool) -> Piece:
    """Draw a flat round lamp that hangs at y = 0 from the ceiling above it."""
    piece = Piece("ceiling lamp", {"color": "white"})
    glow = materials.glowing((1.0, 0.96, 0.88), 3.0)
    glass = glow if lit else materials.plain((0.85, 0.84, 0.82), 0.3)
    piece.add(lathe([(0.25, -0.055), (0.25, -0.001)], 32), materials.METAL)
    piece.add(lathe([(0, -0.07), (0.2, -0.066), (0.25, -0.055)], 32), glass)
    if lit:
        piece.lamps.append(Lamp((0, -0.08, 0), (5.3, 4.9, 4.3), 0.22, downwards=True))
    return piece


def pendant(color: str, drop: float, lit: bool) -> Piece:
    """Draw a lamp that hangs ``drop`` meters down from y = 0."""
    piece, paint = Piece("pendant lamp", {"color": color}), materials.lacquer(color)
    piece.add(cylinder(0.004, drop - 0.18), materials.lacquer("black"), (0, 0.18 - drop, 0))
    piece.add(lathe([(0.05, -0.025), (0.05, -0.001)], 20), materials.METAL)
    bell = [(0.2, 0), (0.19, 0.05), (0.14, 0.12), (0.06, 0.17), (0.03, 0.2), (0, 0.201)]
    inside = [
        (0, 0.186),
        (0.025, 0.185),
        (0.055, 0.163),
        (0.133, 0.115),
        (0.183, 0.048),
        (0.195, 0),
    ]
    piece.add(lathe(bell, 30), paint, (0, -drop, 0))
    piece.add(lathe([*inside, (0.2, 0)], 30), materials.lacquer("white"), (0, -drop, 0))
    glass = materials.glowing(_BULB, 6.0) if lit else materials.plain((0.8, 0.8, 0.78), 0.3)
    piece.add(ball(0.045), glass, (0, 0.075 - drop, 0))
    if lit:
        piece.lamps.append(Lamp((0, 0.04 - drop, 0), (3.4, 2.9, 2.2), 0.1))
    return piece


def _leaf(rng: np.random.Generator, length: float) -> np.ndarray:
    """Return the (12, 5, 3) points of a bent leaf that grows out of the origin towards +x."""
    steep, wide = rng.uniform(0.35, 1.25), rng.uniform(0.035, 0.075)
    t, across = np.linspace(0, 1, 12)[:, None], np.linspace(-1, 1, 5)
    out = length * (math.cos(steep) * t + 0.25 * t * t)
    up = length * (math.sin(steep) * t - 0.35 * t * t)
    half = 2 * wide * np.clip((t - 0.25) / 0.75, 0, 1) ** 0.6 * np.sqrt(1.02 - t) + 0.003
    points = np.empty((12, 5, 3))
    points[..., 0], points[..., 2] = out, half * across
    points[..., 1] = up + 0.25 * half * np.abs(across)
    return points


def plant(rng: np.random.Generator, pot: str, height: float = 1.0, leaves: int = 26) -> Piece:
    """Draw a potted plant with bent leaves; a small one may stand on a table."""
    piece, size = Piece("potted plant", {"color": "green"}), 0.35 + 0.65 * height
    rim = [(0.11, 0), (0.15, 0.26), (0.165, 0.3), (0.15, 0.3), (0.14, 0.26)]
    profile = [(r * size, y * size) for r, y in [(0.0, 0.0), *rim]]
    piece.add(lathe(profile, 24), materials.ceramic(pot))
    soil = [(0.146 * size, 0.265 * size), (0, 0.27 * size)]
    piece.add(lathe(soil, 20), materials.SOIL)
    for k in range(leaves):
        points = _leaf(rng, height * rng.uniform(0.45, 0.95))
        turn = turn_y(137.5 * k + 20 * rng.random())
        uv = np.stack(np.meshgrid(np.linspace(0, 1, 12), np.linspace(0, 1, 5), indexing="ij"), -1)
        for side in sheet(points, 0.003):
            face = Surface(side.points, side.normals, uv[None, ..., ::-1])
            piece.add(face, materials.LEAF, (0, 0.27 * size, 0), turn)
    return piece


def vase(color: str, style: int) -> Piece:
    """Draw a vase of one of three outlines."""
    outlines = (
        [(0.05, 0), (0.08, 0.06), (0.09, 0.12), (0.06, 0.2), (0.03, 0.25), (0.045, 0.29)],
        [(0.06, 0), (0.065, 0.1), (0.075, 0.2), (0.09, 0.3)],
        [(0.04, 0), (0.1, 0.06), (0.115, 0.11), (0.1, 0.16), (0.05, 0.2), (0.055, 0.23)],
    )
    outline = outlines[style % 3]
    radius, top = outline[-1]
    inside = [(radius - 0.01, top), (max(radius - 0.02, 0.012), top - 0.05), (0, top - 0.09)]
    piece = Piece("vase", {"color": color})
    piece.add(lathe([(0, 0), *outline, *inside], 26), materials.ceramic(color))
    return piece


def bowl(rng: np.random.Generator, color: str, fruit: bool) -> Piece:
    """Draw a bowl, empty or with fruit."""
    piece = Piece("fruit bowl" if fruit else "bowl", {"color": color})
    outside = [(0, 0), (0.06, 0), (0.13, 0.055), (0.15, 0.085)]
    inside = [(0.142, 0.085), (0.12, 0.058), (0.05, 0.015), (0, 0.012)]
    piece.add(lathe([*outside, *inside], 30), materials.ceramic(color))
    if fruit:
        skins = [(0.70, 0.16, 0.10), (0.80, 0.45, 0.10), (0.55, 0.62, 0.18), (0.78, 0.66, 0.16)]
        for k in range(6):
            angle, r = 2 * math.pi * k / 5, 0.068 if k < 5 else 0.0
            skin = materials.plain(skins[rng.integers(4)], 0.4, 0.04)
            at = (r * math.cos(angle), 0.075 if k < 5 else 0.12, r * math.sin(angle))
            piece.add(ball(0.038), skin, at)
    return piece


def mug(color: str) -> Piece:
    """Draw a mug with a handle."""
    piece, glaze = Piece("mug", {"color": color}), materials.ceramic(color)
    wall = [(0, 0), (0.038, 0), (0.042, 0.01), (0.042, 0.095), (0.037, 0.095), (0.036, 0.015)]
    piece.add(lathe([*wall, (0, 0.012)], 20), glaze)
    for y, long in ((0.025, 0.034), (0.075, 0.034)):
        piece.add(box(long, 0.01, 0.012, 0.004), glaze, (0.053, y, 0))
    piece.add(box(0.01, 0.06, 0.012, 0.004), glaze, (0.069, 0.05, 0))
    return piece


def bottle(color: str) -> Piece:
    """Draw a glazed bottle."""
    piece = Piece("bottle", {"color": color})
    outline = [(0, 0), (0.036, 0), (0.038, 0.01), (0.038, 0.18), (0.015, 0.24), (0.014, 0.3)]
    piece.add(lathe([*outline, (0, 0.302)], 20), materials.ceramic(color))
    return piece


def pot() -> Piece:
    """Draw a cooking pot with a lid and two handles."""
    piece = Piece("pot", {"material": "steel"})
    body = [(0, 0), (0.1, 0), (0.105, 0.01), (0.105, 0.13), (0.108, 0.135), (0.07, 0.155)]
    piece.add(lathe([*body, (0, 0.16)], 28), materials.STEEL)
    piece.add(ball(0.017), materials.lacquer("black"), (0, 0.172, 0))
    for side in (-1, 1):
        handle = box(0.04, 0.012, 0.07, 0.005)
        piece.add(handle, materials.lacquer("black"), (side * 0.12, 0.11, 0))
    return piece


def kettle(color: str) -> Piece:
    """Draw a kettle."""
    piece, paint = Piece("kettle", {"color": color}), materials.ceramic(color)
    body = [(0, 0), (0.085, 0), (0.09, 0.02), (0.08, 0.12), (0.055, 0.17), (0, 0.185)]
    piece.add(lathe(body, 26), paint)
    piece.add(ball(0.014), materials.lacquer("black"), (0, 0.19, 0))
    piece.add(cylinder(0.018, 0.1, 0.01), paint, (0.06, 0.08, 0), turn_z(-50))
    piece.add(box(0.15, 0.014, 0.018, 0.006), materials.lacquer("black"), (0, 0.245, 0))
    for side in (-1, 1):
        arm = box(0.012, 0.1, 0.014, 0.004)
        piece.add(arm, materials.lacquer("black"), (side * 0.068, 0.2, 0))
    return piece


def carton(width: float, height: float, depth: float) -> Piece:
    """Draw a closed cardboard box."""
    piece = Piece("box", {"material": "cardboard"}, top=height)
    piece.add(box(width, height, depth, 0.004), materials.CARDBOARD, (0, height / 2, 0))
    return piece


def basket(color: str) -> Piece:
    """Draw a woven basket with a blanket in it."""
    piece = Piece("basket", {"color": color})
    wall = [(0, 0), (0.17, 0), (0.2, 0.3), (0.21, 0.32), (0.19, 0.32), (0.185, 0.29), (0.18, 0.2)]
    weave = materials.striped("beige", "brown")
    piece.add(lathe([*wall, (0, 0.2)], 28), weave)
    piece.add(cushion(0.34, 0.2, 0.34, 2.6), materials.fabric(color), (0, 0.27, 0))
    return piece


def trash_can(color: str) -> Piece:
    """Draw a bin with a domed lid."""
    piece = Piece("trash can", {"color": color})
    wall = [(0, 0), (0.13, 0), (0.15, 0.02), (0.16, 0.46), (0.165, 0.47)]
    piece.add(lathe(wall, 28), materials.lacquer(color))
    piece.add(lathe([(0.165, 0.47), (0.15, 0.52), (0.08, 0.56), (0, 0.57)], 28), materials.STEEL)
    return piece


def suitcase(color: str) -> Piece:
    """Draw an upright suitcase with a pulled-out handle."""
    piece, shell = Piece("suitcase", {"color": color}), materials.lacquer(color)
    piece.add(box(0.44, 0.6, 0.25, 0.05), shell, (0, 0.36, 0))
    for k in range(5):
        rib = box(0.02, 0.5, 0.27, 0.01)
        piece.add(rib, shell, ((k - 2) * 0.075, 0.36, 0))
    for x in (-0.16, 0.16):
        for z in (-0.08, 0.08):
            piece.add(cushion(0.03, 0.06, 0.06, 2.4), materials.lacquer("black"), (x, 0.03, z))
    for x in (-0.09, 0.09):
        piece.add(cylinder(0.008, 0.32), materials.METAL, (x, 0.62, -0.1))
    piece.add(box(0.22, 0.03, 0.03, 0.012), materials.lacquer("black"), (0, 0.94, -0.1))
    return piece


def toy_ball(color: str) -> Piece:
    """Draw a striped ball that lies on the floor."""
    piece, r = Piece("ball", {"color": color}), 0.13
    look = Material(
        "stripes", materials.COLORS[color], materials.COLORS["white"], scale=0.6, roughness=0.4
    )
    piece.add(ball(r), look, (0, r, 0), turn_x(30))
    return piece


def globe(wood: str) -> Piece:
    """Draw a globe on a wooden foot."""
    piece, frame = Piece("globe", {"color": "blue"}), materials.wood(wood)
    seas = Material("globe", (0.24, 0.40, 0.56), (0.62, 0.58, 0.36), scale=0.5, roughness=0.3)
    piece.add(lathe([(0, 0), (0.09, 0), (0.085, 0.018), (0.02, 0.03), (0.014, 0.1)], 24), frame)
    piece.add(ball(0.14), seas, (0, 0.235, 0), turn_z(23))
    return piece


def book_pile(rng: np.random.Generator) -> Piece:
    """Draw two to four books that lie on each other."""
    piece, names, y = Piece("stack of books"), sorted(materials.COLORS), 0.0
    for _ in range(int(rng.integers(2, 5))):
        wide, thick, deep = rng.uniform([0.2, 0.022, 0.14], [0.27, 0.045, 0.19])
        turn, cover = turn_y(rng.uniform(-16, 16)), materials.lacquer(names[rng.integers(12)])
        for side in (-1, 1):
            at = (0.0, y + thick / 2 + side * (thick / 2 - 0.002), 0.0)
            piece.add(box(wide, 0.004, deep, 0.0015), cover, at, turn)
        pages = box(wide - 0.012, thick - 0.008, deep - 0.012)
        piece.add(pages, materials.PAPER, (0, y + thick / 2, 0), turn)
        y += thick
    return piece


def _screen(color: Color, second: Color, width: float) -> Material:
    return Material("screen", color, second, scale=width, roughness=0.3, emission=0.5)


def laptop() -> Piece:
    """Draw an open laptop."""
    piece = Piece("laptop", {"color": "gray"})
    lit = _screen((0.20, 0.34, 0.52), (0.42, 0.30, 0.46), 0.32)
    piece.add(box(0.34, 0.016, 0.24, 0.006), materials.STEEL, (0, 0.008, 0))
    piece.add(box(0.29, 0.003, 0.12), materials.lacquer("black"), (0, 0.017, -0.03))
    tilt, up = turn_x(-18), np.array([0.0, 0.11, 0.0])
    x, y, z = tilt @ up + np.array([0, 0.016, -0.12])
    piece.add(box(0.34, 0.22, 0.008, 0.003), materials.STEEL, (x, y, z), tilt)
    face = tilt @ np.array([0.0, 0.0, 0.0048])
    piece.add(_picture(0.32, 0.2), lit, (x, y + face[1], z + face[2]), tilt)
    return piece


def monitor(width: float = 0.58) -> Piece:
    """Draw a computer screen on its foot."""
    piece, black, tall = Piece("monitor", {"color": "black"}), materials.lacquer("black"), 0.34
    lit = _screen((0.16, 0.30, 0.42), (0.30, 0.44, 0.46), width - 0.024)
    piece.add(box(width, tall, 0.03, 0.006), black, (0, 0.12 + tall / 2, 0))
    piece.add(_picture(width - 0.024, tall - 0.024), lit, (0, 0.12 + tall / 2, 0.0155))
    piece.add(box(0.05, 0.16, 0.02, 0.004), black, (0, 0.09, -0.02))
    piece.add(box(0.24, 0.012, 0.17, 0.005), black, (0, 0.006, -0.01))
    return piece


def tv(width: float) -> Piece:
    """Draw a television that is off."""
    piece, black, tall = Piece("tv", {"color": "black"}), materials.lacquer("black"), width * 9 / 16
    y = 0.06 + tall / 2
    piece.add(box(width, tall, 0.04, 0.008), black, (0, y, 0))
    piece.add(box(width - 0.03, tall - 0.03, 0.004), materials.BLACK_GLASS, (0, y, 0.0205))
    piece.add(box(0.5, 0.015, 0.2, 0.005), black, (0, 0.0075, 0))
    piece.add(box(0.08, 0.1, 0.03, 0.005), black, (0, 0.045, -0.01))
    return piece


def rug(width: float, depth: float, color: str, second: str, variant: int) -> Piece:
    """Draw a rug; it lies on the floor."""
    piece = Piece("rug", {"color": color})
    surface = box(width, 0.014, depth, 0.005)
    uv = (surface.points[..., [0, 2]] / np.array([width, depth]) + 0.5) * width
    surface = Surface(surface.points, surface.normals, uv, surface.texels)
    piece.add(surface, materials.rug(color, second, variant, width), (0, 0.007, 0))
    return piece


def _picture(width: float, height: float) -> Surface:
    """Return a panel that shows its texture exactly once, if that is ``width`` meters wide."""
    flat = panel(width, height)
    uv = (flat.points[..., :2] / np.array([width, height]) + 0.5) * width
    return Surface(flat.points, flat.normals, uv)


def picture(width: float, height: float, variant: int, frame: str) -> Piece:
    """Draw a framed picture; its back is at z = 0 and its middle at y = 0."""
    piece, edge = Piece("picture"), materials.wood(frame)
    art = Material("art", (0.5, 0.5, 0.5), variant=variant, scale=width, specular=0.03)
    piece.add(_picture(width, height), art, (0, 0, 0.018))
    for side in (-1, 1):
        at_x, at_y = side * (width / 2 + 0.013), side * (height / 2 + 0.013)
        piece.add(box(0.03, height + 0.056, 0.03, 0.006), edge, (at_x, 0, 0.015))
        piece.add(box(width + 0.056, 0.03, 0.03, 0.006), edge, (0, at_y, 0.015))
    return piece


def clock(color: str, variant: int) -> Piece:
    """Draw a round wall clock; its back is at z = 0 and its middle at y = 0."""
    piece, upright = Piece("clock", {"color": color}), turn_x(90)
    rim = [(0.165, 0), (0.17, 0.01), (0.165, 0.03), (0.15, 0.03), (0.15, 0.02)]
    piece.add(lathe(rim, 40), materials.lacquer(color), (0, 0, 0), upright)
    face = Material("clock", (0.84, 0.84, 0.82), (0.12, 0.12, 0.13), variant, 0.3, roughness=0.6)
    disc = lathe([(0.15, 0.02), (0, 0.0201)], 40)
    for part in disc:
        flat = part.points[..., [0, 2]] * np.array([1, -1]) + 0.15
        piece.add(Surface(part.points, part.normals, flat, part.texels), face, turn=upright)
    return piece
