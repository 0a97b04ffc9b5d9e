"""``w2v score``: responses in, scores out; and the self-test of a reward."""

from __future__ import annotations

import click

from w2v import stream
from w2v.commands.options import input_path, stage_options
from w2v.errors import BadLine, BadRecord, CheckFailed
from w2v.plugins import Named, Spec
from w2v.records import Question


@click.command()
@click.argument("predictions", required=False)
@click.option(
    "--reward", type=Named("reward"), default="robust", show_default=True, help="How to grade."
)
@click.option(
    "--self-test",
    "questions",
    metavar="QUESTIONS",
    help="Grade right answers and cheats of these questions instead; exit 4 if the reward fails.",
)
@stage_options(on_error="fail")
def score(
    predictions: str | None, reward: Spec, questions: str | None, settings: stream.Settings
) -> None:
    """Grade responses.

    Reads rows {task_type, answer, response}, writes them with score, parts and what was read in
    the response. Other keys pass through; form, options and prompt are used where they are there.
    """
    grade = reward.make()
    if questions is not None:
        _self_test(questions, reward, settings)
        return
    from w2v.rewards import grading

    with stream.stage("score", settings, "rows") as stage:
        path = input_path(predictions)
        source = "<stdin>" if path == "-" else path
        lines = stream.raw(stream.open_input(path), source)
        for number, text, row in stage.progress(
            stream.take(lines, settings.shard, settings.limit)
        ):
            stage.inputs += 1
            try:
                if isinstance(row, BadLine):
                    raise row
                stage.write_row(grading.grade_row(row, grade))
            except BadLine as error:
                stage.fail("bad line", error, text)
            except BadRecord as error:
                stage.fail("bad row", BadLine(source, number, error.what, error.hint), text)


def _self_test(path: str, reward: Spec, settings: stream.Settings) -> None:
    """Prove, row by row, that right answers earn 1 and that no cheat earns more than chance."""
    from w2v.rewards import selftest

    with stream.stage("score", settings, "questions") as stage:
        found = stage.read(Question, input_path(path))
        taken = list(stream.take(found, settings.shard, settings.limit))
        stage.inputs = len(taken)
        tested = selftest.self_test(taken, reward.make())
        for row in tested.rows():
            stage.write_row(row)
        for line in tested.lines():
            stage.log(line)
    if not tested.passed:
        raise CheckFailed(f"reward {str(reward)!r} fails its self-test", tested.advice())
