"""The one place where yes and no, choices and sentences are written as answers, and read back.

Moves and boxes have their own words (``w2v.motion``, ``w2v.boxes``); this module puts them into
choices and sentences. A reader returns what a text says only where it says one thing: a text
that says yes and no, or names two options, says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from w2v import boxes, motion
from w2v.errors import BadRecord
from w2v.records import Move

FORMS = ("plain", "choice", "sentence")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """How one task puts a truth into words: in each pair the true side comes first."""

    words: tuple[str, str]
    choices: tuple[str, str]
    sentences: tuple[str, str]


PHRASES = {
    "A4": Phrase(
        words=("true", "false"),
        choices=("The claim is true", "The claim is false"),
        sentences=("That is what the camera did.", "That is not what the camera did."),
    ),
    "D2": Phrase(
        words=("yes", "no"),
        choices=("It disappears from view", "It remains visible"),
        sentences=("The {object} disappears from view.", "The {object} remains visible."),
    ),
    "D4": Phrase(
        words=("yes", "no"),
        choices=("The same object", "A different object"),
        sentences=(
            "The two boxes show the same {object}.",
            "The two boxes show a different {object} each.",
        ),
    ),
}
"""The yes-or-no tasks. As in World2VLM, true means: the claim holds (A4), the object disappears
(D2), both boxes show the same object (D4)."""


def write_truth(
    task_type: str, truth: bool, form: str = "plain", *, object: str = "object", swap: bool = False
) -> tuple[str, tuple[str, ...]]:
    """Write the gold answer of a yes-or-no task.

    Args:
        task_type: A4, D2 or D4.
        truth: What the task asks for; see ``PHRASES``.
        form: plain (one word), choice (a letter) or sentence.
        object: The object's label, for sentences; up to four words.
        swap: Whether option A of a choice is the false side.

    Returns:
        The answer, and the options of a choice in order A, B (none for other forms).
    """
    phrase = PHRASES[task_type]
    if form == "choice":
        options = phrase.choices[::-1] if swap else phrase.choices
        return LETTERS[options.index(phrase.choices[not truth])], options
    words = phrase.words if form == "plain" else phrase.sentences
    return words[not truth].replace("{object}", object), ()


def read_truth(task_type: str, form: str, options: Sequence[str], text: str) -> bool | None:
    """Read what a text answers to a yes-or-no task, or None where it says nothing, or both.

    Plain answers and sentences are read alike; a choice is read by letter or by option text.
    """
    if form == "choice":
        options = options or PHRASES[task_type].choices
        place = read_choice(options, text)
        return None if place is None else polarity(task_type, options[place])
    return polarity(task_type, text)


def write_choice(right: str, wrong: Sequence[str], place: int) -> tuple[str, tuple[str, ...]]:
    """Put the right text among the wrong ones.

    Returns:
        The letter of the right one, and all options in order A, B, ….

    Raises:
        BadRecord: Two options read the same, or there is no such place or letter.
    """
    if not 0 <= place <= len(wrong) < len(LETTERS):
        raise BadRecord(f"a choice of {len(wrong) + 1} options has no place {place}")
    options = (*wrong[:place], right, *wrong[place:])
    if len({_plain(option) for option in options}) < len(options):
        raise BadRecord(f"two options of a choice are the same: {', '.join(options)}")
    return LETTERS[place], options


def say_options(options: Sequence[str]) -> str:
    """Write options for a prompt, one per line, as ``A. …``."""
    return "\n".join(f"{LETTERS[i]}. {option}" for i, option in enumerate(options))


def say_moves(moves: Sequence[Move]) -> str:
    """Write a sentence that names the moves; ``motion.parse`` reads it."""
    return f"The camera did this: {motion.say(moves)}."


def say_box(grid: Sequence[float]) -> str:
    """Write a sentence that names a box; ``boxes.find`` reads it."""
    return f"It is now at {boxes.say(grid)}."


# ── reading: which option ─────────────────────────────────────────────────────────────────────

_ONE_LETTER = re.compile(r"\W*([A-Za-z])\W*")
# "A chair is gone" names no option, but "A or B" does, and so do "A.", "(A)" and "answer is A".
_LETTER = re.compile(
    r"(?<![\w'’])(?:(?i:(?:option|choice|answer)(?:\s+is)?:?\s+\W?)([A-Z])(?![\w'’])"
    r"|([A-Z])(?![\w'’])(?!(?<=A) (?!or\b|and\b)[a-z]))"
)


def read_choice(options: Sequence[str], text: str) -> int | None:
    """Read which option a text names, by letter or by its own words, or None for none or many.

    Without known options the letters A to H are read; further on stands the word "I".
    """
    number = min(len(options) or 8, len(LETTERS))
    if only := _ONE_LETTER.fullmatch(text):
        place = LETTERS.index(only[1].upper())
        return place if place < number else None
    places = {LETTERS.index(one or two) for one, two in _LETTER.findall(text)}
    named = {place for place in places if place < number} | _named(options, text)
    return named.pop() if len(named) == 1 else None


def _named(options: Sequence[str], text: str) -> set[int]:
    """Return the places of the options whose words are in the text, each word used once."""
    left, found = _plain(text), set()
    options = options[: len(LETTERS)]
    # Longest first: "turn left 3 degrees; move …" must not also count as "turn left 3 degrees".
    for place in sorted(range(len(options)), key=lambda i: -len(options[i])):
        words = _plain(options[place])
        if words and words in left:
            found.add(place)
            left = left.replace(words, "\0")
    return found


def _plain(text: str) -> str:
    """Return a text in lower case with single spaces and no trailing punctuation."""
    return " ".join(text.lower().split()).rstrip(" .,;:!?\"'")


# ── reading: true or false ────────────────────────────────────────────────────────────────────

_TRUE = {
    # "the camera did this: …" is how a claim itself begins
    "A4": r"correct|accurate|consistent|match(?:es|ed)?|what the camera did|d(?:o|id) (?:so|that)",
    "D2": r"disappear(?:s|ed|ing)?|vanish(?:es|ed)?|gone|hidden|invisible|unseen"
    r"|out of (?:the )?(?:view|sight|frame)|leaves? (?:the )?(?:view|frame)",
    "D4": r"same|identical",
}
_FALSE = {
    "A4": r"incorrect|inaccurate|inconsistent|wrong|untrue|mismatch(?:es)?",
    "D2": r"visible|seen|(?:with)?in (?:the )?(?:view|sight|frame)",
    "D4": r"different|differs?|another|distinct",
}
_BREAK = r"[.,;:!\n]|\bbut\b|\balthough\b|\bhowever\b"
_NOT = (
    r"no (?:longer|more)|not|never|cannot"
    r"|(?:is|are|was|were|does|do|did|has|have|will|would|can)n't"
)
_QUESTION = re.compile(r"[^.!?\n]*\?")
_LABEL = r"\w[\w'-]*(?: \w[\w'-]*){0,3}"


def _scanner(task_type: str) -> re.Pattern[str]:
    """Return the pattern of all words that bear on a task's truth, one named group each."""
    return re.compile(
        rf"(?P<stop>{_BREAK})"
        rf"|\b(?:(?P<negate>{_NOT})"
        rf"|(?P<yes>yes|true|{_TRUE[task_type]})"
        # "no" is an answer where it stands alone ("no, …", "yes or no"), else it denies a noun.
        rf"|(?P<no>false|no(?=\W*(?:$|[.,;:!/\n]|(?:or|and|yes)\b))|{_FALSE[task_type]})"
        rf"|(?P<deny>no))\b"
    )


