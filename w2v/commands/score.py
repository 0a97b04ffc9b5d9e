"""``w2v score``: responses in, scores out; and the self-test of a reward."""

from __future__ import annotations

import click

from w2v import stream
from w2v.commands.options import input_path, stage_options
from w2v.errors import CheckFailed
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
    if questions is not None:
        _self_test(questions, reward, settings)
        return
    from w2v.rewards import rows

    with stream.stage("score", settings, "rows") as stage:
        grade = reward.make()
        graded = stage.parse(input_path(predictions), lambda row: rows.grade_row(row, grade))
        for row in stage.progress(stream.take(graded, settings.shard, settings.limit)):
            stage.inputs += 1
            stage.write_row(row)


def _self_test(path: str, reward: Spec, settings: stream.Settings) -> None:
    """Prove, row by row, that right answers earn 1 and that no cheat earns more than chance."""
    from w2v.rewards import selftest

    with stream.stage("score", settings, "questions") as stage:
        found = stage.read(Question, input_path(path))
        taken = list(stream.take(found, settings.shard, settings.limit))
        stage.inputs = len(taken)
        tested = selftest.self_test(taken, reward.make())
        stage.write_row(tested.to_json())
        for line in tested.lines():
            stage.log(line)
    if not tested.ok:
        raise CheckFailed(
            f"reward {str(reward)!r} fails its self-test",
            "train with another reward or answer form",
        )
