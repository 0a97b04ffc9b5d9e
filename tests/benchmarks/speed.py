"""How fast the light stages are, as ratios to the least work there is, measured in one run.

    python tests/benchmarks/speed.py [help tree score sim memory]

Each pair is timed in turn, A B A B, and the ratio of the medians is given: machines are shared and
drift. Prints a table, and the same as one line of JSON.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

BARE = """
import click, pluggy
pluggy.PluginManager("bare")
@click.group()
def cli(): "Bare."
cli(["--help"])
"""
READ_IN_PROCESS = """
import os, sys, time
import orjson
from pathlib import Path
tree = sys.argv[1]
files = [f"{d}/{n}" for d, _, names in os.walk(tree) for n in sorted(names)]
best = 9e9
for _ in range(5):
    start = time.perf_counter()
    for name in files:
        with open(name, "rb") as file:
            if name.endswith("l"):
                for line in file:
                    orjson.loads(line)
            else:
                orjson.loads(file.read())
    best = min(best, time.perf_counter() - start)
print(best)
"""


def clock(command, **options):
    """Return the wall seconds of one run of a command."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **options)
    return time.perf_counter() - start


def pair(ours, bare, rounds=7):
    """Return median seconds of two commands run in turn, and their ratio."""
    clock(ours), clock(bare)
    times = [(clock(ours), clock(bare)) for _ in range(rounds)]
    a, b = (statistics.median(t) for t in zip(*times, strict=True))
    return {"seconds": round(a, 4), "bare": round(b, 4), "ratio": round(a / b, 2)}


def w2v(*arguments):
    return [sys.executable, "-m", "w2v", *map(str, arguments)]


def measure_help():
    """``w2v --help`` against a bare click group beside pluggy."""
    yield "help / click + pluggy", pair(w2v("--help"), [sys.executable, "-c", BARE], 15)


def measure_tree():
    """build-tasks on 2,700 annotated bundles against reading the same files with orjson.

    Start-up is taken off both, by timing an empty run of each.
    """
    import trees

    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        number = trees.make(tree, 300)
        empty = Path(folder) / "empty" / "scenes"
        empty.mkdir(parents=True)
        for name, extra in (("w2v", ()), ("compat", ("--compat", "world2vlm"))):
            full = w2v("build-tasks", tree, "--root", folder, "-q", *extra)
            none = w2v("build-tasks", empty.parent, "--root", folder, "-q", *extra)
            times = []
            for _ in range(5):
                read = subprocess.run(
                    [sys.executable, "-c", READ_IN_PROCESS, tree], capture_output=True, text=True
                )
                times.append((clock(full) - clock(none), float(read.stdout)))
            ours, bare = (min(t) for t in zip(*times, strict=True))
            yield (
                f"build-tasks {name}, {number} bundles / orjson",
                {"seconds": round(ours, 4), "bare": round(bare, 4), "ratio": round(ours / bare, 2)},
            )


def measure_score():
    """Grading against parsing and writing the same lines."""
    import orjson

    from w2v.rewards.robust import robust
    from w2v.rewards.rows import grade_row
    from w2v.rewards.world2vlm import world2vlm

    rows = [
        {"task_type": "A1", "answer": f"move forward {k % 50 / 10 + 0.1:.1f} meters"}
        | {"response": f"move forward {k % 37 / 10 + 0.2:.1f} meters"}
        for k in range(20_000)
    ]
    lines = [orjson.dumps(row) for row in rows]
    for name, reward in (("world2vlm", world2vlm()), ("robust", robust())):
        times = []
        for _ in range(5):
            start = time.process_time()
            for line in lines:
                orjson.dumps(grade_row(orjson.loads(line), reward))
            graded = time.process_time()
            for line in lines:
                orjson.dumps(orjson.loads(line))
            times.append((graded - start, time.process_time() - graded))
        ours, bare = (min(t) for t in zip(*times, strict=True))
        yield (
            f"score {name} / parse and write",
            {
                "seconds": round(ours, 4),
                "bare": round(bare, 4),
                "ratio": round(ours / bare, 2),
                "rows a second": round(len(lines) / ours),
            },
        )


def measure_sim():
    """A simulated frame at 256x256 against casting its camera rays alone, on one core."""
    from w2v.geometry import assumed
    from w2v.teachers.sim.teacher import SimTeacher, bare_cast

    camera = assumed(256, 256, 75.0)
    for quality in ("fast", "full"):
        teacher = SimTeacher(75.0, quality, "all")
        times = []
        for scene in teacher.scenes(3, 0):
            stage = teacher._prepared(scene)
            stage.renderer.picture(camera, stage.pose)
            start = time.process_time()
            stage.renderer.picture(camera, stage.pose)
            drawn = time.process_time()
            bare_cast(stage, camera, stage.pose)
            times.append((drawn - start, time.process_time() - drawn))
        ours, bare = (statistics.median(t) for t in zip(*times, strict=True))
        yield (
            f"sim frame, {quality} / bare rays",
            {
                "seconds": round(ours, 4),
                "bare": round(bare, 4),
                "ratio": round(ours / bare, 1),
                "frames a second and core": round(1 / ours, 1),
            },
        )


def measure_memory():
    """Greatest resident memory of build-tasks on 1,000 and on 100,000 clips, in MiB."""
    from dataclasses import replace

    from w2v.stream import line
    from w2v.testing import example_clips

    clips = example_clips()[:5]
    peaks = []
    for number in (1_000, 100_000):
        process = subprocess.Popen(
            [sys.executable, "-c", MEASURED, *w2v("build-tasks", "-", "-q")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for k in range(number // len(clips)):
            for n, clip in enumerate(clips):
                process.stdin.write(line(replace(clip, id=f"s{k}/{n}", scene=f"s{k}")))
        process.stdin.close()
        peaks.append(float(process.stderr.read().split()[-1]))
        process.wait()
    yield (
        "memory at 100,000 clips / at 1,000",
        {"MiB": peaks[1], "bare": peaks[0], "ratio": round(peaks[1] / peaks[0], 2)},
    )


MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, 1), file=sys.stderr)
"""

MEASURES = {
    "help": measure_help,
    "tree": measure_tree,
    "score": measure_score,
    "sim": measure_sim,
    "memory": measure_memory,
}


def main():
    told = {}
    for name in sys.argv[1:] or MEASURES:
        for title, figures in MEASURES[name]():
            told[title] = figures
            print(f"{title:<48}", "  ".join(f"{k} {v}" for k, v in figures.items()), flush=True)
    print(json.dumps(told))
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB", file=sys.stderr)


if __name__ == "__main__":
    main()
