"""Questions that a toy can learn, and the toys: shared by the tests of training."""

import json

from PIL import Image

from w2v import stream
from w2v.records import Message, Question

TURN = "<image><image>Which turn leads from the first picture to the second?"
SAME = "<image><image>Is the brightest picture the second one?"


def question(root, k, **more):
    """Row k: inverse where k is even; which picture is bright decides the answer."""
    bright = (k // 2) % 2
    names = []
    for place in range(2):
        value = 200 + k % 40 if bright == place else 40 + k % 40
        name = f"{k}-{place}.png"
        Image.new("RGB", (84, 56), (value, value, value)).save(root / name)
        names.append(name)
    if k % 2:
        task, text, answer = "D4", SAME, "yes" if bright else "no"
    else:
        task, text = "A2", TURN
        answer = f"turn {'left' if bright else 'right'} 30 degrees"
    made = dict(
        id=f"q{k}",
        task_type=task,
        messages=(Message(role="user", content=text), Message(role="assistant", content=answer)),
        images=tuple(names),
        answer=answer,
        direction="forward" if k % 2 else "inverse",
        scene=f"s{k // 4}",
        source="simulated" if k % 8 < 4 else "real",
        teacher="sim",
        licences=("MIT",),
    )
    return Question(**{**made, **more})


def write(path, questions):
    """Write questions as a file beside their pictures."""
    path.write_text("".join(stream.line(q) for q in questions))
    return path


def metrics(folder, key):
    """Return every logged value of a figure; each must be a finite number."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = [row[key] for row in rows if key in row]
    assert all(isinstance(value, int | float) for value in found), (key, found)
    return found
