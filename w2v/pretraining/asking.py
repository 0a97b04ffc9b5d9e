"""Questions about what pictures show, not about how a camera moves.

What a VLM knows before it meets a world model: where things are, what they are called, their
colours and numbers, which is left, higher or nearer, how two boxes lie to each other. Of two
pictures it is asked about either, or where one and the same thing is in each: never why.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from w2v import boxes, phrases
from w2v.pretraining.views import Sight, View
from w2v.teachers.sim import materials

ORDINALS = ("first", "second")
PLACES = [f" in the {ordinal} picture" for ordinal in ORDINALS]
_BOX = "Answer with its box only, as [x1, y1, x2, y2]."
_BOXES = "Answer with the boxes, as [x1, y1, x2, y2]."
_WAY = "Answer like this: left X, up X."
_FAR = "Answer like this: X meters."
_WORD = "Answer with one word."
_YES = "Answer with one word, yes or no."
_TRUE = "Answer with one word, true or false."
APART = 0.06
"""Least distance of two middles, in widths of the picture, at which one is left of or above."""
_NAME = "Answer with its name only."
_LETTER = "Answer with the letter of one option only."
_SAID = 0.15
"""How often a question says how it is to be answered."""
THIN = 0.03
"""Least side of a box that is asked about, in sides of the picture."""
NEARER = 1.25
"""Least ratio of two depths at which one thing is nearer."""
CLEAR = 100
"""Least shift across of a thing, on the grid of boxes, about which a claim is made."""
WRONG = (-1, -1, 0.5, 2)
"""By what the shift across is multiplied in a false claim."""


Grid = tuple[int, int, int, int]
"""A box in whole numbers."""
Made = tuple[str, str, str]
"""A question, how it is to be answered, and the answer."""


class Asked(NamedTuple):
    """A question of one kind, and its answer."""

    kind: str
    text: str
    answer: str


class Shown:
    """A picture as it is asked about: its things by names that fit one of them only."""

    def __init__(self, view: View, place: str, rng: random.Random) -> None:
        self.view, self.place, self.rng = view, place, rng
        height, width = view.frame.shape[:2]
        self.size = width, height
        self.clear = [sight for sight in view.sights if not self._thin(sight)]
        labels = Counter(sight.label for sight in view.sights)
        full = Counter((sight.color, sight.label) for sight in view.sights)
        self.named: list[tuple[str, Sight]] = []
        for sight in self.clear:
            if labels[sight.label] == 1:
                self.named.append((sight.label, sight))
            elif sight.color and full[sight.color, sight.label] == 1:
                self.named.append((f"{sight.color} {sight.label}", sight))
        self.labels = labels
        self.other: Shown | None = None  # of two pictures, the other

    def _thin(self, sight: Sight) -> bool:
        x1, y1, x2, y2 = sight.box
        return x2 - x1 < THIN * self.size[0] or y2 - y1 < THIN * self.size[1]

    def one(self) -> tuple[str, Sight]:
        """Return one thing with its name; large ones come as often as small ones."""
        return self.rng.choice(self.named)

    def two(self) -> tuple[tuple[str, Sight], tuple[str, Sight]]:
        """Return two things with their names."""
        first, second = self.rng.sample(self.named, 2)
        return first, second

    def box(self, sight: Sight) -> str:
        """Write the box of a thing."""
        return boxes.say(boxes.to_grid(sight.box, *self.size))

    def middle(self, sight: Sight) -> tuple[float, float]:
        """Return the middle of a thing's box, in widths and heights of the picture."""
        x1, y1, x2, y2 = sight.box
        return (x1 + x2) / 2 / self.size[0], (y1 + y2) / 2 / self.size[1]


# ── one kind each ─────────────────────────────────────────────────────────────────────────────


def _where(shown: Shown) -> Made:
    name, sight = shown.one()
    return f"Where is the {name}{shown.place}?", _BOX, shown.box(sight)


def _where_color(shown: Shown) -> Made | None:
    colors = Counter(sight.color for sight in shown.view.sights if sight.color)
    fits = [sight for sight in shown.clear if colors[sight.color] == 1]
    if not fits:
        return None
    sight = shown.rng.choice(fits)
    return f"Where is the {sight.color} object{shown.place}?", _BOX, shown.box(sight)


