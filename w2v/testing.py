"""Contracts that every plugin must meet. Import these in a plugin's own tests.

Each ``check_…`` takes what a user would type (``NAME`` or ``NAME:KEY=VALUE``) and raises
``BrokenContract`` with a sentence that says what is wrong. ``w2v plugins check NAME`` runs them.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from w2v import motion
from w2v.errors import CheckFailed
from w2v.kinds import Benchmark, Grade, Outcome, Problem, Verdict
from w2v.plugins import parse_spec
from w2v.records import Answer, Box, Clip, Gold, Intrinsics, Message, Move, Question, Scene

HEAVY = ("torch", "transformers", "trl", "diffusers", "numpy", "PIL", "cv2", "sklearn")

MOVES = (Move(verb="move right", amount=0.5), Move(verb="turn left", amount=20.0))
CAMERA = Intrinsics(width=96, height=72, fx=80.0, fy=80.0, cx=48.0, cy=36.0)


class BrokenContract(CheckFailed):
    """A plugin does not do what its kind must do."""


def _hold(truth: bool, wrong: str) -> None:
    if not truth:
        raise BrokenContract(wrong, "docs/hooks.md has the contract of each kind")


def check(kind: str, typed: str) -> Iterator[str]:
    """Hold one offer against its contract; yield a sentence for each part that it keeps."""
    yield check_offer(kind, typed)
    known = {
        "teacher": check_teacher,
        "detector": check_detector,
        "task": check_task,
        "check": check_check,
        "reward": check_reward,
        "student": check_student,
        "benchmark": check_benchmark,
    }
    if kind in known:
        yield known[kind](typed)


def check_offer(kind: str, typed: str) -> str:
    """An offer has a help line and a licence, and listing it imports nothing heavy."""
    spec = parse_spec(kind, typed)
    _hold(bool((spec.offer.make.__doc__ or "").strip()), f"{spec.name}: factory has no docstring")
    module = spec.offer.make.__module__
    check_light(module)
    return f"the factory has a help line, and importing {module} is light"


def check_light(module: str) -> None:
    """Importing a plugin's manifest must not import anything heavy."""
    code = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if "ModuleNotFoundError" in done.stderr:  # a loose file has no importable name
        return
    _hold(done.returncode == 0, f"importing {module} fails: {done.stderr.strip()[-200:]}")
    _hold(not done.stdout.split(), f"importing {module} imports {done.stdout.strip()}")


def check_teacher(typed: str) -> str:
    """A teacher yields one result per path, in order, with one uint8 RGB frame per pose.

    The same scene and path give the same pixels whatever is rendered beside them.
    """
    import numpy as np

    from w2v import geometry
    from w2v.kinds import (
        Anchor,
        CameraPath,
        CompletesAnchor,
        GivesTrajectories,
        MakesScenes,
        Refused,
    )

    teacher = parse_spec("teacher", typed).make()
    scene, camera = Scene(id="contract", image="anchor.png", intrinsics=CAMERA), CAMERA
    image: Any = np.random.default_rng(0).integers(0, 255, (72, 96, 3), dtype=np.uint8)
    depth: Any = np.full((72, 96), 3.0, np.float32)
    if isinstance(teacher, MakesScenes):
        scene = next(iter(teacher.scenes(1, 0)))
        again = next(iter(teacher.scenes(2, 0)))
        _hold(scene == again, "scene 0 changes with the number of scenes asked for")
        camera, *_ = geometry.fit(scene.intrinsics or CAMERA, 96, 96)
        image = depth = None
    anchor = Anchor(camera=camera, image=image, depth=depth)
    if isinstance(teacher, CompletesAnchor):
        anchor = teacher.anchor(scene, anchor)
        _hold(anchor.image is not None, "anchor() returned no picture")
    moves = [MOVES[:1], MOVES]
    if isinstance(teacher, GivesTrajectories):
        moves = [m for _, m in teacher.trajectories(scene)][:2]
    paths = [
        CameraPath(poses=geometry.poses(m, [4] * len(m)), moves=tuple(m), seed=7) for m in moves
    ]
    results = list(teacher.render(scene, anchor, paths))
    _hold(len(results) == len(paths), f"{len(paths)} paths but {len(results)} results")
    for made, path in zip(results, paths, strict=True):
        if isinstance(made, Refused):
            _hold(bool(made.reason), "a path was refused without a reason")
            continue
        frames, number = made.frames, len(path.poses)
        _hold(len(frames) == number, f"{number} poses, {len(frames)} frames")
        _hold(len({f.shape for f in frames}) == 1, "frames differ in size")
        shape = (camera.height, camera.width, 3)
        _hold(frames[0].shape == shape, f"frames are {frames[0].shape}, not {shape}")
        _hold(all(f.dtype == np.uint8 for f in frames), "frames are not uint8")
        for name in ("depth", "valid", "masks", "poses"):
            part = getattr(made, name)
            _hold(part is None or len(part) == number, f"{name} has not one entry per pose")
    alone = list(teacher.render(scene, anchor, paths[-1:]))[0]
    if not isinstance(alone, Refused) and not isinstance(results[-1], Refused):
        same = all(
            np.array_equal(a, b) for a, b in zip(alone.frames, results[-1].frames, strict=True)
        )
        _hold(same, "a path comes out differently when it is rendered alone")
    return f"{len(paths)} paths gave {len(paths)} results, repeatable"