def _templates(task_type: str) -> list[tuple[re.Pattern[str], bool]]:
    """Return patterns that read a gold sentence whatever the object is called."""
    written = zip(PHRASES[task_type].sentences, (True, False), strict=True)
    return [
        (re.compile(re.escape(_plain(sentence)).replace(r"\{object\}", _LABEL)), truth)
        for sentence, truth in written
    ]


_SCANNERS = {task_type: _scanner(task_type) for task_type in PHRASES}
_TEMPLATES = {task_type: _templates(task_type) for task_type in PHRASES}
_WORDS = {"yes": True, "true": True, "no": False, "false": False}


def polarity(task_type: str, text: str) -> bool | None:
    """Read the truth a text states for a yes-or-no task; negation counts, questions do not.

    None where it states nothing, or both. Yes and true mean the same, whatever was asked for.
    """
    plain = _plain(text)
    if plain in _WORDS:
        return _WORDS[plain]
    for template, truth in _TEMPLATES[task_type]:
        if template.fullmatch(plain):
            return truth
    found = _stated(task_type, text)
    return found.pop() if len(found) == 1 else None


def _stated(task_type: str, text: str) -> set[bool]:
    """Return every truth that is stated in a text."""
    text = text.lower().replace("’", "'").replace("*", "").replace("_", " ").strip()
    text = _QUESTION.sub("", text) if "?" in text else text
    found, negated = set(), False
    for match in _SCANNERS[task_type].finditer(text):
        kind = match.lastgroup
        if kind == "stop":
            negated = False
        elif kind == "negate":
            negated = not negated
        elif kind == "deny" and match.start() == 0:
            found.add(False)  # "No it is still there": an answer, though the comma is missing
        elif kind == "deny":
            negated = not negated
        else:
            found.add((kind == "yes") != negated)
    return found