def _in_both(shown: Shown) -> tuple[str, Grid, Grid] | None:
    """Return a thing that either picture shows, and its boxes in the first and in the second."""
    names = {} if shown.other is None else dict(shown.other.named)
    fits = [(name, sight) for name, sight in shown.named if name in names]
    if shown.other is None or not fits:
        return None
    name, sight = shown.rng.choice(fits)
    here = boxes.to_grid(sight.box, *shown.size)
    there = boxes.to_grid(names[name].box, *shown.other.size)
    return (name, here, there) if shown.place == PLACES[0] else (name, there, here)


def _both(shown: Shown) -> Made | None:
    if (found := _in_both(shown)) is None:
        return None
    name, first, second = found
    asked = f"Where is the {name} in the first and second picture?"
    return asked, _BOXES, f"{boxes.say(first)} and {boxes.say(second)}"


def _shift(shown: Shown) -> Made | None:
    if (found := _in_both(shown)) is None:
        return None
    name, first, second = found
    asked = f"How far is the middle of the {name} in the second picture from that in the first?"
    return asked, _WAY, _way(first, second)


def _which(shown: Shown) -> Made | None:
    if (found := _in_both(shown)) is None:
        return None
    name, first, second = found
    if (told := _exceeds(first, second, shown.rng)) is None:
        return None
    word, answer = told
    return f"In which picture is the {name} {word}, the first or the second?", _WORD, answer


def _match(shown: Shown) -> Made | None:
    if (found := _in_both(shown)) is None:
        return None
    _, first, second = found
    asked = f"What is at {boxes.say(first)} in the first picture, where is it in the second?"
    return asked, _BOX, boxes.say(second)


def _near(sight: Sight, shown: Shown, spread: float) -> Grid:
    """Return the box of a thing with each side moved by chance, on the grid."""
    rng = shown.rng
    moved = [
        min(boxes.GRID, max(0, round(v + rng.gauss(0, spread))))
        for v in boxes.to_grid(sight.box, *shown.size)
    ]
    x1, x2, y1, y2 = *sorted(moved[::2]), *sorted(moved[1::2])
    return x1, y1, x2, y2


def _exactly(shown: Shown) -> Made:
    name, sight = shown.one()
    about = boxes.say(_near(sight, shown, shown.rng.choice((15, 40, 80))))
    return f"The {name}{shown.place} is at about {about}. Where is it?", _BOX, shown.box(sight)


def _what(shown: Shown) -> Made | None:
    sight = shown.rng.choice(shown.clear)
    return f"What is at {shown.box(sight)}{shown.place}?", _NAME, sight.label


def _color(shown: Shown) -> Made | None:
    name, sight = shown.one()
    if not sight.color or sight.color in name:
        return None
    return f"What color is the {name}{shown.place}?", _WORD, sight.color


def _color_at(shown: Shown) -> Made | None:
    sight = shown.rng.choice(shown.clear)
    if not sight.color:
        return None
    return f"What color is the object at {shown.box(sight)}{shown.place}?", _WORD, sight.color


def _exists(shown: Shown) -> Made:
    there = shown.rng.random() < 0.5
    label = shown.rng.choice(list(shown.labels) if there else NAMES)
    answer = phrases.PHRASES["D4"].words[label not in shown.labels]
    return f"Is there a {label}{shown.place}?", _YES, answer


def _count(shown: Shown) -> Made:
    label = shown.rng.choice(list(shown.labels))
    return f"How many objects called {label} are{shown.place}?", _WORD, str(shown.labels[label])


def _beside(shown: Shown) -> Made | None:
    (one, a), (two, b) = shown.two()
    gap = shown.middle(a)[0] - shown.middle(b)[0]
    if abs(gap) < APART:
        return None
    side = "left" if gap < 0 else "right"
    return f"Is the {one} left or right of the {two}{shown.place}?", _WORD, side


def _half(shown: Shown) -> Made | None:
    name, sight = shown.one()
    gap = shown.middle(sight)[0] - 0.5
    if abs(gap) < APART:
        return None
    side = "left" if gap < 0 else "right"
    return f"Is the {name} in the left or right half{shown.place}?", _WORD, side


def _higher(shown: Shown) -> Made | None:
    (one, a), (two, b) = shown.two()
    gap = shown.middle(a)[1] - shown.middle(b)[1]
    if abs(gap) < APART:
        return None
    name = one if gap < 0 else two
    return f"Which is higher{shown.place}, the {one} or the {two}?", _NAME, name


def _far(shown: Shown) -> Made:
    name, sight = shown.one()
    return f"How far away is the {name}{shown.place}?", _FAR, f"{sight.depth:.1f} meters"


