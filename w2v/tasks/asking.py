"""What all tasks share: how a question is put together, and which moves can be told apart."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from w2v import motion, phrases, provenance
from w2v.errors import BadOption
from w2v.records import Clip, Message, Move, Question
from w2v.tasks import templates as wording

DIRECTIONS = dict.fromkeys(("A1", "A2", "A3", "D3"), "inverse") | dict.fromkeys(
    ("A4", "D1", "D2", "D4"), "forward"
)
"""From pictures to moves, or from moves to what a picture shows (World2VLM, appendix B)."""

MIXED = "mixed"
APART_METERS, APART_DEGREES, APART_SHARE = 0.5, 15.0, 0.5
"""Two paths look different where their ends lie this far apart, absolutely and in relation to the
shorter of the two."""
STILL_METERS, STILL_DEGREES = 0.05, 1.0
"""A path that ends nearer than this to its start leaves two equal pictures."""

Drop = Callable[[str], None]


class Asker:
    """Puts the questions of one task: in the words of a template set, in a form, by draws."""

    def __init__(self, task: str, templates: str, form: str, seed: int) -> None:
        """Look the words up.

        Raises:
            BadOption: There is no such template set or form.
        """
        if form not in (*phrases.FORMS, MIXED):
            raise BadOption(
                f"there is no form {form!r}", f"known: {', '.join((*phrases.FORMS, MIXED))}"
            )
        self.task, self.templates, self.seed = task, templates, seed
        self._form = form
        self._texts = wording.written(templates, task)
        self._direction = DIRECTIONS[task]
        self._name = f"{templates}/{task}"
        self._one_image = wording.IMAGES[task] == 1

    def draw(self, number: int, about: str, purpose: str) -> int:
        """Return one of 0 … number-1 for a clip or question, whatever was asked before."""
        return provenance.draw(number, about, self.task, self.seed, purpose)

    def form(self, question: str) -> str:
        """Return the form a question is to be answered in."""
        if self._form != MIXED:
            return self._form
        return phrases.FORMS[self.draw(len(phrases.FORMS), question, "form")]

    def truth(
        self, id: str, form: str, truth: bool, object: str = "object"
    ) -> tuple[str, tuple[str, ...]]:
        """Return the answer to a yes-or-no question and, for a choice, its options."""
        swap = form == "choice" and self.draw(2, id, "swap") == 1
        return phrases.write_truth(self.task, truth, form, object=object, swap=swap)

    def question(
        self,
        clip: Clip,
        id: str,
        form: str,
        answer: str,
        options: tuple[str, ...],
        weight: float,
        evidence: dict[str, Any],
        **fields: str,
    ) -> Question:
        """Return the question; ``fields`` go into the template, its name into the evidence."""
        if options:
            fields["options"] = phrases.say_options(options)
        text = self._texts[form] % fields
        return Question(
            id=id,
            task_type=self.task,
            messages=(
                Message(role="user", content=text),
                Message(role="assistant", content=answer),
            ),
            images=(clip.first,) if self._one_image else (clip.first, clip.last),
            answer=answer,
            form=form,
            options=options,
            direction=self._direction,
            scene=clip.scene,
            clip=clip.id,
            bundle=clip.bundle,
            source=clip.source,
            teacher=clip.teacher,
            weight=weight,
            evidence={"template": self._name, **evidence},
            licences=clip.licences,
        )


# ── moves ─────────────────────────────────────────────────────────────────────────────────────

P = ParamSpec("P")
T = TypeVar("T")
RECENT = 256


def remembered(
    make: Callable[Concatenate[Clip, P], T],
) -> Callable[Concatenate[Clip, P], T]:
    """Remember what was made of the last clips, since all eight tasks ask about the same ones.

    Clips hold free-form values and cannot be hashed; they are told apart by identity, and held,
    so that no other clip can take theirs. What is remembered must not be changed.
    """
    known: dict[Any, tuple[Clip, T]] = {}

    @functools.wraps(make)
    def found(clip: Clip, /, *args: P.args, **kwargs: P.kwargs) -> T:
        key = (id(clip), args)
        one = known.get(key)
        if one is None:
            if len(known) >= RECENT:
                known.clear()
            one = known[key] = clip, make(clip, *args, **kwargs)
        return one[1]

    return found


End = tuple[float, float, float]
"""Where a path ends: meters right and forward of its start, degrees turned to the right."""


class Told(NamedTuple):
    """A clip's moves in words, where they end, and why they cannot be asked about, if so."""

    words: tuple[str, ...]
    text: str
    end: End
    fault: str
    together: bool


