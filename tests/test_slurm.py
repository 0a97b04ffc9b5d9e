"""The Slurm recipes on a real Slurm: the one that answers, else one that is started for the test.

A Slurm of your own must see pytest's temporary folder on every node (``--basetemp``). Where none
answers, ``slurm-local`` starts one if the daemons are installed; ``W2V_SLURM_LOCAL`` may name the
script, and then it may also install them.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
RECIPES = REPO / "docs" / "recipes" / "slurm"
SCENES = 5
RENDER = [
    *("render", "--teacher", "noise", "--scenes", str(SCENES)),
    *("--trajectories", "world2vlm", "--frames", "ends", "-o", "d", "--root", "d"),
]
PATIENCE = 300
"""Seconds; a cluster may let a requeued job wait for two minutes."""
_GOING = {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "SUSPENDED"}

# Paths of pictures cost nothing here; in its first life, the task named by STALL stops in the
# middle of its second scene, so that a signal always meets it there, and never in vain.
TEACHER = '''
import os
import time
from pathlib import Path

import numpy as np

from w2v import hookimpl
from w2v.kinds import Anchor, Offer, Rendered
from w2v.records import Intrinsics, Scene

CAMERA = Intrinsics(width=32, height=24, fx=30.0, fy=30.0, cx=16.0, cy=12.0)


@hookimpl
def w2v_teachers():
    return {"noise": Offer(make=Noise, licence="MIT", may_train=True)}


class Noise:
    """Shows noise."""

    def scenes(self, number, seed):
        for k in range(number):
            yield Scene(id=f"noise-{k}", image="", source="simulated", intrinsics=CAMERA)

    def anchor(self, scene, anchor):
        return Anchor(camera=anchor.camera, image=np.zeros((24, 32, 3), np.uint8))

    def render(self, scene, anchor, paths):
        for number, path in enumerate(paths):
            if number == 1 and scene.id == os.environ.get("STALL") and first_life():
                Path(os.environ["STALLED"]).touch()
                time.sleep(600)
            if scene.id == os.environ.get("CRASH"):
                os.abort()
            rng = np.random.default_rng(path.seed)
            shape = (len(path.poses), 24, 32, 3)
            yield Rendered(frames=rng.integers(0, 256, shape, dtype=np.uint8))


def first_life():
    return "SLURM_JOB_ID" in os.environ and "SLURM_RESTART_COUNT" not in os.environ
'''


@pytest.fixture(scope="module")
def slurm():
    """Yield the environment in which ``sbatch`` reaches a Slurm."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_") or k == "SLURM_CONF"}
    if _answers(kept):
        yield kept
        return
    tool = os.environ.get("W2V_SLURM_LOCAL")
    beside = REPO.parent / "shared" / "tools" / "slurm-local"
    if not tool and not (beside.is_file() and shutil.which("slurmctld", path=_sbin(kept))):
        pytest.skip("no Slurm answers, and none can be started")
    tool = tool or str(beside)
    # Short, because sockets lie in it; and open, because munge insists.
    home = Path(tempfile.mkdtemp(prefix="w2v-"))
    home.chmod(0o755)
    told = {**kept, "SLURM_LOCAL_CPUS": "4", "SLURM_LOCAL_KILLWAIT": "2"}
    try:
        up = subprocess.run([tool, "up", home], env=told, capture_output=True, text=True)
        if up.returncode:
            pytest.skip(f"no Slurm could be started: {up.stderr.strip()[-300:]}")
        (line,) = up.stdout.splitlines()
        yield kept | {"SLURM_CONF": line.removeprefix("export SLURM_CONF=")}
    finally:
        subprocess.run([tool, "down", home], env=told, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


def _sbin(environment):
    return environment.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"


def _answers(environment):
    if not shutil.which("sbatch"):
        return False
    return subprocess.run(["squeue"], env=environment, capture_output=True).returncode == 0


class Cluster:
    """A folder with a teacher of noise, and ways to send its scenes through the recipes."""

    def __init__(self, folder, environment):
        self.folder = folder
        self.end = time.monotonic() + PATIENCE
        (folder / "d").mkdir()
        (folder / "noise.py").write_text(TEACHER)
        (folder / "bin").mkdir()
        command = shlex.join([sys.executable, "-m", "w2v", "--plugin", str(folder / "noise.py")])
        (folder / "bin" / "w2v").write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (folder / "bin" / "w2v").chmod(0o755)
        self.environment = environment | {
            "PATH": f"{folder / 'bin'}:{environment['PATH']}",
            "PYTHONPATH": str(REPO),
            "W2V_PLUGINS": "",
        }

    def run(self, *command, **variables):
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self.folder,
            env=self.environment | variables,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, **variables):
        """Send an array of three and the job that merges it; return their ids."""
        sbatch = ["sbatch", "--parsable", "--time=10", "--output=d/%x.%A_%a.log"]
        task = ["--array=0-2", RECIPES / "array.sbatch", *RENDER]
        array = self.run(*sbatch, *task, **variables).strip()
        after = [f"--dependency=afterok:{array}", "--kill-on-invalid-dep=yes"]
        merge = [RECIPES / "merge.sbatch", "d/clips.jsonl", *RENDER]
        return array, self.run(*sbatch, *after, *merge).strip()

    def states(self, *jobs):
        """Return {task: state} of these jobs; those that ended long ago may be missing."""
        told = self.run("squeue", "--noheader", "--array", "--states=all", "--format=%i %T")
        pairs = [line.split() for line in told.splitlines()]
        return {name: state for name, state in pairs if name.split("_")[0] in jobs}

    def wait(self, *jobs):
        """Wait until none of these jobs runs or waits any more; return the states at the end."""
        while _GOING & set((states := self.states(*jobs)).values()):
            self._rest()
        return states

    def wait_until(self, true):
        while not true():
            self._rest()

    def _rest(self):
        """Wait a moment; fail the test where there were too many."""
        assert time.monotonic() < self.end, f"not within {PATIENCE} s"
        time.sleep(0.2)

    def logs(self):
        return "\n".join(p.read_text() for p in sorted((self.folder / "d").glob("*.log")))