class _Footage:
    """Four frames in which one bright square moves to the right."""

    clip = None

    def __init__(self) -> None:
        import numpy as np

        self.frames, self.masks = [], []
        for k in range(4):
            frame = np.full((72, 96, 3), 40, np.uint8)
            mask = np.zeros((72, 96), np.uint16)
            frame[20:50, 10 + 8 * k : 40 + 8 * k] = (220, 60, 50)
            mask[20:50, 10 + 8 * k : 40 + 8 * k] = 1
            self.frames.append(frame)
            self.masks.append(mask)

    @property
    def things(self) -> Any:
        from w2v.kinds import Thing

        return (Thing(id=1, label="box"),)

    @property
    def visible(self) -> Any:
        import numpy as np

        return np.ones((4, 1))


def check_detector(typed: str) -> str:
    """A detector returns boxes in frame order, inside the frame, one per track and frame."""
    detector = parse_spec("detector", typed).make()
    boxes = detector.detect(_Footage())
    _hold(all(isinstance(b, Box) for b in boxes), "detect() must return Box records")
    order = [b.frame for b in boxes]
    _hold(order == sorted(order), "boxes are not in frame order")
    tracks = [(b.frame, b.track) for b in boxes if b.track is not None]
    _hold(len(tracks) == len(set(tracks)), "a track has two boxes in one frame")
    for box in boxes:
        _hold(0 <= box.frame < 4, f"box in frame {box.frame} of 4")
        if box.xyxy is not None:
            x1, y1, x2, y2 = box.xyxy
            inside = 0 <= x1 < x2 <= 96 and 0 <= y1 < y2 <= 72
            _hold(inside, f"box {box.xyxy} is not inside a 96x72 frame")
    return f"{len(boxes)} boxes in four frames, all inside"


def example_clips() -> list[Clip]:
    """Return the clips of one scene, with boxes: single moves both ways and compositions."""
    walks = [
        (Move(verb="move forward", amount=1.2),),
        (Move(verb="move left", amount=0.9),),
        (Move(verb="turn left", amount=32.0),),
        (Move(verb="turn right", amount=55.0),),
        (Move(verb="move forward", amount=1.5), Move(verb="turn right", amount=40.0)),
        (Move(verb="turn left", amount=35.0), Move(verb="move forward", amount=0.8)),
    ]
    boxes = tuple(
        Box(frame=f, track=t, label=label, xyxy=xyxy, visible=1.0 if xyxy else 0.0)
        for f, t, label, xyxy in (
            (0, 1, "chair", (10.0, 20.0, 40.0, 60.0)),
            (0, 2, "chair", (50.0, 22.0, 80.0, 58.0)),
            (0, 3, "sofa", (30.0, 5.0, 60.0, 30.0)),
            (0, 4, "lamp", (4.0, 2.0, 20.0, 18.0)),
            (1, 1, "chair", (14.0, 18.0, 46.0, 62.0)),
            (1, 2, "chair", (56.0, 20.0, 88.0, 60.0)),
            (1, 3, "sofa", None),
            (1, 4, "lamp", (8.0, 3.0, 26.0, 20.0)),
        )
    )
    return [
        Clip(
            id=f"room/{k}",
            scene="room",
            teacher="sim",
            moves=moves,
            bundle=f"d/scenes/room/traj_{k}",
            first=f"d/scenes/room/traj_{k}/samples-rgb/000.png",
            last=f"d/scenes/room/traj_{k}/samples-rgb/001.png",
            last_frame=1,
            intrinsics=CAMERA,
            boxes=boxes,
        )
        for k, moves in enumerate(walks)
    ]


