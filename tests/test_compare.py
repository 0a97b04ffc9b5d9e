"""Runs side by side: hand-made answers, exact figures, and tables to the letter."""

import json
import math

import numpy as np
import pytest

from w2v import comparing, evaluating, images
from w2v.records import Answer, Message, Question
from w2v.report import learning
from w2v.stream import dumps, line

SHARED = {
    "benchmark": "questions",
    "version": "1",
    "metrics": 1,
    "questions": "abcd",
    "generation": {"image_tokens": 64},
}


def write(folder, groups, scenes=4, unparsed=(), **protocol):
    """Write a run: by group, the rewards of its questions; those of 1.0 are right."""
    folder.mkdir(parents=True)
    answers = []
    for group, rewards in groups.items():
        for k, reward in enumerate(rewards):
            values = {"reward": reward, "accuracy": float(reward == 1.0), "unparsed": 0.0}
            if k in unparsed:
                values["unparsed"] = 1.0
            answers.append(
                Answer(
                    id=f"{group}/{k}/me",
                    question=f"{group}/{k}",
                    student=folder.name,
                    benchmark="questions",
                    response="said",
                    score=reward,
                    meta={"scene": f"s{k % scenes}", "group": group, "values": values},
                )
            )
    (folder / "answers.jsonl").write_text("".join(map(line, answers)))
    told = SHARED | protocol
    (folder / "protocol.json").write_text(dumps({"protocol": "x", **told}) + "\n")
    return folder


@pytest.fixture
def runs(tmp_path):
    """Three runs of 12 questions in 4 scenes; each scene has 3, one of each third."""
    low = [1.0] * 4 + [0.5] * 4 + [0.0] * 4
    mid = [1.0] * 8 + [0.0] * 4
    high = [1.0] * 8 + [0.25] * 4
    return [
        write(tmp_path / "d" / name / "eval", {"A1": values})
        for name, values in (("base", low), ("sft", mid), ("grpo", high))
    ]


@pytest.fixture
def compare(w2v):
    """Run ``w2v compare`` and return (code, text on stdout, stderr)."""
    from click.testing import CliRunner

    from w2v.cli import cli

    def run(*arguments):
        done = CliRunner().invoke(cli, ["compare", *map(str, arguments)])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return run


def test_markdown_is_this(compare, runs):
    code, out, err = compare(*runs[:2])
    assert code == 0, err
    assert out == (
        "| task | metric | base | sft | sft − base | McNemar p |\n"
        "| --- | --- | ---: | ---: | ---: | ---: |\n"
        "| A1 | reward | 0.500 [0.500, 0.500] | 0.667 [0.667, 0.667] "
        "| +0.167 [+0.167, +0.167] |  |\n"
        "| A1 | accuracy | 0.333 [0.333, 0.333] | 0.667 [0.667, 0.667] "
        "| +0.333 [+0.333, +0.333] | 0.125 |\n"
        "| A1 | unparsed | 0.000 [0.000, 0.000] | 0.000 [0.000, 0.000] "
        "| +0.000 [+0.000, +0.000] |  |\n"
        "\n"
        "12 questions in 4 scenes; 95 % intervals over scenes; "
        "p takes questions for independent.\n"
    )


def test_latex_is_this(compare, runs, tmp_path):
    renamed = (tmp_path / "d" / "base").rename(tmp_path / "d" / "base_1")
    code, out, _ = compare(renamed / "eval", runs[1], "--format", "latex", "--metric", "accuracy")
    assert code == 0
    assert out == (
        "% 12 questions in 4 scenes; 95 % intervals over scenes; "
        "p takes questions for independent.\n"
        "\\begin{tabular}{llrrrr}\n"
        "\\toprule\n"
        "task & metric & base\\_1 & sft & sft - base\\_1 & McNemar p \\\\\n"
        "\\midrule\n"
        "A1 & accuracy & 0.333 [0.333, 0.333] & 0.667 [0.667, 0.667] & "
        "+0.333 [+0.333, +0.333] & 0.125 \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
    )


def test_json_holds_every_figure(compare, runs):
    code, out, _ = compare(*runs, "--format", "json")
    told = json.loads(out)
    assert code == 0 and out.count("\n") == 1
    assert [run["name"] for run in told["runs"]] == ["base", "sft", "grpo"]
    assert (told["questions"], told["scenes"], told["left out"]) == (12, 4, 0)
    reward, accuracy, unparsed = told["rows"]
    assert [figure["value"] for figure in reward["figures"]] == [0.5, 0.666667, 0.75]
    first, second = accuracy["changes"]
    assert (first["run"], first["against"]) == ("sft", "base")
    assert (first["better"], first["worse"], first["p"]) == (4, 0, 0.125)
    assert (second["run"], second["against"], second["value"]) == ("grpo", "base", 0.333333)
    assert unparsed["changes"][0]["p"] is None


