"""Hold every question of a simulated set against the simulator's truth.

    python tests/audit_labels.py QUESTIONS.jsonl --root DIR

What is true is read off the poses in ``traj.json``, the masks, the ids of things, and rays cast
into the same room; what is said, off the words of the question. None of w2v's own code for moves,
boxes, wording, geometry, detectors, tasks or checks is used, so that a fault in it shows. Ends
with exit 1 where anything disagrees.
"""

import argparse
import collections
import functools
import json
import math
import pathlib
import re
import sys

import numpy as np
from PIL import Image

HALF_STEP = 0.5 + 1e-6
"""A box in whole units of the grid 0..1000 lies this near to the mask's, in units."""
GONE = 0.35
"""Visible share below which a thing counts as gone: the middle of the band 0.1 to 0.6 in which
nothing is asked. A right label is 0.25 away from it, five times what 4000 rays can be off."""
LIKE = 0.5
"""Boxes of a choice, or of two things, that overlap more than this (IoU) look alike."""
RAYS = 4000
SAME = 0.999
"""Least share of pixels in which cast rays and the stored mask agree."""
STRIDE = 3


# ── what is true ──────────────────────────────────────────────────────────────────────────────


class Clip:
    """The raw truth in a bundle about its first and last frame."""

    def __init__(self, folder):
        self.folder = folder
        told = json.loads((folder / "traj.json").read_text())
        frames = told["transforms"]["frames"]
        ends = frames[0], frames[-1]
        self.files = [f["file_path"] for f in ends]
        self.size = ends[0]["width"], ends[0]["height"]
        self.camera = tuple(ends[0][k] for k in ("fx", "fy", "cx", "cy"))
        self.poses = [np.array(f["c2w"], dtype=float) for f in ends]
        self.pose = np.linalg.inv(self.poses[0]) @ self.poses[1]
        self.labels = {t["id"]: t["label"] for t in told["meta"]["things"]}
        self.told = told["meta"]

    @functools.cached_property
    def masks(self):
        return [self._read("samples-mask", name) for name in self.files]

    @functools.cached_property
    def depths(self):
        return [self._read("samples-depth", name) / 1000 for name in self.files]

    def _read(self, part, name):
        return np.array(Image.open(self.folder / part / pathlib.Path(name).name))

    def outline(self, frame, thing):
        """Return the tight box of a thing on the grid 0..1000, not rounded; None if unseen."""
        rows, columns = np.nonzero(self.masks[frame] == thing)
        if not len(rows):
            return None
        across, down = 1000 / self.size[0], 1000 / self.size[1]
        left, right = columns.min() * across, (columns.max() + 1) * across
        return left, rows.min() * down, right, (rows.max() + 1) * down

    def at(self, frame, box):
        """Return the ids of the things whose outline a grid box is."""
        found = set()
        for thing in map(int, np.unique(self.masks[frame])):
            if thing and near(box, self.outline(frame, thing)):
                found.add(thing)
        return found


