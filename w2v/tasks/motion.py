"""Tasks about the camera's moves alone: A1, A2, A3 ask for them, A4 asks whether a claim holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from w2v import motion, phrases
from w2v.records import Clip, Move, Question
from w2v.tasks.asking import Asker, Drop, apart, choose_moves, tell, weight_of

Suits = Callable[[Sequence[Move]], bool]


def one_step(moves: Sequence[Move]) -> bool:
    """Return whether the camera made one move and no turn."""
    return len(moves) == 1 and not motion.is_turn(moves[0])


def one_turn(moves: Sequence[Move]) -> bool:
    """Return whether the camera made one turn and no more."""
    return len(moves) == 1 and motion.is_turn(moves[0])


def two_or_three(moves: Sequence[Move]) -> bool:
    """Return whether the camera made two or three moves."""
    return 2 <= len(moves) <= 3


class WhichMoves:
    """A1, A2 and A3: two pictures, which moves lie between them?"""

    def __init__(self, asker: Asker, suits: Suits) -> None:
        self.asker, self.suits = asker, suits

    def __call__(self, clips: Sequence[Clip], drop: Drop) -> Iterator[Question]:
        """Yield one question per clip of the right kind."""
        for clip in clips:
            if not self.suits(clip.moves):
                continue
            told = tell(clip)
            if told.fault or told.together:
                drop(f"{self.asker.task} {told.fault or 'moves run together'}")
                continue
            question = self._ask(clip, clips)
            if question is None:
                drop(f"{self.asker.task} no other options")
            else:
                yield question

    def _ask(self, clip: Clip, clips: Sequence[Clip]) -> Question | None:
        asker = self.asker
        id = f"{clip.id}/{asker.task}"
        form = asker.form(id)
        written = write_moves(asker, id, form, clip, clips, self.suits)
        if written is None:
            return None
        return asker.question(
            clip,
            id,
            form,
            *written,
            weight_of(clip),
            {"moves": list(tell(clip).words)},
            verb=clip.moves[0].verb,
        )


def write_moves(
    asker: Asker, id: str, form: str, clip: Clip, clips: Sequence[Clip], suits: Suits
) -> tuple[str, tuple[str, ...]] | None:
    """Return the answer that names a clip's moves, and its options; None if there are too few."""
    if form == "sentence":
        return phrases.say_moves(clip.moves), ()
    if form == "choice":
        others = [
            other.moves
            for other in sorted(clips, key=lambda clip: clip.id)  # a tree has them in order of name
            if other is not clip and suits(other.moves) and not tell(other).fault
        ]
        return choose_moves(asker, id, clip.moves, others)
    return tell(clip).text, ()


# ── A4 ────────────────────────────────────────────────────────────────────────────────────────

BLOCK = 24
"""Most clips among which partners are sought at once; scenes have about ten."""


class Claims:
    """A4: two pictures and a claim about the moves between them, true or false?

    Each clip is asked about twice: with its own moves, and with those of a partner of its scene
    that ended elsewhere. As the partners are a permutation of the clips, every claim is true as
    often as it is false, and its words alone are worth nothing.
    """

    def __init__(self, asker: Asker) -> None:
        self.asker = asker

    def __call__(self, clips: Sequence[Clip], drop: Drop) -> Iterator[Question]:
        """Yield a true and a false claim per clip that has a partner, in drawn order."""
        fit: list[Clip] = []
        for clip in clips:
            if fault := tell(clip).fault:
                drop(f"A4 {fault}")
            else:
                fit.append(clip)
        partners = self._partners(fit)
        claims = [self._say(clip) for clip in fit]
        for k, clip in enumerate(fit):
            if k not in partners:
                drop("A4 no partner")
                drop("A4 no partner")
                continue
            first = self.asker.draw(2, clip.id, "order")
            for number, own in enumerate((first == 0, first == 1)):
                of = k if own else partners[k]
                yield self._ask(clip, fit[of].id, claims[of], own, number)

    def _say(self, clip: Clip) -> str:
        listed = self.asker.templates == "paper"
        return motion.say_listed(clip.moves) if listed else tell(clip).text

    def _ask(self, clip: Clip, of: str, claim: str, truth: bool, number: int) -> Question:
        asker = self.asker
        id = f"{clip.id}/A4/2" if number else f"{clip.id}/A4"
        form = asker.form(id)
        evidence = {"moves": list(tell(clip).words), "claim_of": of, "claim": claim}
        answer, options = asker.truth(id, form, truth)
        return asker.question(
            clip, id, form, answer, options, weight_of(clip), evidence, moves=claim
        )

    def _partners(self, clips: Sequence[Clip]) -> dict[int, int]:
        """Return for each clip, by index, whose moves it is falsely said to have made."""
        ranked = sorted(
            range(len(clips)), key=lambda k: (self.asker.draw(1 << 32, clips[k].id, "rank"), k)
        )
        blocks = -(-len(ranked) // BLOCK)
        found: dict[int, int] = {}
        for block in range(blocks):
            found |= pair_up(_choices(clips, ranked[block::blocks]))
        return found


def _choices(clips: Sequence[Clip], ranked: Sequence[int]) -> dict[int, Iterable[int]]:
    """Return who may be each clip's partner: as many moves first, then next in rank."""
    ends = {k: tell(clips[k]).end for k in ranked}
    sizes = {k: len(clips[k].moves) for k in ranked}
    choices: dict[int, Iterable[int]] = {}
    for place, own in enumerate(ranked):
        after = (*ranked[place + 1 :], *ranked[:place])
        alike = [k for k in after if sizes[k] == sizes[own]]
        others = [k for k in after if sizes[k] != sizes[own]]
        choices[own] = [k for k in (*alike, *others) if apart(ends[own], ends[k])]
    return choices


def pair_up(choices: Mapping[int, Iterable[int]]) -> dict[int, int]:
    """Return a permutation without fixed points that gives each item one of its choices.

    Items that have to be left out for it are not in the result.
    """
    alive = dict.fromkeys(choices)
    while alive:
        owner: dict[int, int] = {}
        lost = [item for item in alive if not _place(item, choices, alive, owner, set())]
        if not lost:
            return {item: choice for choice, item in owner.items()}
        del alive[lost[0]]
    return {}


def _place(
    item: int,
    choices: Mapping[int, Iterable[int]],
    alive: dict[int, None],
    owner: dict[int, int],
    seen: set[int],
) -> bool:
    """Find a choice for an item, moving others to their next choice if need be (Kuhn 1955)."""
    for choice in choices[item]:
        if choice in alive and choice not in seen:
            seen.add(choice)
            if choice not in owner or _place(owner[choice], choices, alive, owner, seen):
                owner[choice] = item
                return True
    return False
