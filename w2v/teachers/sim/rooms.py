"""Furnishing: five kinds of room, each laid out anew from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from w2v.teachers.sim import building, decor, furniture, materials
from w2v.teachers.sim.building import Opening
from w2v.teachers.sim.materials import Material
from w2v.teachers.sim.pieces import Piece
from w2v.teachers.sim.plan import Plan, Spot, Wall

_WALLS = (
    (0.80, 0.77, 0.70),
    (0.68, 0.73, 0.75),
    (0.75, 0.71, 0.62),
    (0.82, 0.81, 0.79),
    (0.66, 0.71, 0.63),
    (0.78, 0.70, 0.66),
)
_SOFT = ("gray", "beige", "blue", "teal", "green", "brown", "red", "white", "purple", "orange")


@dataclass(frozen=True)
class Taste:
    """What goes together in one room: its woods and colours, and whether the lamps are on."""

    wood: str
    second_wood: str
    paper: Material
    ground: Material
    chairs: str
    lit: bool
    colors: tuple[str, ...]

    def color(self, k: int) -> str:
        """Return the k-th of the room's colours, each a different one up to the tenth."""
        return self.colors[k % len(self.colors)]


def taste(rng: np.random.Generator, room: str, lit: bool) -> Taste:
    """Draw the palette of a room."""
    woods = [str(w) for w in rng.permutation(["oak", "walnut", "pine", "cherry"])]
    paper = _WALLS[int(rng.integers(len(_WALLS)))]
    shade = ((0.70, 0.68, 0.64), (0.55, 0.53, 0.50), (0.74, 0.70, 0.62))[int(rng.integers(3))]
    tiles = Material("tiles", shade, variant=1, scale=1.6, roughness=0.25, specular=0.05)
    if rng.random() < 0.3:
        tiles = Material(
            "checks", (0.78, 0.77, 0.74), (0.42, 0.43, 0.44), 1, 1.6, roughness=0.25, specular=0.05
        )
    variant = int(rng.integers(3))
    boards = Material(
        "planks",
        materials.WOODS[woods[2]],
        variant=variant,
        scale=1.3,
        roughness=0.38,
        specular=0.045,
    )
    return Taste(
        wood=woods[0],
        second_wood=woods[1] if rng.random() < 0.7 else "white wood",
        paper=Material("plaster", paper, scale=2.4, roughness=0.95, specular=0.02),
        ground=tiles if rng.random() < (0.75 if room == "kitchen" else 0.12) else boards,
        chairs=furniture.CHAIR_STYLES[int(rng.integers(3))],
        lit=lit,
        colors=tuple(str(c) for c in rng.permutation(_SOFT)),
    )


def shell(plan: Plan, look: Taste, room: str) -> list[tuple[Wall, Opening]]:
    """Build the room around the plan and return its windows, each with its wall."""
    rng, kitchen = plan.rng, room == "kitchen"
    facing = int(rng.integers(4))
    holes = _openings(rng, plan.walls[facing].width, plan.height, kitchen)
    middle = Spot(plan.width / 2, plan.depth / 2)
    plan.lay(building.floor(plan.width, plan.depth, look.ground), middle)
    roof = building.ceiling(plan.width, plan.depth)
    plan.lay(roof, Spot(middle.x, middle.z, 0, plan.height))
    entry = (facing + int(rng.choice([1, 3]))) % 4
    for k, wall in enumerate(plan.walls):
        here = holes if k == facing else []
        plan.lay(building.wall(wall.width, plan.height, here, look.paper), wall.spot)
        plan.lay(building.skirting(wall.width), wall.spot)
    wall = plan.walls[facing]
    for hole in holes:
        plan.add(building.window(hole), wall.spot)
        if not kitchen:
            _curtains(plan, wall, hole, look.color(9))
    _entry(plan, plan.walls[entry], "white" if rng.random() < 0.6 else "brown")
    return [(wall, hole) for hole in holes]


def _openings(
    rng: np.random.Generator, width: float, height: float, kitchen: bool
) -> list[Opening]:
    sill = 1.12 if kitchen else float(rng.uniform(0.55, 0.95))
    head, wide = min(2.2, height - 0.35), float(rng.uniform(1.4, 2.0))
    if width > 5.2 and rng.random() < 0.5:
        half, apart = 0.6, width * 0.22
        return [Opening(x - half, x + half, sill, head) for x in (-apart, apart)]
    x = float(rng.uniform(-0.12, 0.12)) * width
    return [Opening(x - wide / 2, x + wide / 2, sill, head)]


