"""Words that are written can be read back; words that say two things say nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v import boxes, motion, phrases
from w2v.errors import BadRecord
from w2v.records import Move

TASKS = sorted(phrases.PHRASES)
LABELS = st.lists(
    st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8), min_size=1, max_size=4
).map(" ".join)


@pytest.mark.parametrize("form", phrases.FORMS)
@pytest.mark.parametrize("task", TASKS)
@given(truth=st.booleans(), swap=st.booleans(), label=LABELS)
def test_a_written_truth_is_read_back(task, form, truth, swap, label):
    answer, options = phrases.write_truth(task, truth, form, object=label, swap=swap)
    assert phrases.read_truth(task, form, options, answer) is truth
    assert len(options) == (2 if form == "choice" else 0)


@pytest.mark.parametrize("label", ["visible lamp", "same old hidden chair", "no"])
@pytest.mark.parametrize("task", TASKS)
def test_a_label_that_sounds_like_an_answer_does_not_count(task, label):
    for truth in (True, False):
        answer, _ = phrases.write_truth(task, truth, "sentence", object=label)
        assert phrases.read_truth(task, "sentence", (), answer) is truth


def test_words_are_those_of_the_paper():
    assert phrases.write_truth("A4", True) == ("true", ())
    assert phrases.write_truth("D2", True) == ("yes", ())
    assert phrases.write_truth("D4", False) == ("no", ())
    assert phrases.write_truth("D2", True, "choice", swap=True) == (
        "B",
        ("It remains visible", "It disappears from view"),
    )
    assert phrases.write_truth("D2", False, "sentence", object="cup") == (
        "The cup remains visible.",
        (),
    )


@pytest.mark.parametrize(
    ("task", "text", "truth"),
    [
        ("D2", "It is still visible", False),
        ("D2", "it is no longer visible.", True),
        ("D2", "**No**, the chair remains visible", False),
        ("D2", "The chair doesn’t disappear", False),
        ("D2", "There is no chair in view", True),
        ("D2", "the chair does not remain visible", True),
        ("D2", "Yes, the chair is gone and not visible", True),
        ("D2", "Does it disappear from view? No.", False),
        ("D2", "does it disappear from view?", None),
        ("D2", "yes, it is still visible", None),
        ("D2", "yes or no", None),
        ("D2", "no / yes", None),
        ("D2", "", None),
        ("D4", "These are not the same", False),
        ("D4", "They aren't different objects", True),
        ("D4", "the same or a different one", None),
        ("A4", "true, it matches", True),
        ("A4", "not true", False),
        ("A4", "yes", True),
        ("A4", "It did not do that.", False),
        ("A4", "The claim: the camera did this: move left 1 meters", None),
        ("A4", "True or false: the camera did that", None),
    ],
)
def test_a_truth_is_read_with_its_negation(task, text, truth):
    assert phrases.polarity(task, text) is truth


OPTIONS = (
    "turn right 3 degrees",
    "turn right 3 degrees; move left 1 meters",
    "turn right 30 degrees",
    "move left 1 meters",
)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("A", 0),
        ("(b)", 1),
        ("**C.**", 2),
        ("The answer is D", 3),
        ("Option B", 1),
        ("A. turn right 3 degrees", 0),
        ("turn right 3 degrees; move left 1 meters.", 1),
        ("Turn  right 30 degrees", 2),
        ("C\n\nbecause a wall moved", 2),
        ("A chair moved, so B", 1),
        ("A or B", None),
        ("A, B, C, D", None),
        ("A. turn right 30 degrees", None),
        ("E", None),
        ("I see nothing", None),
        ("", None),
    ],
)
def test_a_choice_is_read_by_letter_or_by_words(text, place):
    assert phrases.read_choice(OPTIONS, text) == place


def test_naming_all_options_names_none():
    assert phrases.read_choice(OPTIONS, phrases.say_options(OPTIONS)) is None


def test_a_letter_is_read_without_known_options():
    assert phrases.read_choice((), "B") == 1
    assert phrases.read_truth("D4", "choice", (), "B") is False


@given(st.integers(0, 3))
def test_a_written_choice_is_read_back(place):
    letter, options = phrases.write_choice(OPTIONS[0], OPTIONS[1:], place)
    assert options[place] == OPTIONS[0]
    assert phrases.read_choice(options, letter) == place
    assert phrases.read_choice(options, options[place]) == place


@pytest.mark.parametrize(("wrong", "place"), [(["Yes."], 0), (["no"], 2), (["no"], -1)])
def test_a_choice_that_cannot_be_asked_is_refused(wrong, place):
    with pytest.raises(BadRecord):
        phrases.write_choice("yes", wrong, place)


def test_options_are_listed_one_per_line():
    assert phrases.say_options(("yes", "no")) == "A. yes\nB. no"


MOVES = st.builds(Move, verb=st.sampled_from(motion.VERBS), amount=st.integers(1, 100).map(float))


@given(st.lists(MOVES, min_size=1, max_size=3))
def test_sentences_about_moves_and_boxes_are_read_by_their_own_readers(moves):
    assert motion.parse(phrases.say_moves(moves)) == tuple(moves)
    assert boxes.find(phrases.say_box((1, 2, 3, 4))) == [(1.0, 2.0, 3.0, 4.0)]


@given(st.sampled_from(TASKS), st.sampled_from(phrases.FORMS), st.text(max_size=80))
def test_any_text_can_be_read(task, form, text):
    assert phrases.read_truth(task, form, (), text) in (True, False, None)