@remembered
def tell(clip: Clip) -> Told:
    """Put a clip's moves into words.

    ``fault`` says in a few words why no question may name them. ``together`` says that
    neighbours run together into one move, so that they cannot be told apart from it.
    """
    words = tuple(map(motion.say_one, clip.moves))
    right, forward, turned = end(clip.moves)
    fault = ""
    if clip.last_frame < 1:
        fault = "one frame"
    elif not words or any(" 0 " in word for word in words):
        fault = "rounds to nothing"
    elif math.hypot(right, forward) < STILL_METERS and abs(turned) < STILL_DEGREES:
        fault = "ends where it began"
    together = len(words) > 1 and len(motion.merge(clip.moves)) < len(words)
    return Told(words, "; ".join(words), (right, forward, turned), fault, together)


def end(moves: Sequence[Move]) -> End:
    """Return where moves lead, in the ground plane; degrees are in [-180, 180]."""
    right = forward = turned = 0.0
    for move in moves:
        verb, amount = move.verb, move.amount
        if verb in ("turn left", "move left", "move backward"):
            amount = -amount
        if verb.startswith("turn"):
            turned += amount
            continue
        sine, cosine = math.sin(math.radians(turned)), math.cos(math.radians(turned))
        if verb in ("move left", "move right"):
            right += amount * cosine
            forward -= amount * sine
        else:
            right += amount * sine
            forward += amount * cosine
    return right, forward, math.remainder(turned, 360.0)


def apart(one: End, two: End) -> bool:
    """Return whether two paths end so differently that one look at the pictures tells."""
    near = APART_SHARE * min(math.hypot(one[0], one[1]), math.hypot(two[0], two[1]))
    if math.hypot(one[0] - two[0], one[1] - two[1]) >= max(APART_METERS, near):
        return True
    less = APART_SHARE * min(abs(one[2]), abs(two[2]))
    return abs(math.remainder(one[2] - two[2], 360.0)) >= max(APART_DEGREES, less)


def weight_of(clip: Clip) -> float:
    """Return the share of the last frame that rests on evidence, 1 where that is unknown."""
    coverage = clip.quality.get("coverage")
    if coverage is None or not isinstance(coverage, (float, int)) or isinstance(coverage, bool):
        return 1.0
    return round(min(1.0, max(0.01, coverage)), 4)


# ── choices between moves ─────────────────────────────────────────────────────────────────────

OPTIONS = 4
_ATTEMPTS = 64


def choose_moves(
    asker: Asker, id: str, moves: Sequence[Move], others: Sequence[Sequence[Move]]
) -> tuple[str, tuple[str, ...]] | None:
    """Put moves among three others that look different: the scene's own, then drawn ones.

    Args:
        asker: Whose task it is.
        id: The question, for the draws.
        moves: The right ones.
        others: What other clips of the scene did, as far as that would suit the task.

    Returns:
        The letter and the options, or None where three others cannot be found.
    """
    ends, wrong = [end(moves)], []
    for other in _others(asker, id, moves, others):
        there = end(other)
        if all(apart(there, known) for known in ends):
            ends.append(there)
            wrong.append(motion.say(other))
            if len(wrong) == OPTIONS - 1:
                place = asker.draw(OPTIONS, id, "place")
                return phrases.write_choice(motion.say(moves), wrong, place)
    return None


def _others(
    asker: Asker, id: str, moves: Sequence[Move], others: Sequence[Sequence[Move]]
) -> Iterator[Sequence[Move]]:
    """Yield the others from a drawn one on, then sequences of drawn moves of the same kinds."""
    start = asker.draw(len(others), id, "others") if others else 0
    yield from (*others[start:], *others[:start])
    for attempt in range(_ATTEMPTS):
        yield [
            _drawn(asker, f"{id}/{attempt}/{place}", motion.is_turn(move))
            for place, move in enumerate(moves)
        ]


def _drawn(asker: Asker, about: str, turn: bool) -> Move:
    """Return a move of an amount that teachers are asked for: 0.5-4 meters, 10-90 degrees."""
    verbs = [verb for verb in motion.VERBS if verb.startswith("turn") == turn]
    verb = verbs[asker.draw(len(verbs), about, "verb")]
    if turn:
        return Move(verb=verb, amount=10.0 + asker.draw(81, about, "amount"))
    return Move(verb=verb, amount=(5 + asker.draw(36, about, "amount")) / 10)