def check_task(typed: str) -> str:
    """A task asks well-formed questions with unique ids, the same ones every time."""
    task, clips = parse_spec("task", typed).make(), example_clips()
    asked = list(task(clips, lambda reason: None))
    _hold(bool(asked), "no question about any of the example clips")
    _hold(asked == list(task(clips, lambda reason: None)), "another run asks other questions")
    _hold(len({q.id for q in asked}) == len(asked), "two questions have one id")
    for q in asked:
        tags = sum(m.content.count("<image>") for m in q.messages)
        _hold(tags == len(q.images), f"{q.id}: {tags} <image> tags, {len(q.images)} images")
        _hold(q.messages[-1].content == q.answer, f"{q.id}: the last turn is not the answer")
        _hold(Question.from_json(json.loads(json.dumps(q.to_json()))) == q, f"{q.id}: not JSON")
    return f"{len(asked)} questions about {len(clips)} clips"


def check_check(typed: str) -> str:
    """A check judges rows and the whole, and passes an empty set."""
    made = parse_spec("check", typed).make()
    verdict = made.whole([])
    _hold(isinstance(verdict, Verdict), "whole() must return a Verdict")
    _hold(not verdict.failures, "an empty set fails")
    row = made.row(Question(id="q", task_type="A1", messages=(), images=(), answer=""))
    _hold(row is None or isinstance(row, Problem), "row() must return a Problem or None")
    return "judges rows and the whole"


def check_reward(typed: str) -> str:
    """A reward gives the right answer 1, a wrong or empty one less, and never raises."""
    reward = parse_spec("reward", typed).make()
    answers = {
        "A1": ("move forward 1.5 meters", "move backward 1.5 meters"),
        "A2": ("turn left 40 degrees", "turn right 40 degrees"),
        "A3": (motion.say(MOVES), motion.say(MOVES[::-1])),
        "A4": ("true", "false"),
        "D1": ("[100, 200, 400, 600]", "[500, 100, 900, 300]"),
        "D2": ("yes", "no"),
        "D3": (motion.say(MOVES), motion.say(MOVES[:1])),
        "D4": ("no", "yes"),
    }
    graded = 0
    for task, (right, wrong) in answers.items():
        gold = Gold(task, right, "plain")
        full = reward(gold, right)
        if full is None:
            continue
        graded += 1
        _hold(full.score == 1.0, f"{task}: the right answer earns {full.score}")
        for said in (wrong, "", "\0", "9" * 5000):
            grade = reward(gold, said)
            _hold(grade is not None and grade.score < 1.0, f"{task}: {said[:20]!r} earns 1")
    _hold(graded > 0, "grades none of the eight tasks")
    return f"grades {graded} of the eight tasks"


def check_student(typed: str) -> str:
    """A student gives one text per question, in order, whatever company a question is in.

    It must be greedy for this: what is asked twice is answered alike.
    """
    import tempfile

    from w2v.students.resolve import student

    made = student(typed)
    with tempfile.TemporaryDirectory() as folder:
        question = example_question(Path(folder))
        shown = tuple(str(Path(folder) / name) for name in question.images)
        pair = dataclasses.replace(question, images=shown)
        back = dataclasses.replace(pair, id="room/1/A2", images=shown[::-1])
        together = made.answer([pair, back, pair])
        _hold(len(together) == 3, f"3 questions, {len(together)} responses")
        _hold(all(isinstance(said, str) for said in together), "a response is not a text")
        _hold(together[0] == together[2], "one question got two responses")
        _hold(made.answer([back]) == together[1:2], "a response depends on what is asked beside it")
        _hold(made.answer([]) == [], "no questions, but responses")
    return "answers two pictures, alone and in company alike"