def _curtains(plan: Plan, wall: Wall, hole: Opening, color: str) -> None:
    wide = 0.4 if hole.width > 1.3 else 0.3
    for x in (hole.left - wide * 0.35, hole.right + wide * 0.35):
        plan.add(building.curtain(x, hole.head, wide, color), wall.spot)
    plan.lay(building.curtain_rod(hole), wall.spot)


def _entry(plan: Plan, wall: Wall, color: str) -> None:
    """Put a door near one end of a wall, and keep the floor before it free."""
    side = float(plan.rng.choice([-1.0, 1.0]))
    leaf = building.door(color, side * (wall.width / 2 - float(plan.rng.uniform(0.7, 1.1))))
    plan.add(leaf, wall.spot)
    x1, y1, z1, x2, y2, z2 = plan.block(leaf, wall.spot)
    ahead = plan.block(leaf, wall.spot.beside(0, 0.8))
    low, high = (min(x1, ahead[0]), min(z1, ahead[2])), (max(x2, ahead[3]), max(z2, ahead[5]))
    plan.reserve((low[0], y1, low[1], high[0], y2, high[1]))


def _opposite(wall: int) -> int:
    return (wall + 2) % 4


def _wall_of(plan: Plan, spot: Spot) -> int:
    return next(k for k, wall in enumerate(plan.walls) if wall.spot.yaw == spot.yaw)


def _on(plan: Plan, base: Piece, spot: Spot | None, item: Piece, at: tuple[float, float]) -> None:
    """Stand a small thing on a piece that was placed, turned a little."""
    if spot is not None:
        yaw = float(plan.rng.uniform(-15, 15))
        plan.add(item, spot.beside(*at, yaw, base.top))


def _small(plan: Plan, look: Taste, k: int) -> Piece:
    """Draw one of the small things that stand on furniture."""
    rng, color = plan.rng, look.color(k + 2)
    made: tuple[Callable[[], Piece], ...] = (
        lambda: decor.vase(color, int(rng.integers(3))),
        lambda: decor.bowl(rng, color, bool(rng.random() < 0.5)),
        lambda: decor.book_pile(rng),
        lambda: decor.plant(rng, color, 0.35, 16),
        lambda: decor.table_lamp(color, look.lit),
        lambda: decor.bottle(color),
    )
    return made[int(rng.integers(len(made)))]()


def _loose(plan: Plan, look: Taste, number: int) -> None:
    """Leave some things about on the floor, near the walls."""
    rng = plan.rng
    kinds = [
        str(k) for k in rng.permutation(["box", "ball", "basket", "suitcase", "ottoman", "bin"])
    ]
    for k, kind in enumerate(kinds[:number]):
        color = look.color(k + 4)
        if kind == "box":
            _cartons(plan)
        elif kind == "ball":
            plan.anywhere(decor.toy_ball(color), 0.25)
        elif kind == "basket":
            plan.against(decor.basket(color), gap=0.12, behind=0.08)
        elif kind == "suitcase":
            plan.against(decor.suitcase(color), gap=0.15, behind=0.1)
        elif kind == "ottoman":
            plan.anywhere(furniture.ottoman(color), 0.4)
        else:
            plan.against(decor.trash_can(color), gap=0.1, behind=0.06)


def _cartons(plan: Plan) -> None:
    """Leave a carton with a smaller one on it, and perhaps a third beside them."""
    first = decor.carton(0.46, 0.34, 0.36)
    if spot := plan.against(first, gap=0.1, behind=0.08):
        _on(plan, first, spot, decor.carton(0.32, 0.22, 0.26), (0.02, 0.0))
        plan.put(decor.carton(0.36, 0.26, 0.3), spot.beside(0.52, 0.06, 12), 0.04)


def _pictures(plan: Plan, look: Taste, number: int) -> None:
    frame = ("black wood", look.wood, "white wood")[int(plan.rng.integers(3))]
    for _ in range(number):
        wide, tall = plan.rng.uniform([0.45, 0.45], [0.95, 0.8])
        art = decor.picture(float(wide), float(tall), int(plan.rng.integers(24)), frame)
        plan.hang(art, float(plan.rng.uniform(1.5, 1.7)))


