import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v import motion
from w2v.errors import BadRecord
from w2v.records import Move

MOVES = st.builds(
    lambda verb, amount: Move(verb=verb, amount=amount / (1 if "turn" in verb else 10)),
    st.sampled_from(motion.VERBS),
    st.integers(1, 100),
)


@given(st.lists(MOVES, min_size=1, max_size=4))
def test_moves_survive_being_put_into_words(moves):
    assert motion.parse(motion.say(moves)) == tuple(moves)
    assert motion.parse(motion.say_listed(moves)) == tuple(moves)
    assert motion.read(motion.say(moves)) == tuple(moves)


@given(MOVES)
def test_moves_survive_being_a_token(move):
    assert motion.from_token(motion.token(move)) == move


def test_words_round_and_records_do_not():
    move = Move(verb="move forward", amount=1.2837)
    assert motion.say_one(move) == "move forward 1.3 meters"
    assert motion.token(move) == "FWD_1.2837"
    assert motion.say_one(Move(verb="turn left", amount=29.6)) == "turn left 30 degrees"


@pytest.mark.parametrize(
    ("text", "moves"),
    [
        ("The camera did Move  Forward 1.5 m, then turn left 30°.", [1.5, 30.0]),
        ("move forward by 2 metres", [2.0]),
        ("turn left 2 meters", []),
        ("remove forward 3 meters", []),
        ("move forward 3 miles", []),
        ("move forward -3 meters", [-3.0]),
    ],
)
def test_parse_reads_moves_and_nothing_else(text, moves):
    assert [m.amount for m in motion.parse(text)] == moves


@pytest.mark.parametrize(
    "text", ["", ";", "jump 3 meters", "turn left 0 degrees", "turn left nan degrees", "turn left"]
)
def test_typed_moves_are_refused_with_a_hint(text):
    with pytest.raises(BadRecord) as error:
        motion.read(text)
    assert "turn left 30 degrees" in error.value.hint


def test_steps_along_one_axis_are_summed_with_sign():
    steps = [
        Move(verb="move forward", amount=0.5),
        Move(verb="move backward", amount=0.2),
        Move(verb="turn left", amount=5.0),
        Move(verb="turn right", amount=5.0),
    ]
    (one,) = motion.merge(steps)
    assert (one.verb, round(one.amount, 9)) == ("move forward", 0.3)