def _nearer(shown: Shown) -> Made | None:
    (one, a), (two, b) = shown.two()
    if max(a.depth, b.depth) < NEARER * min(a.depth, b.depth):
        return None
    name = one if a.depth < b.depth else two
    return f"Which is nearer{shown.place}, the {one} or the {two}?", _NAME, name


def _two_boxes(shown: Shown) -> tuple[Grid, Grid]:
    """Return the box of a thing, and of another or one like the first."""
    rng = shown.rng
    one = rng.choice(shown.clear)
    if rng.random() < 0.3:
        other = boxes.to_grid(rng.choice(shown.clear).box, *shown.size)
    else:
        other = _near(one, shown, rng.choice((20, 60, 150)))
    return boxes.to_grid(one.box, *shown.size), other


def _compared(shown: Shown) -> Made | None:
    one, two = _two_boxes(shown)
    if (told := _exceeds(one, two, shown.rng)) is None:
        return None
    word, answer = told
    return f"Which box is {word}, {boxes.say(one)} or {boxes.say(two)}?", _WORD, answer


def _between(shown: Shown) -> Made | None:
    one, two = _two_boxes(shown)
    asked = f"How far is the middle of {boxes.say(two)} from the middle of {boxes.say(one)}?"
    return asked, _WAY, _way(one, two)


def _shifted(shown: Shown) -> Made:
    one = boxes.to_grid(shown.rng.choice(shown.clear).box, *shown.size)
    right, down = (shown.rng.randint(-box[0], boxes.GRID - box[1]) for box in (one[::2], one[1::2]))
    two = one[0] + right, one[1] + down, one[2] + right, one[3] + down
    return f"Which box is {_say(right, down)} from {boxes.say(one)}?", _BOX, boxes.say(two)


def _way(one: Grid, two: Grid) -> str:
    """Write how far the middle of one box lies from that of another."""
    return _say(*_apart(one, two))


def _apart(one: Grid, two: Grid) -> tuple[int, int]:
    """Return how far right and down the middle of one box lies from that of another."""
    right = round((two[0] + two[2] - one[0] - one[2]) / 2)
    down = round((two[1] + two[3] - one[1] - one[3]) / 2)
    return right, down


def _say(right: int, down: int) -> str:
    across = f"{'right' if right >= 0 else 'left'} {abs(right)}"
    return f"{across}, {'down' if down >= 0 else 'up'} {abs(down)}"


def way(text: str) -> tuple[int, int] | None:
    """Return how far right and down a text says that something lies, None where it does not."""
    if (said := _SAID_WAY.fullmatch(text)) is None:
        return None
    across, far, along, deep = said.groups()
    return int(far) * (-1 if across == "left" else 1), int(deep) * (-1 if along == "up" else 1)


def meters(text: str) -> float | None:
    """Return how many meters a text says, None where it says none."""
    said = _SAID_METERS.fullmatch(text)
    return float(said[1]) if said else None


_SAID_WAY = re.compile(r"(left|right) (\d{1,4}), (up|down) (\d{1,4})")
_SAID_METERS = re.compile(r"(\d{1,3}\.\d) meters")


_MEASURES: Sequence[tuple[str, Callable[[Grid], float], float]] = (
    ("farther left", lambda box: -box[0] - box[2], 40),
    ("farther right", lambda box: box[0] + box[2], 40),
    ("higher", lambda box: -box[1] - box[3], 40),
    ("lower", lambda box: box[1] + box[3], 40),
    ("larger", lambda box: math.log(boxes.area(box) + 1), 0.2),
    ("smaller", lambda box: -math.log(boxes.area(box) + 1), 0.2),
)
"""In what one box can exceed another, and by how much at least."""


def _exceeds(one: Grid, two: Grid, rng: random.Random) -> tuple[str, str] | None:
    """Return a drawn measure and which of two boxes has more of it; None where it is close."""
    word, measure, least = rng.choice(_MEASURES)
    gap = measure(one) - measure(two)
    return None if abs(gap) < least else (word, ORDINALS[gap < 0])


def _claim(shown: Shown) -> Made | None:
    name, sight = shown.one()
    truth = shown.rng.random() < 0.5
    right, wrong = ("left", "right") if shown.middle(sight)[0] < 0.5 else ("right", "left")
    if abs(shown.middle(sight)[0] - 0.5) < APART:
        return None
    claim = f'"the {name} is in the {right if truth else wrong} half"'
    answer = phrases.PHRASES["A4"].words[not truth]
    return f"Someone claims{shown.place}: {claim}. Is the claim true or false?", _TRUE, answer