def _top_light(plan: Plan, look: Taste, spot: Spot | None = None) -> None:
    """Hang the room's main lamp from the ceiling, low over a table if there is a spot."""
    if spot is not None:
        drop = plan.height - 1.62
        hung = Spot(spot.x, spot.z, 0, plan.height)
        plan.add(decor.pendant(look.color(7), drop, look.lit), hung)
    else:
        hung = Spot(plan.width / 2, plan.depth / 2, 0, plan.height)
        plan.add(decor.ceiling_lamp(look.lit), hung)


def _seat(plan: Plan, look: Taste, base: Spot, size: tuple[float, float], ends: bool) -> None:
    """Stand chairs round a table of that width and depth, pulled out by various amounts."""
    width, depth = size
    xs = (-0.25 * width, 0.25 * width) if width > 1.15 else (0.0,)
    places = [
        (x, side * (depth / 2 + 0.12), 0.0 if side < 0 else 180.0) for x in xs for side in (-1, 1)
    ]
    if ends:
        places += [(side * (width / 2 + 0.12), 0.0, 90.0 * -side) for side in (-1, 1)]
    for right, ahead, yaw in places:
        pull, turn = float(plan.rng.uniform(0, 0.16)), float(plan.rng.normal() * 5)
        if ahead:
            ahead += np.sign(ahead) * pull
        else:
            right += np.sign(right) * pull
        seat = furniture.chair(look.wood, look.color(1), look.chairs)
        spot = base.beside(float(right), float(ahead), yaw + turn)
        if plan.inside(plan.block(seat, spot)):
            plan.add(seat, spot)


def _dining_set(plan: Plan, look: Taste, least: float = 0.75) -> Spot | None:
    """Stand a table with chairs somewhere in the room, clear of everything else."""
    rng = plan.rng
    if rng.random() < 0.35:
        width = depth = float(rng.uniform(1.0, 1.2))
        top = furniture.round_table(width, 0.75, look.wood)
    else:
        width, depth = float(rng.uniform(1.3, 1.7)), 0.85
        top = furniture.table(width, depth, 0.75, look.wood)
    hall = decor.rug(width + 1.3, depth + 1.3, look.color(3), "beige", 0)
    for yaw in (0.0, 90.0) * 20:
        x, z = rng.uniform([1.2, 1.2], [plan.width - 1.2, plan.depth - 1.2])
        spot = Spot(float(x), float(z), yaw)
        if not plan.fits(_upright(plan.block(hall, spot), 1.2), least - 0.7):
            continue
        plan.add(top, spot)
        _seat(plan, look, spot, (width, depth), ends=width > 1.45 or width == depth)
        _on(plan, top, spot, decor.bowl(rng, look.color(4), True), (0.12, 0.05))
        if rng.random() < 0.7:
            _on(plan, top, spot, decor.vase(look.color(5), int(rng.integers(3))), (-0.22, -0.06))
        for k in range(int(rng.integers(0, 3))):
            _on(plan, top, spot, decor.mug(look.color(6)), (0.3 - 0.6 * k, 0.26 - 0.5 * k))
        return spot
    return None


def _upright(
    block: tuple[float, ...], height: float
) -> tuple[float, float, float, float, float, float]:
    x1, _, z1, x2, _, z2 = block
    return x1, 0.0, z1, x2, height, z2


def living(plan: Plan, look: Taste) -> None:
    """Furnish a living room: a sofa across from a television, and what goes with them."""
    rng = plan.rng
    couch = furniture.sofa(look.color(0), int(rng.integers(2, 4)), look.color(1))
    seat = plan.against(couch, gap=0.1, behind=0.08, keep=1.9, middle=True)
    if seat:
        _sofa_group(plan, look, seat, couch)
        screen, stand = decor.tv(float(rng.uniform(0.95, 1.25))), furniture.tv_stand(1.6, look.wood)
        across = (_opposite(_wall_of(plan, seat)),)
        if spot := plan.against(stand, across, middle=True) or plan.against(stand):
            _on_straight(plan, stand, spot, screen, (0.0, -0.04))
    case = furniture.bookshelf(rng, look.second_wood, float(rng.choice([0.8, 0.95, 1.2])))
    plan.against(case, gap=0.08, keep=0.5)
    if rng.random() < 0.4:
        _dining_set(plan, look)
    if rng.random() < 0.7:
        side = furniture.cabinet(0.9, 0.8, 0.4, look.second_wood, 2)
        spot = plan.against(side, gap=0.1, keep=0.4)
        _on(plan, side, spot, decor.table_lamp(look.color(5), look.lit), (-0.26, 0))
        _on(plan, side, spot, decor.vase(look.color(6), int(rng.integers(3))), (0.2, 0.02))
    plan.against(decor.plant(rng, "white", float(rng.uniform(0.8, 1.15))), corner=True, gap=0.02)
    _top_light(plan, look)