class Room:
    """The room that a scene was rendered in, as triangles to cast rays at."""

    def __init__(self, teacher, scene):
        from w2v.teachers.sim.mesh import Tracer
        from w2v.teachers.sim.teacher import SimTeacher, Stage

        options = dict(o.split("=") for o in filter(None, teacher.partition(":")[2].split(",")))
        angle = float(options.get("field_of_view", 75))
        seed, number = re.fullmatch(r"sim-(\d+)-(\d+)", scene).groups()
        maker = SimTeacher(angle, "fast", options.get("rooms", "all"))
        *_, made = maker.scenes(int(number) + 1, int(seed))
        stage = Stage(made.meta["seed"], made.meta["room"], angle, "fast")
        self.start, self.mesh = stage.pose, stage.world.mesh
        self.labels = {t.id: t.label for t in stage.world.things}
        self._tracer, self._make = Tracer(self.mesh.corners), Tracer
        self._alone = {}

    def look(self, clip, frame):
        """Return the shares of pixels that agree with the stored mask and depth, by casting."""
        fx, fy, cx, cy = clip.camera
        rows, columns = (np.arange(STRIDE // 2, n, STRIDE) for n in clip.size[::-1])
        x, y = np.meshgrid((columns + 0.5 - cx) / fx, (rows + 0.5 - cy) / fy)
        way = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3)
        forward = 1 / np.linalg.norm(way, axis=1)
        thing, distance = self._cast(clip, frame, way * forward[:, None])
        part = np.ix_(rows, columns)
        close = np.abs(distance * forward - clip.depths[frame][part].ravel()) < 0.002
        known = clip.depths[frame][part].ravel() > 0
        same = thing == clip.masks[frame][part].ravel()
        return same.mean(), close[known].mean()

    def share(self, clip, frame, thing):
        """Return how much of a thing is seen, of what would be if it stood alone, all round."""
        fx, fy, cx, cy = clip.camera
        world = self.start @ clip.poses[frame]
        way = self._towards(clip, frame, thing)
        turned = way @ world[:3, :3].T
        eye = np.broadcast_to(world[:3, 3], way.shape)
        if thing not in self._alone:
            self._alone[thing] = self._make(self.mesh.corners[self.mesh.thing == thing])
        alone = self._alone[thing].closest(eye, turned).face >= 0
        assert alone.sum() >= RAYS / 100, f"too few rays meet thing {thing}"
        ahead = way[:, 2] > 1e-9
        z = np.where(ahead, way[:, 2], 1)
        u, v = way[:, 0] / z * fx + cx, way[:, 1] / z * fy + cy
        framed = ahead & (u >= 0) & (v >= 0) & (u < clip.size[0]) & (v < clip.size[1])
        first = self._cast(clip, frame, way)[0]
        return float((alone & framed & (first == thing)).sum() / alone.sum())

    def _cast(self, clip, frame, way):
        """Return what unit directions in camera axes meet first: ids, and distances."""
        world = self.start @ clip.poses[frame]
        turned = way @ world[:3, :3].T
        hits = self._tracer.closest(np.broadcast_to(world[:3, 3], way.shape), turned)
        return np.where(hits.face >= 0, self.mesh.thing[hits.face], 0), hits.distance

    def _towards(self, clip, frame, thing):
        """Return directions in camera axes, spread evenly over a cone that holds the thing."""
        world = self.start @ clip.poses[frame]
        corners = self.mesh.corners[self.mesh.thing == thing].reshape(-1, 3)
        seen = (corners - world[:3, 3]) @ world[:3, :3]
        seen = seen / np.linalg.norm(seen, axis=1)[:, None]
        axis = seen.mean(0) / np.linalg.norm(seen.mean(0))
        # The edges between corners bulge a little out of the cone of the corners.
        least = math.cos(min(math.pi, 1.1 * math.acos(np.clip((seen @ axis).min(), -1, 1)) + 0.01))
        k = np.arange(RAYS) + 0.5
        height, round_ = 1 - (1 - least) * k / RAYS, k * math.pi * (3 - math.sqrt(5))
        side = np.cross(axis, [1, 0, 0] if abs(axis[0]) < 0.7 else [0, 1, 0])
        side /= np.linalg.norm(side)
        out = np.sqrt(1 - height**2)[:, None]
        across = np.cos(round_)[:, None] * side + np.sin(round_)[:, None] * np.cross(axis, side)
        return height[:, None] * axis + out * across


def near(box, truth):
    """Return whether a box in whole grid units is that box, rounded."""
    return truth is not None and max(abs(a - b) for a, b in zip(box, truth, strict=True)) <= (
        HALF_STEP
    )


def overlap(one, two):
    """Return intersection over union of two boxes."""
    wide = max(0, min(one[2], two[2]) - max(one[0], two[0]))
    high = max(0, min(one[3], two[3]) - max(one[1], two[1]))
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, two)]
    return wide * high / (sum(areas) - wide * high)


# ── what is said ──────────────────────────────────────────────────────────────────────────────

MOVE = re.compile(r"(move|turn) (forward|backward|left|right) (\d+(?:\.\d+)?) (meters|degrees)")
BOX = re.compile(r"\[(\d+), (\d+), (\d+), (\d+)\]")
NOUNS = {
    "D1": [r"picture the (.+?) is at \[", r"image, the (.+?) is at bbox"],
    "D2": [r"shows the (.+?)\. Now", r"image, the (.+?) is at bbox"],
    "D3": [r"^The (.+?) at \[", r"^The (.+?) in the first image"],
    "D4": [r"is one (.+?) at \[", r"image, the (.+?) is at bbox"],
}
SAYINGS = {
    "A4": [
        {"true", "The claim is true", "That is what the camera did."},
        {"false", "The claim is false", "That is not what the camera did."},
    ],
    "D2": [
        {"yes", "It disappears from view", "The {} disappears from view."},
        {"no", "It remains visible", "The {} remains visible."},
    ],
    "D4": [
        {"yes", "The same object", "The two boxes show the same {}."},
        {"no", "A different object", "The two boxes show a different {} each."},
    ],
}


def moves_in(text):
    """Return (verb, way, amount) of each move in a text."""
    return [(verb, way, float(amount)) for verb, way, amount, _ in MOVE.findall(text)]


def boxes_in(text):
    """Return every box in a text as four integers."""
    return [tuple(map(int, found)) for found in BOX.findall(text)]