def test_each_run_may_be_held_against_the_one_before(compare, runs):
    _, out, _ = compare(*runs, "--against", "previous", "--format", "json")
    reward = json.loads(out)["rows"][0]
    assert [(c["run"], c["against"], c["value"]) for c in reward["changes"]] == [
        ("sft", "base", 0.166667),
        ("grpo", "sft", 0.083333),
    ]


def test_the_interval_of_a_difference_is_that_of_all_draws_of_scenes(tmp_path):
    # two scenes, gains 0 and 1: a draw of two scenes gains 0, 0.5 or 1 with chances 1/4, 1/2, 1/4
    one = write(tmp_path / "a", {"A1": [0.0, 0.0]}, scenes=2)
    two = write(tmp_path / "b", {"A1": [0.0, 1.0]}, scenes=2)
    made = comparing.compare([comparing.read(one), comparing.read(two)])
    change = made.rows[0].changes[0].estimate
    assert (change.value, change.low, change.high) == (0.5, 0.0, 1.0)


def test_all_is_the_mean_of_groups_and_mcnemar_of_all_questions(tmp_path):
    one = write(tmp_path / "a", {"A1": [0.0] * 8, "D2": [1.0, 0.0]})
    two = write(tmp_path / "b", {"A1": [1.0] * 8, "D2": [0.0, 0.0]})
    made = comparing.compare([comparing.read(one), comparing.read(two)], ["accuracy"])
    assert [row.group for row in made.rows] == ["A1", "D2", "all"]
    change = made.rows[-1].changes[0]
    assert change.estimate.value == pytest.approx((1.0 - 0.5) / 2)
    assert (change.better, change.worse) == (8, 1)
    assert change.p == pytest.approx(2 * (1 + 9) / 2**9)


def test_one_run_alone_is_a_table_too(compare, runs):
    code, out, _ = compare(runs[0], "--metric", "reward")
    assert code == 0
    assert out.splitlines()[0].startswith("| task | metric |") and "McNemar" not in out
    assert "| A1 | reward | 0.500 [0.500, 0.500] |" in out


def test_a_table_of_rewards_has_no_column_of_p(compare, runs):
    code, out, _ = compare(*runs[:2], "--metric", "reward")
    assert code == 0
    assert out == (
        "| task | metric | base | sft | sft − base |\n"
        "| --- | --- | ---: | ---: | ---: |\n"
        "| A1 | reward | 0.500 [0.500, 0.500] | 0.667 [0.667, 0.667] "
        "| +0.167 [+0.167, +0.167] |\n"
        "\n"
        "12 questions in 4 scenes; 95 % intervals over scenes.\n"
    )


def test_a_file_of_answers_is_a_run(compare, runs):
    """As blind.jsonl, which lies beside the answers of a student and shares their protocol."""
    blind = runs[0] / "blind.jsonl"
    blind.write_text((runs[1] / "answers.jsonl").read_text())
    code, out, err = compare(blind, runs[0], "--metric", "reward")
    assert code == 0, err
    assert "-0.167" in out


def test_the_table_may_go_to_a_file(compare, runs, tmp_path):
    _, table, _ = compare(*runs)
    code, out, _ = compare(*runs, "-o", tmp_path / "table.md")
    assert (code, out) == (0, "")
    assert (tmp_path / "table.md").read_text() == table


# ── refused ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"questions": "ffff"}, "questions is abcd and ffff"),
        ({"version": "2"}, "version is 1 and 2"),
        ({"generation": {"image_tokens": 256}}, "image_tokens is 64 and 256"),
        (
            {"generation": {"image_tokens": 64, "dtype": "auto"}},
            "dtype is not given and auto",
        ),
    ],
)
def test_unequal_runs_are_refused_unless_forced(compare, runs, tmp_path, change, what):
    other = write(tmp_path / "d" / "other" / "eval", {"A1": [1.0] * 6}, **change)
    code, out, err = compare(runs[0], other)
    assert (code, out) == (1, "")
    assert "base and other cannot be compared" in err and what in err and "--force" in err
    code, out, _ = compare(runs[0], other, "--force", "--metric", "reward")
    assert code == 0
    assert "6 questions in 4 scenes, 6 left out that not all runs answered" in out
    assert "| 0.833 " in out  # of the first six only: four of 1.0, two of 0.5


def test_runs_that_differ_in_students_only_are_compared(compare, runs, tmp_path):
    more = {"student": "other", "described": {"weights": "b", "family": "gemma"}, "w2v": "9"}
    other = write(tmp_path / "other", {"A1": [1.0] * 12}, **more)
    assert compare(runs[0], other)[0] == 0


def test_a_run_that_lacks_answers_is_refused(compare, runs, tmp_path):
    other = write(tmp_path / "other", {"A1": [1.0] * 11})
    code, _, err = compare(runs[0], other)
    assert code == 1 and "1 questions were answered in one only" in err