def check_benchmark(typed: str) -> str:
    """A benchmark asks the same every time, pays the right answer in full, and reads any text.

    One that takes a file (``path``) and is not given one gets the eight tasks about the example
    clips.
    """
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        benchmark = _benchmark(typed, Path(folder) / "questions.jsonl")
        _hold(isinstance(benchmark.version, str) and benchmark.version != "", "has no version")
        asked = list(benchmark.questions())
        _hold(bool(asked), "no questions")
        only = all(isinstance(q, Question) for q in asked)
        _hold(only, "questions() must yield Question records")
        _hold(asked == list(benchmark.questions()), "another time it asks other questions")
        _hold(len({q.id for q in asked}) == len(asked), "two questions have one id")
        for q in asked:
            tags = sum(m.content.count("<image>") for m in q.messages)
            _hold(tags == len(q.images), f"{q.id}: {tags} <image> tags, {len(q.images)} images")
        groups = {_grade(benchmark, question) for question in asked}
    return f"{len(asked)} questions in {len(groups)} groups"


def _benchmark(typed: str, file: Path) -> Benchmark:
    """Return the benchmark that was typed, about example questions where it needs a file."""
    spec = parse_spec("benchmark", typed)
    path = inspect.signature(spec.offer.make).parameters.get("path")
    if path and path.default is path.empty and "path" not in spec.options:
        tasks = ("A1", "A2", "A3", "A4", "D1", "D2", "D3", "D4")
        makers = (parse_spec("task", name).make() for name in tasks)
        asked = (q for make in makers for q in make(example_clips(), lambda reason: None))
        file.write_text("".join(json.dumps(q.to_json()) + "\n" for q in asked), encoding="utf-8")
        spec = dataclasses.replace(spec, options={**spec.options, "path": str(file)})
    made: Benchmark = spec.make()
    return made


def _grade(benchmark: Benchmark, question: Question) -> str:
    """Hold the scoring of one question against the contract; return the question's group."""
    worth = {}
    for said in (question.answer, "", "\0", "9" * 5000):
        grade = benchmark.score(question, said)
        _hold(grade is None or isinstance(grade, Grade), "score() must return a Grade or None")
        answer = Answer(
            id=f"{question.id}/contract",
            question=question.id,
            student="contract",
            benchmark="contract",
            response=said,
            score=grade.score if grade else None,
            parts=dict(grade.parts) if grade else {},
            parsed=grade.parsed if grade else None,
        )
        told = benchmark.outcome(question, answer)
        _hold(isinstance(told, Outcome) and bool(told.group), "outcome() must return an Outcome")
        for name, value in told.values.items():
            _hold(math.isfinite(value), f"{question.id}: {name} is {value} for {said[:20]!r}")
        right = told.values.get("accuracy", float(said == question.answer))
        _hold(right in (0, 1), f"{question.id}: accuracy is {right}, neither 0 nor 1")
        worth[said] = (told.group, right, None if grade is None else grade.score)
    group, right, full = worth.pop(question.answer)
    _hold(right == 1, f"{question.id}: the right answer counts as wrong")
    for said, (other, counted, score) in worth.items():
        _hold(other == group, f"{question.id}: the group depends on the response")
        _hold(counted == 0, f"{question.id}: {said[:20]!r} counts as right")
        less = full is None or score is None or score < full
        _hold(less, f"{question.id}: {said[:20]!r} scores as much as the right answer")
    return group


def example_question(root: Path) -> Question:
    """Write two small pictures under ``root`` and return a question about them."""
    import numpy as np

    from w2v import images

    for k in range(2):
        frame = np.full((72, 96, 3), 60 + 90 * k, np.uint8)
        (root / f"{k}.png").write_bytes(images.encode(frame))
    user = Message(role="user", content="<image><image>How did the camera move?")
    return Question(
        id="room/0/A2",
        task_type="A2",
        messages=(user, Message(role="assistant", content="turn left 40 degrees")),
        images=("0.png", "1.png"),
        answer="turn left 40 degrees",
        direction="inverse",
        scene="room",
    )