def _on_straight(plan: Plan, base: Piece, spot: Spot, item: Piece, at: tuple[float, float]) -> None:
    plan.add(item, spot.beside(*at, 0.0, base.top))


def _sofa_group(plan: Plan, look: Taste, seat: Spot, couch: Piece) -> None:
    """Stand a low table, a rug, a lamp and armchairs about a sofa."""
    rng, half = plan.rng, float(couch.bounds()[1][0])
    if rng.random() < 0.3:
        low = furniture.round_table(0.85, 0.42, look.wood, "coffee table")
    else:
        low = furniture.table(1.05, 0.55, 0.4, look.wood, "coffee table")
    ahead = float(rng.uniform(1.05, 1.2))
    hall = decor.rug(2.5, 1.75, look.color(2), "beige", int(rng.integers(3)))
    ground = seat.beside(0, ahead + 0.05)
    if plan.inside(plan.block(hall, ground)):
        plan.lay(hall, ground)
    spot = plan.put(low, seat.beside(0, ahead), 0.1)
    _on(plan, low, spot, decor.vase(look.color(3), int(rng.integers(3))), (-0.24, 0.05))
    _on(plan, low, spot, decor.bowl(rng, look.color(4), False), (0.2, -0.06))
    if rng.random() < 0.5:
        _on(plan, low, spot, decor.book_pile(rng), (0.0, 0.12))
    for side in (-1, 1) if rng.random() < 0.5 else (int(rng.choice([-1, 1])),):
        place = seat.beside(side * (half + 0.75), ahead + 0.15, side * float(rng.uniform(55, 80)))
        plan.put(furniture.sofa(look.color(5), 1, "white"), place, 0.08)
    for side in rng.permutation([-1, 1]):
        lamp = decor.floor_lamp("beige", look.lit)
        if plan.put(lamp, seat.beside(float(side) * (half + 0.28), -0.12), 0.03):
            break


def dining(plan: Plan, look: Taste) -> None:
    """Furnish a dining room: a table with chairs, a sideboard, a cabinet."""
    rng = plan.rng
    spot = _dining_set(plan, look, 0.8)
    side = furniture.cabinet(1.5, 0.78, 0.42, look.wood, 3, "sideboard")
    stood = plan.against(side, gap=0.15, keep=0.5, middle=True)
    _on(plan, side, stood, decor.table_lamp(look.color(2), look.lit), (-0.5, 0))
    _on(plan, side, stood, _small(plan, look, 1), (0.02, 0))
    _on(plan, side, stood, decor.vase(look.color(5), int(rng.integers(3))), (0.48, 0))
    case = furniture.bookshelf(rng, look.second_wood, 0.9)
    plan.against(case, gap=0.1, keep=0.5)
    chest = furniture.dresser(0.9, 0.86, look.second_wood, 2, 3)
    stood = plan.against(chest, gap=0.1, keep=0.5)
    _on(plan, chest, stood, _small(plan, look, 3), (0.2, 0))
    _on(plan, chest, stood, _small(plan, look, 4), (-0.22, 0))
    if rng.random() < 0.5:
        plan.against(furniture.sofa(look.color(0), 1, "white"), corner=True, gap=0.1, behind=0.1)
    for _ in range(int(rng.integers(1, 3))):
        tall = float(rng.uniform(0.7, 1.1))
        plan.against(decor.plant(rng, "white", tall), corner=True, gap=0.02)
    plan.hang(decor.clock(look.color(8), int(rng.integers(6))), 1.8)
    _top_light(plan, look, spot)