@pytest.fixture
def cluster(slurm, tmp_path):
    return Cluster(tmp_path, slurm)


@pytest.fixture(scope="module")
def plain(slurm, tmp_path_factory):
    """Return the lines of one process, outside of Slurm."""
    alone = Cluster(tmp_path_factory.mktemp("plain"), slurm)
    lines = alone.run("w2v", *RENDER)
    assert lines.count("\n") > SCENES
    return lines


def test_an_array_and_its_merge_print_what_one_process_prints(cluster, plain):
    jobs = cluster.submit()
    ended = cluster.wait(*jobs)
    assert set(ended.values()) <= {"COMPLETED"}, cluster.logs()
    assert (cluster.folder / "d" / "clips.jsonl").read_text() == plain
    told = json.loads((cluster.folder / "d" / "clips.summary.json").read_text())
    assert (told["in"], told["out"], told["failed"]) == (SCENES, plain.count("\n"), {})


def test_a_task_that_is_told_to_stop_comes_back_and_goes_on(cluster, plain):
    stalled = cluster.folder / "stalled"
    array, merged = cluster.submit(STALL="noise-2", STALLED=str(stalled))
    cluster.wait_until(stalled.exists)
    # The last task bears the id of the array: a careless signal or requeue hits its siblings.
    cluster.wait_until(lambda: "PENDING" not in cluster.states(array).values())
    cluster.run("scancel", "--batch", "--signal=TERM", f"{array}_2")
    ended = cluster.wait(array, merged)
    assert set(ended.values()) <= {"COMPLETED"}, cluster.logs()
    for task, restarts in enumerate((0, 0, 1)):
        told = cluster.run("scontrol", "show", "job", f"{array}_{task}")
        assert f"Restarts={restarts}" in told
    assert (cluster.folder / "d" / "clips.jsonl").read_text() == plain


def test_a_cancelled_task_stays_away_and_what_waits_for_it_goes(cluster):
    stalled = cluster.folder / "stalled"
    array, merged = cluster.submit(STALL="noise-2", STALLED=str(stalled))
    cluster.wait_until(stalled.exists)
    cluster.run("scancel", f"{array}_2")
    ended = cluster.wait(array, merged)
    assert ended[f"{array}_2"] == "CANCELLED"
    assert ended[merged] == "CANCELLED"
    assert not (cluster.folder / "d" / "clips.jsonl").exists()


def test_a_task_that_fails_takes_what_waits_for_it_along(cluster):
    array, merged = cluster.submit(CRASH="noise-1")
    ended = cluster.wait(array, merged)
    assert ended[f"{array}_1"] == "FAILED"
    assert ended[merged] == "CANCELLED"
    assert not (cluster.folder / "d" / "clips.jsonl").exists()