def _claim_shift(shown: Shown) -> Made | None:
    if (found := _in_both(shown)) is None:
        return None
    name, first, second = found
    right, down = _apart(first, second)
    truth, wrong = shown.rng.random() < 0.5, round(right * shown.rng.choice(WRONG))
    if abs(right) < CLEAR or abs(wrong) > boxes.GRID:
        return None
    said = _say(right if truth else wrong, down)
    claim = f'"the {name} is {said} in the second picture from where it is in the first"'
    answer = phrases.PHRASES["A4"].words[not truth]
    return f"Someone claims: {claim}. Is the claim true or false?", _TRUE, answer


def _letter(shown: Shown) -> Made | None:
    sight = shown.rng.choice(shown.clear)
    others = [name for name in shown.rng.sample(NAMES, 4) if name not in shown.labels]
    wrong = others[: shown.rng.randint(1, 3)]
    if not wrong:
        return None
    place = shown.rng.randint(0, len(wrong))
    letter, options = phrases.write_choice(sight.label, wrong, place)
    asked = f"What is at {shown.box(sight)}{shown.place}?\n{phrases.say_options(options)}"
    return asked, f"\n{_LETTER}", letter


KINDS: dict[str, tuple[float, Callable[[Shown], Made | None]]] = {
    "where": (9, _where),
    "where color": (5, _where_color),
    "exactly": (1.5, _exactly),
    "what": (4, _what),
    "color": (3, _color),
    "color at": (2, _color_at),
    "exists": (1, _exists),
    "count": (0.5, _count),
    "beside": (1.5, _beside),
    "half": (1, _half),
    "higher": (0.7, _higher),
    "nearer": (1, _nearer),
    "far": (2, _far),
    "both": (2, _both),
    "match": (4, _match),
    "shift": (7, _shift),
    "claim shift": (4, _claim_shift),
    "which": (3, _which),
    "compared": (2, _compared),
    "between": (2, _between),
    "shifted": (2, _shifted),
    "claim": (0.7, _claim),
    "letter": (0.7, _letter),
}
"""How often each kind is asked, and what asks it; None where the picture does not allow it."""

NAMES: Sequence[str] = (
    *("armchair", "ball", "basket", "bed", "bench", "bookshelf", "bottle", "bowl", "box"),
    *("cabinet", "ceiling lamp", "chair", "clock", "coffee table", "counter", "cupboard"),
    *("curtain", "desk", "dining table", "door", "dresser", "floor lamp", "fruit bowl", "globe"),
    *("kettle", "lamp", "laptop", "monitor", "mug", "nightstand", "office chair", "ottoman"),
    *("oven", "pendant lamp", "picture", "pot", "potted plant", "refrigerator", "rug"),
    *("side table", "sideboard", "sink", "sofa", "stack of books", "stool", "suitcase"),
    *("trash can", "tv", "tv stand", "vase", "wardrobe", "window"),
)
"""What the simulator's things are called."""


def ask(views: Sequence[View], rng: random.Random) -> Iterator[Asked]:
    """Yield questions about one picture, or about either of two, until it has no more to ask.

    Nothing is asked twice.
    """
    places = [""] if len(views) == 1 else PLACES
    shown = [Shown(view, place, rng) for view, place in zip(views, places, strict=True)]
    for one, other in zip(shown, reversed(shown), strict=True):
        one.other = other if other is not one else None
    kinds, weights = list(KINDS), [weight for weight, _ in KINDS.values()]
    said: set[str] = set()
    for _ in range(400):
        about, kind = rng.choice(shown), rng.choices(kinds, weights)[0]
        if len(about.named) < 2:
            continue
        if made := KINDS[kind][1](about):
            question, ending, answer = made
            if question not in said:
                said.add(question)
                text = f"{question} {ending}".replace(" \n", "\n")
                yield Asked(kind, text if rng.random() < _SAID else question, answer)


def corpus() -> Iterator[str]:
    """Yield text that holds every word of these questions, for a tokenizer."""
    yield from NAMES
    yield from materials.COLORS
    yield f"{_BOX} {_BOXES} {_WAY} {_FAR} {_NAME} {_WORD} {_YES} {_TRUE} {_LETTER} A B C D"
    yield "Where is the at about in the first second picture? What color object Is there a"
    yield "How many objects called are left or right half of Which is higher nearer"
    yield "Someone claims Is the claim true or false from where it is in the"
    yield "How far away is the from 1 meters"
    yield "How far is the middle of from Which box is farther left right higher lower larger"