def leads_to(moves, pose):
    """Return whether moves, each known to 0.1 m or 1 degree, may lead to a (4, 4) pose.

    Half a unit of the last place is lost per move; a turn that is off swings what comes after it.
    """
    x = z = yaw = slack = turned = 0.0
    for verb, way, amount in moves:
        if verb == "turn":
            yaw += amount if way == "right" else -amount
            turned += 0.5
            continue
        along = {"forward": 0, "right": 90, "backward": 180, "left": 270}[way] + yaw
        x += amount * math.sin(math.radians(along))
        z += amount * math.cos(math.radians(along))
        slack += 0.05 + amount * math.radians(turned)
    rotation = pose[:3, :3]
    about = math.degrees(math.atan2(rotation[0, 2], rotation[2, 2]))
    level = abs(rotation[1, 1] - 1) < 1e-6 and abs(pose[1, 3]) < 1e-6
    off = math.dist((x, z), (pose[0, 3], pose[2, 3]))
    return level and off <= slack + 1e-6 and abs((about - yaw + 180) % 360 - 180) <= turned + 1e-4


class Said:
    """A question and its answer, read from its words alone."""

    def __init__(self, row):
        self.row, self.task, self.form = row, row["task_type"], row["form"]
        user, assistant = row["messages"]
        self.words = user["content"].replace("<image>", "")
        # What stands after the question proper: options, and how to answer.
        self.stem = self.words.partition("\nA. ")[0]
        assert assistant["content"] == row["answer"], "answer differs from the assistant's turn"
        assert user["content"].count("<image>") == len(row["images"]), "tags do not match pictures"

    @property
    def options(self):
        """The texts of the options as the prompt lists them."""
        return re.findall(r"^[A-H]\. (.*)$", self.words, re.MULTILINE)

    @property
    def answer(self):
        """The answer in words: for a choice, the text behind the letter."""
        if self.form != "choice":
            return self.row["answer"]
        assert re.fullmatch("[A-H]", self.row["answer"]), "not a letter"
        return self.options["ABCDEFGH".index(self.row["answer"])]

    @property
    def others(self):
        """The other options; none unless it is a choice."""
        return [text for text in self.options if text != self.answer]

    @property
    def noun(self):
        """What the object is called in the question."""
        found = [m[1] for p in NOUNS[self.task] if (m := re.search(p, self.stem))]
        assert len(found) == 1, f"no object named in {self.stem!r}"
        return found[0]

    @property
    def claim(self):
        """The moves quoted in the question."""
        return moves_in(re.search(r'"(.+?)"', self.stem)[1])

    @property
    def truth(self):
        """What the answer to a yes-or-no question states."""
        spoken = [{text.format(n) for text in side for n in self._nouns} for side in self._sides]
        sides = [self.answer in side for side in spoken]
        assert sum(sides) == 1, f"{self.answer!r} is not an answer to {self.task}"
        return sides[0]

    @property
    def _sides(self):
        return SAYINGS[self.task]

    @property
    def _nouns(self):
        return ("",) if self.task == "A4" else (self.noun, "object")


# ── one against the other ─────────────────────────────────────────────────────────────────────


def which_moves(said, clip, room):
    """A1, A2, A3, D3: the moves that are named lead to the last pose, no other option does."""
    moves = moves_in(said.answer)
    number, verbs = len(moves), {verb for verb, _, _ in moves}
    fits = {
        "A1": number == 1 and verbs == {"move"},
        "A2": number == 1 and verbs == {"turn"},
        "A3": 2 <= number <= 3,
        "D3": 1 <= number <= 2,
    }
    assert fits[said.task], f"{number} moves do not suit {said.task}"
    assert leads_to(moves, clip.pose), "the moves do not lead to the last pose"
    for other in said.others:
        assert not leads_to(moves_in(other), clip.pose), f"option {other!r} is right too"
    if said.task == "D3":
        one, two = boxes_in(said.stem)[:2]
        assert clip.at(0, one) & clip.at(1, two) & named(said, clip), "boxes of different things"


def claim(said, clip, room):
    """A4: a claim is true where it leads to the last pose."""
    assert leads_to(said.claim, clip.pose) is said.truth, "the claim is labelled wrongly"


def where_to(said, clip, room):
    """D1: the boxes are those of the thing's masks, no other option is."""
    stated(said, clip)
    (start,), (box,) = boxes_in(said.stem)[:1], boxes_in(said.answer)
    track = said.row["evidence"]["track"]
    assert track in clip.at(0, start) & named(said, clip), "the first box is not the thing's"
    truth = clip.outline(1, track)
    assert near(box, truth), f"the mask's box is {truth}"
    for other in said.others:
        assert overlap(boxes_in(other)[0], truth) <= LIKE + 0.02, f"option {other} fits too"