def test_answers_without_a_protocol_need_force(compare, runs):
    (runs[1] / evaluating.PROTOCOL).unlink()
    code, _, err = compare(*runs[:2])
    assert code == 1 and "no protocol.json" in err
    assert compare(*runs[:2], "--force")[0] == 0


def test_what_is_no_run_is_told(compare, runs, tmp_path):
    code, _, err = compare(tmp_path)
    assert code == 1 and "holds no answers.jsonl" in err
    (tmp_path / "answers.jsonl").write_text("nonsense\n")
    code, _, err = compare(tmp_path)
    assert code == 1 and "holds no answers" in err
    code, _, err = compare(runs[0], "--metric", "acuracy")
    assert code == 1 and "no run has a metric 'acuracy'" in err and "accuracy" in err
    row = json.loads((runs[0] / "answers.jsonl").read_text().splitlines()[0])
    (runs[0] / "answers.jsonl").write_text(json.dumps(row | {"meta": {}}) + "\n")
    code, _, err = compare(runs[0])
    assert code == 1 and "says nothing of its scene" in err


def test_names_are_what_paths_do_not_share(tmp_path):
    def named(*paths):
        return [r.name for r in comparing.short_names([comparing.Run(p, {}, {}) for p in paths])]

    assert named("d/base/eval", "d/sft/eval") == ["base", "sft"]
    assert named("a", "b") == ["a", "b"]
    assert named("d/eval", "d/eval/blind.jsonl") == ["eval", "blind"]
    assert named("eval/base/blind.jsonl", "eval/base", "x/sft") == ["blind", "base", "sft"]
    assert named("a/eval/blind.jsonl", "b/eval/blind.jsonl") == ["a", "b"]
    assert named("d/base/eval") == ["eval"]


def test_wins_and_losses_come_with_the_largest_first(runs):
    base, sft, grpo = map(comparing.read, runs)
    won, lost = comparing.changed(base, grpo)
    assert won == [f"A1/{k}" for k in (4, 5, 6, 7, 10, 11, 8, 9)] and lost == []
    assert comparing.changed(sft, base) == ([], ["A1/4", "A1/5", "A1/6", "A1/7"])


# ── the page ──────────────────────────────────────────────────────────────────────────────────


def asked(name, root):
    (root / "0.png").write_bytes(images.encode(np.full((48, 64, 3), 90, np.uint8)))
    return Question(
        id=name,
        task_type="A1",
        messages=(
            Message(role="user", content="<image>How far?"),
            Message(role="assistant", content="move left 1 meters"),
        ),
        images=("0.png",),
        answer="move left 1 meters",
    )


def test_a_page_shows_figures_curves_wins_and_losses(runs, tmp_path):
    base, sft = comparing.short_names([comparing.read(run) for run in runs[:2]])
    whole = comparing.compare([base, sft])
    known = {"A1/4": asked("A1/4", tmp_path)}
    told = "".join(learning.sections(whole, known, tmp_path, number=3))
    assert told.count("<title>") == 2 and "A1 base: 0.500" in told and "A1 sft: 0.667" in told
    assert "Won: 4 questions" in told and "Lost: 0 questions" in told
    assert told.count("<h4>") == 3 and told.count("data:image/jpeg;base64,") == 1
    # set apart from 0, and so bold; McNemar's p of 4 against 0
    assert "<b>+0.333<small class=faint> [+0.333, +0.333]</small></b>" in told
    assert "<td>0.125</td>" in told


def test_what_a_student_says_cannot_break_out_of_the_page(tmp_path):
    one = write(tmp_path / "a", {"A1": [0.0]})
    two = write(tmp_path / "b", {"A1": [1.0]})
    log = two / "answers.jsonl"
    log.write_text(log.read_text().replace('"said"', '"<script>alert(1)</script>"'))
    told = "".join(learning.sections(learning.exams([one, two])))
    assert "<script>" not in told and "&lt;script&gt;alert(1)" in told


def test_the_report_holds_each_run_against_the_one_before_it(runs, tmp_path, w2v):
    trained = tmp_path / "sft"
    trained.mkdir()
    (trained / "run.json").write_text("{}")
    lines = ['{"step":0,"loss":2.0}', '{"step":10,"loss":1.0,"tasks/A1/reward":0.5}']
    (trained / "metrics.jsonl").write_text("\n".join([*lines, '{"step":20,"loss":null}']))
    page = tmp_path / "page.html"
    code, _, err = w2v("report", *runs, trained, "-o", page)
    assert (code, err) == (0, f"w2v report: {page}, 0 tasks\n")
    told = page.read_text()
    assert "sft against base" in told and "grpo against sft" in told
    assert '<polyline points="44.0,10.0 560.0,180.0"' in told
    assert "<h3>reward of each task</h3>" in told


def test_a_curve_without_points_is_no_chart():
    assert learning.curve("loss", {"sft": [(0.0, math.inf)]}) == ""
