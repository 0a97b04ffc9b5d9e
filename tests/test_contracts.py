"""The contracts that ``w2v plugins check`` holds plugins against: built-ins keep them, and each
fault that a contract is there to find is found."""

from dataclasses import replace

import pytest
from click.testing import CliRunner

from w2v import plugins, testing
from w2v.benchmarks.ours import Questions
from w2v.cli import cli
from w2v.kinds import Grade, Offer, Outcome
from w2v.testing import BrokenContract

pytest.importorskip("numpy")

LIGHT = [
    (kind, name)
    for kind in ("task", "check", "reward", "benchmark")
    for name in plugins.offers(kind)
]


@pytest.mark.parametrize(("kind", "name"), LIGHT)
def test_built_ins_keep_their_contracts(kind, name):
    assert len(list(testing.check(kind, name))) == 2


def test_a_benchmark_may_name_its_own_file(tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises(BrokenContract, match="no questions"):
        testing.check_benchmark(f"questions:path={tmp_path / 'none.jsonl'}")


class Nameless(Questions):
    version = property(lambda self: "", lambda self, value: None)


class Restless(Questions):
    times = 0

    def questions(self):
        self.times += 1
        asked = list(super().questions())
        return iter(asked[:: (-1) ** self.times])


class Twice(Questions):
    def questions(self):
        for question in super().questions():
            yield from (question, question)


class Pictureless(Questions):
    def questions(self):
        return (replace(question, images=()) for question in super().questions())


class Rows(Questions):
    def questions(self):
        return (question.to_json() for question in super().questions())


class Bare(Questions):
    def score(self, question, response):
        return super().score(question, response).score


class Generous(Questions):
    def score(self, question, response):
        return Grade(1.0, {}, response)


class Half(Questions):
    def outcome(self, question, answer):
        return Outcome(question.task_type, {"accuracy": 0.5})


class Stern(Questions):
    def outcome(self, question, answer):
        return Outcome(question.task_type, {"accuracy": 0.0})


class Lenient(Questions):
    def outcome(self, question, answer):
        return Outcome(question.task_type, {"accuracy": 1.0})


class Endless(Questions):
    def outcome(self, question, answer):
        made = super().outcome(question, answer)
        return replace(made, values={**made.values, "error": float("nan")})


class Sorting(Questions):
    def outcome(self, question, answer):
        made = super().outcome(question, answer)
        return replace(made, group=answer.response[:1] or "silent")


FAULTS = {
    Nameless: "no version",
    Restless: "another time it asks other questions",
    Twice: "two questions have one id",
    Pictureless: "2 <image> tags, 0 images",
    Rows: "must yield Question records",
    Bare: "must return a Grade",
    Generous: "scores as much as the right answer",
    Half: "accuracy is 0.5",
    Stern: "the right answer counts as wrong",
    Lenient: "'' counts as right",
    Endless: "error is nan",
    Sorting: "the group depends on the response",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_benchmark_with_a_fault_is_found_out(fault, monkeypatch):
    def make(path: str):
        """Ask with a fault."""
        return fault(path, plugins.parse_spec("reward", "robust"), 0.5, 5.0)

    found = plugins.find
    faulty = Offer(make=make)
    monkeypatch.setattr(
        plugins, "find", lambda kind, name: faulty if kind == "benchmark" else found(kind, name)
    )
    with pytest.raises(BrokenContract, match=FAULTS[fault]):
        testing.check_benchmark("faulty")


def test_plugins_check_holds_a_benchmark_against_its_contract():
    done = CliRunner().invoke(cli, ["plugins", "check", "questions"])
    assert done.exit_code == 0, done.output
    assert "ok  benchmark questions: 54 questions in 8 groups" in done.output