def bedroom(plan: Plan, look: Taste) -> None:
    """Furnish a bedroom: a bed between nightstands, a wardrobe, a dresser."""
    rng = plan.rng
    wide = float(rng.choice([1.0, 1.5, 1.7]))
    berth = furniture.bed(look.color(0), look.color(1), look.wood, wide)
    spot = plan.against(berth, gap=0.1, keep=0.8, middle=True)
    if spot:
        for side in (-1, 1):
            stand = furniture.dresser(0.48, 0.52, look.wood, 1, 2)
            at = spot.beside(side * (wide / 2 + 0.4), -0.84)
            if stood := plan.put(stand, at, 0.01):
                lamp = decor.table_lamp(look.color(3), look.lit)
                _on(plan, stand, stood, lamp, (0.06 * side, -0.03))
        hall = decor.rug(2.2, 1.4, look.color(2), "beige", int(rng.integers(3)))
        if plan.inside(plan.block(hall, spot.beside(0, 1.3))):
            plan.lay(hall, spot.beside(0, 1.3))
    plan.against(furniture.wardrobe(look.second_wood, int(rng.integers(2, 4))), gap=0.1, keep=0.5)
    chest = furniture.dresser(1.1, 0.8, look.second_wood, 2, 3)
    stood = plan.against(chest, gap=0.1, keep=0.5)
    _on(plan, chest, stood, _small(plan, look, 2), (-0.32, 0))
    _on(plan, chest, stood, _small(plan, look, 5), (0.3, 0))
    if rng.random() < 0.5:
        _workplace(plan, look, 1.1)
    else:
        plan.against(furniture.sofa(look.color(4), 1, "white"), gap=0.2, behind=0.15, keep=0.5)
    if rng.random() < 0.5:
        plan.against(furniture.bench(look.wood), gap=0.15, keep=0.4)
    if rng.random() < 0.6:
        plan.against(decor.plant(rng, "gray", 0.9), corner=True, gap=0.02)
    _top_light(plan, look)


def _workplace(plan: Plan, look: Taste, width: float) -> None:
    """Stand a desk with a screen against a wall, and a swivel chair before it."""
    rng, top = plan.rng, furniture.desk(width, look.wood)
    spot = plan.against(top, gap=0.1, behind=0.05, keep=1.0)
    if not spot:
        return
    wide = width > 1.2
    screen = decor.monitor() if wide and rng.random() < 0.6 else decor.laptop()
    _on(plan, top, spot, screen, (0.0, -0.1))
    _on(plan, top, spot, decor.desk_lamp(look.color(6)), (-width / 2 + 0.16, -0.14))
    _on(plan, top, spot, decor.mug(look.color(5)), (width / 2 - 0.12, 0.16))
    if wide:
        _on(plan, top, spot, decor.book_pile(rng), (width / 2 - 0.25, -0.14))
    chair = furniture.office_chair(look.color(7))
    place = spot.beside(float(rng.uniform(-0.25, -0.1)), 0.78, 180 + float(rng.normal() * 14))
    plan.put(chair, place, 0.0)


def study(plan: Plan, look: Taste) -> None:
    """Furnish a study: a desk, shelves of books, a reading corner."""
    rng = plan.rng
    _workplace(plan, look, float(rng.uniform(1.35, 1.6)))
    for _ in range(int(rng.integers(1, 3))):
        case = furniture.bookshelf(rng, look.second_wood, float(rng.choice([0.8, 1.0])))
        plan.against(case, gap=0.02, keep=0.5)
    low = furniture.cabinet(1.0, 0.74, 0.4, look.wood, 2)
    stood = plan.against(low, gap=0.1, keep=0.4)
    _on(plan, low, stood, decor.globe(look.second_wood), (-0.28, 0))
    _on(plan, low, stood, _small(plan, look, 2), (0.24, 0))
    rest = furniture.sofa(look.color(0), 1, "white")
    spot = plan.against(rest, gap=0.25, behind=0.2, keep=0.6)
    if spot:
        plan.put(decor.floor_lamp("beige", look.lit), spot.beside(0.72, -0.1), 0.02)
        aside = furniture.round_table(0.45, 0.5, look.wood, "side table")
        stood = plan.put(aside, spot.beside(-0.78, 0.1), 0.02)
        _on(plan, aside, stood, _small(plan, look, 4), (0, 0))
    if rng.random() < 0.6:
        hall = decor.rug(2.1, 1.5, look.color(3), "beige", int(rng.integers(3)))
        plan.lay(hall, Spot(plan.width / 2, plan.depth / 2, 0))
    plan.against(decor.trash_can(look.color(8)), gap=0.06)
    plan.against(decor.plant(rng, "white", 0.95), corner=True, gap=0.02)
    plan.hang(decor.clock("black", int(rng.integers(6))), 1.85)
    _cartons(plan)
    _top_light(plan, look)