def is_gone(said, clip, room):
    """D2: gone where less than the middle of the dead band is seen."""
    stated(said, clip)
    track = said.row["evidence"]["track"]
    seen = {int(i) for i in np.unique(clip.masks[0]) if clip.labels.get(int(i)) == said.noun}
    if boxes := boxes_in(said.stem):
        assert track in clip.at(0, boxes[0]) & named(said, clip), "the box is not the thing's"
    else:
        assert seen == {track}, f"{said.noun!r} may be any of {sorted(seen)}"
    assert track in seen, "the thing is not in the picture"
    share = room.share(clip, 1, track)
    assert (share < GONE) is said.truth, f"{share:.0%} of it is seen"
    margins.append((said.truth, share))


def is_same(said, clip, room):
    """D4: the same where one thing fills both boxes."""
    if '"' in said.stem:
        stated(said, clip)
    one, two = boxes_in(said.stem)[:2]
    first, last = (clip.at(k, box) & named(said, clip) for k, box in enumerate((one, two)))
    assert first and last, f"a box is around no {said.noun}"
    assert bool(first & last) is said.truth, f"things {first} and {last}"
    if not said.truth and (own := clip.outline(1, first.pop())):
        assert overlap(two, own) <= LIKE + 0.02, "the two things look alike"


def named(said, clip):
    """Return the ids of the things that are called as in the question."""
    return {thing for thing, label in clip.labels.items() if label == said.noun}


def stated(said, clip):
    """Hold the moves that a question states as fact against the last pose."""
    assert leads_to(said.claim, clip.pose), "the moves in the question do not lead to the pose"


JUDGES = dict.fromkeys(("A1", "A2", "A3", "D3"), which_moves) | {
    "A4": claim,
    "D1": where_to,
    "D2": is_gone,
    "D4": is_same,
}
margins = []
"""(truth, visible share) of every D2."""


class Audit:
    """Counts, per task, the questions that the truth agrees with."""

    def __init__(self, root):
        self.root = root
        self.agreed, self.wrong = collections.Counter(), collections.Counter()
        self.faults = []
        self._clips, self._rooms = {}, collections.OrderedDict()

    def judge(self, row):
        """Hold one question against the truth."""
        task = row["task_type"]
        try:
            clip, room = self._find(row)
            expected = [f"{row['bundle']}/{name}" for name in clip.files]
            assert row["images"] == expected[: len(row["images"])], "shows other pictures"
            assert len(row["images"]) == (1 if task == "D2" else 2), "shows too few pictures"
            JUDGES[task](Said(row), clip, room)
        except (AssertionError, ValueError, IndexError, TypeError) as error:
            self._count(task, f"{row['id']}: {error}; answer {row['answer']!r}")
        else:
            self._count(task)

    def _count(self, task, fault=""):
        self.agreed[task] += not fault
        self.wrong[task] += bool(fault)
        if fault:
            self.faults.append(f"{task} {fault}")

    def _find(self, row):
        """Return a question's clip and room; a clip that is met first is looked at as a whole."""
        name = row["bundle"]
        if name not in self._clips:
            self._clips[name] = Clip(self.root / name)
            self._look(name, self._clips[name])
        clip = self._clips[name]
        return clip, self._room(clip)

    def _room(self, clip):
        key = clip.told["teacher"], clip.told["scene"]
        if key not in self._rooms:
            self._rooms.clear()  # questions come scene by scene
            self._rooms[key] = Room(*key)
        return self._rooms[key]

    def _look(self, name, clip):
        """Hold the stored masks, depths and labels against rays cast from the stored poses."""
        room = self._room(clip)
        looks = [room.look(clip, frame) for frame in (0, 1)]
        right = room.labels == clip.labels and min(map(min, looks)) >= SAME
        self._count("clips", "" if right else f"{name}: pixels agree to {looks}")

    def table(self):
        """Return one line per task."""
        lines = [f"{'':8}{'n':>6}{'agreed':>8}{'disagreed':>11}"]
        for task in ("clips", *sorted(JUDGES)):
            good, bad = self.agreed[task], self.wrong[task]
            lines.append(f"{task:8}{good + bad:>6}{good:>8}{bad:>11}")
        return lines


def main():
    """Audit a file; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("questions", type=pathlib.Path)
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path("."))
    given = parser.parse_args()
    audit = Audit(given.root)
    with open(given.questions, encoding="utf-8") as lines:
        for line in lines:
            audit.judge(json.loads(line))
    print("\n".join([*audit.table(), *audit.faults]))
    for truth, word, pick in ((True, "gone", max), (False, "visible", min)):
        if shares := [share for was, share in margins if was is truth]:
            print(f"D2 {word}: {pick(shares):.1%} seen at the {pick.__name__}")
    return 1 if audit.faults else 0


if __name__ == "__main__":
    sys.exit(main())
