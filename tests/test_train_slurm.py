"""The recipe that trains on Slurm, with a Slurm that only writes down what it is asked."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "docs/recipes/slurm/train.sbatch"


@pytest.fixture
def job(tmp_path):
    """Run the recipe around a command; tell it something when the command is ready."""
    slurm = tmp_path / "bin"
    slurm.mkdir()
    for name in ("squeue", "scontrol", "scancel"):
        (slurm / name).write_text(f'#!/bin/sh\necho {name} "$@" >> "{tmp_path}/asked"\n')
        (slurm / name).chmod(0o755)

    def run(command, told=None, state="RUNNING"):
        with (slurm / "squeue").open("a") as squeue:
            squeue.write(f"echo {state}\n")
        ready = tmp_path / "ready"
        process = subprocess.Popen(
            ["bash", SCRIPT, *command],
            cwd=tmp_path,
            env={"PATH": f"{slurm}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"},
            start_new_session=True,
        )
        if told:
            while not ready.exists():
                time.sleep(0.01)
            process.send_signal(told)
        code = process.wait(30)
        asked = (tmp_path / "asked").read_text() if (tmp_path / "asked").exists() else ""
        return code, "scontrol requeue 7" in asked

    return run


def ending(code, told="TERM"):
    """A command that ends with a code once it is told, a little later."""
    lines = f"trap 'sleep 0.2; echo saved > saved; exit {code}' {told}; touch ready"
    return ["bash", "-c", f"{lines}; while true; do sleep 0.05; done"]


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("code", [75, 1])  # of w2v itself, and of a launcher
def test_what_was_told_to_stop_saves_and_comes_back(code, told, job, tmp_path):
    assert job(ending(code), told) == (code, True)
    assert (tmp_path / "saved").exists()


def test_what_ends_before_it_can_stop_stays_away(job):
    assert job(ending(0), signal.SIGTERM) == (0, False)


@pytest.mark.parametrize("code", [0, 1, 2])
def test_what_nobody_told_is_not_done_again(code, job):
    assert job(["bash", "-c", f"exit {code}"]) == (code, False)


def test_a_cancelled_job_stays_away(job):
    assert job(ending(75), signal.SIGTERM, state="COMPLETING") == (75, False)


def test_a_child_that_its_launcher_left_behind_is_told_and_waited_for(job, tmp_path):
    command = ending(75)[-1]
    (tmp_path / "child.sh").write_text(command)
    launcher = ["bash", "-c", "bash child.sh & while true; do sleep 0.05; done"]
    code, requeued = job(launcher, signal.SIGTERM)
    assert (code, requeued) == (143, True) and (tmp_path / "saved").exists()