def kitchen(plan: Plan, look: Taste) -> None:
    """Furnish a kitchen: a run of cabinets with oven and sink, and a table."""
    rng = plan.rng
    paint = ("white", "gray", "blue", "green", "beige")[int(rng.integers(5))]
    for wall in rng.permutation(4):
        if _run(plan, look, plan.walls[int(wall)], paint):
            break
    spot = _dining_set(plan, look, 0.75)
    if rng.random() < 0.6:
        tall = furniture.cabinet(0.85, 0.86, 0.42, look.second_wood, 2)
        stood = plan.against(tall, gap=0.1, keep=0.5)
        _on(plan, tall, stood, _small(plan, look, 1), (0.2, 0))
        _on(plan, tall, stood, decor.bottle(look.color(4)), (-0.22, 0))
    for _ in range(int(rng.integers(0, 3))):
        plan.against(furniture.stool(look.wood), gap=0.08, behind=0.06)
    plan.against(decor.trash_can(look.color(8)), gap=0.06)
    plan.against(decor.plant(rng, "white", 0.8), corner=True, gap=0.02)
    plan.hang(decor.clock(look.color(6), int(rng.integers(6))), 1.85)
    _top_light(plan, look, spot)


def _run(plan: Plan, look: Taste, wall: Wall, paint: str) -> bool:
    """Line a wall with kitchen furniture, if there is room; return whether there was."""
    rng, steel = plan.rng, bool(plan.rng.random() < 0.5)
    row = [
        furniture.refrigerator(steel),
        furniture.counter(float(rng.uniform(0.5, 0.9)), paint),
        furniture.oven(steel),
        furniture.counter(1.05, paint, "sink"),
    ]
    if wall.width > 4.6:
        row.append(furniture.counter(float(rng.uniform(0.5, 0.8)), paint))
    if rng.random() < 0.5:
        row.reverse()
    widths = [float(np.ptp([p.bounds()[0][0], p.bounds()[1][0]])) + 0.006 for p in row]
    slack = wall.width - sum(widths) - 0.1
    if slack < 0:
        return False
    start = -wall.width / 2 + 0.05 + slack * float(rng.choice([0.0, 0.5, 1.0]))
    spots = []
    for piece, width in zip(row, widths, strict=True):
        spots.append(wall.spot.beside(start + width / 2, 0.02 - float(piece.bounds()[0][2])))
        start += width
    if not all(plan.fits(plan.block(p, s)) for p, s in zip(row, spots, strict=True)):
        return False
    for piece, spot in zip(row, spots, strict=True):
        plan.add(piece, spot)
        _equip(plan, look, piece, spot, paint)
    return True


def _equip(plan: Plan, look: Taste, piece: Piece, spot: Spot, paint: str) -> None:
    """Put pots and the like on a kitchen piece, and a cupboard over it."""
    rng = plan.rng
    if piece.label == "oven":
        _on(plan, piece, spot, decor.pot(), (-0.14, -0.14))
        if rng.random() < 0.6:
            _on(plan, piece, spot, decor.kettle(look.color(3)), (0.14, 0.14))
    elif piece.label == "counter":
        _on(plan, piece, spot, decor.bottle(look.color(4)), (-0.14, -0.16))
        other = decor.mug(look.color(5)) if rng.random() < 0.5 else _small(plan, look, 3)
        _on(plan, piece, spot, other, (0.12, 0.02))
    if piece.label in ("counter", "sink"):
        low, high = piece.bounds()
        over = furniture.wall_cupboard(float(high[0] - low[0]) - 0.01, paint)
        back = float(low[2]) - 0.015 - float(over.bounds()[0][2])
        plan.put(over, spot.beside(0, back, up=1.46))


LAYOUTS: dict[str, Callable[[Plan, Taste], None]] = {
    "living": living,
    "dining": dining,
    "bedroom": bedroom,
    "study": study,
    "kitchen": kitchen,
}
SIZES: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "living": ((5.2, 4.6), (6.8, 6.0)),
    "dining": ((4.8, 4.5), (6.2, 5.6)),
    "bedroom": ((4.6, 4.4), (5.8, 5.4)),
    "study": ((4.4, 4.2), (5.6, 5.2)),
    "kitchen": ((4.7, 4.5), (6.0, 5.5)),
}
"""Least and greatest (width, depth) of each kind of room, meters."""


def furnish(plan: Plan, look: Taste, room: str) -> None:
    """Fill a plan whose shell stands."""
    LAYOUTS[room](plan, look)
    _loose(plan, look, int(plan.rng.integers(1, 4)))
    _pictures(plan, look, int(plan.rng.integers(2, 5)))
