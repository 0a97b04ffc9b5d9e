"""Contact sheets: a person sees at a glance whether pictures, boxes and answers belong together.

One row per question: its pictures left to right with the boxes it is about, the moves, the
question, the gold answer and the evidence. Colours follow the track numbers of ``annotate``, not
the answer, so that a wrong "same object" shows as two colours. A box is dashed where its object is
known to be out of sight.
"""

from __future__ import annotations

import functools
import io
import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from w2v import boxes as grids
from w2v import bundles, images, motion, paths
from w2v.errors import BadFile, W2VError
from w2v.footage import BundleFootage
from w2v.records import Box, Clip, Quad, Question
from w2v.report import answers
from w2v.stream import write_atomic

COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#0072B2", "#F0E442")
"""Told apart with any colour vision (Okabe and Ito, 2008, without black)."""
PAPER, INK, FAINT, GREEN, LINE, MISSING = (
    "#FFFFFF",
    "#111111",
    "#666666",
    "#006B3C",
    "#CCCCCC",
    "#9A9A9A",
)
GAP, TEXT_WIDTH, LEADING = 12, 460, 1.3
ENDS = ("from", "to")  # keys of the evidence: pixel boxes in the first and the last frame
SAME = 0.5  # least IoU of a question's box with an annotated one for it to be that one
Report = Callable[[str], None]
Spot = tuple[int, int, int, int]  # left, top, right, bottom pixels, all inside
Ink = Any  # a font of Pillow's


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One box to draw; ``size`` is what ``xyxy`` is measured in, None for the picture's pixels."""

    xyxy: Quad
    colour: str
    text: str = ""
    dashed: bool = False
    size: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class View:
    """One picture of a row; ``path`` is as the record has it."""

    path: str
    caption: str
    marks: list[Mark] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where pictures are looked for, and who is told of those that are not there."""

    root: Path
    beside: Path | None = None
    missing: Report = lambda path: None


@functools.cache
def _font(size: int) -> Ink:
    return ImageFont.load_default(size)


# ── sheets ─────────────────────────────────────────────────────────────────────────────────────


def sheet(
    questions: Sequence[Question],
    root: Path,
    *,
    number: int = 12,
    seed: int = 0,
    thumb: int = 224,
    between: int = 0,
    title: str = "",
    beside: Path | None = None,
    missing: Report = lambda path: None,
) -> Image.Image:
    """Return a sheet of questions of one task, one row each.

    Args:
        questions: Up to ``number`` of them are drawn, different answers first.
        root: Folder that paths in records are relative to.
        number: Rows of the sheet.
        seed: Another seed, another sample.
        thumb: Width of a picture in pixels.
        between: Further frames of the bundle to show between the first and the last.
        title: Headline; the default names the task and the numbers.
        beside: Folder of the file that holds the questions.
        missing: Called with the path of each picture that could not be read; it is shown grey.
    """
    places = Places(root=root, beside=beside, missing=missing)
    chosen = answers.sample(questions, number, seed)
    rows = [_row(question, places, thumb, between) for question in chosen]
    task = questions[0].task_type if questions else "no questions"
    return _stack(title or f"{task}: {len(chosen)} of {len(questions)} questions", rows)


def clip_sheet(
    clip: Clip,
    root: Path,
    *,
    number: int = 8,
    thumb: int = 224,
    beside: Path | None = None,
    missing: Report = lambda path: None,
) -> Image.Image:
    """Return one row of frames of a clip, left to right, with every box and its track number.

    Args:
        clip: The clip; its bundle is read again, for the boxes of all frames.
        root: Folder that paths in records are relative to.
        number: Frames to show at most, evenly taken, first and last included.
        thumb: Width of a picture in pixels.
        beside: Folder of the file that holds the clip.
        missing: Called with the path of each picture that could not be read.
    """
    places = Places(root=root, beside=beside, missing=missing)
    story = _story(clip.bundle, places)
    if story is None:
        views = [View(path=path, caption="") for path in (clip.first, clip.last)]
    else:
        views = [
            View(
                path=story.names[k],
                caption=f"frame {k}",
                marks=[_annotated(box, story) for box in story.boxes if box.frame == k],
            )
            for k in _spread(len(story.names), number)
        ]
    told = [f"{clip.id}  |  {clip.teacher}", f"moves: {motion.say(clip.moves) or 'none'}"]
    told += [_facts(clip.quality)] if clip.quality else []
    strip = _strip(views, places, thumb)
    text = _write([(line, 14, INK, False) for line in told], max(strip.width, TEXT_WIDTH))
    return _stack("", [_above(text, strip)])


def write_sheets(
    questions: Iterable[Question],
    root: Path,
    folder: Path,
    *,
    number: int = 12,
    seed: int = 0,
    between: int = 0,
    beside: Path | None = None,
    missing: Report = lambda path: None,
) -> list[Path]:
    """Write ``sheet_TASK.png`` for each task into a folder, and return the files.

    Args:
        questions: Questions of any tasks.
        root: Folder that paths in records are relative to.
        folder: Made where it is not there.
        number: Rows of each sheet.
        seed: Another seed, another sample.
        between: Further frames of the bundle to show between the first and the last.
        beside: Folder of the file that holds the questions.
        missing: Called with the path of each picture that could not be read.
    """
    drawn = {
        task: sheet(
            counted.sample(number),
            root,
            number=number,
            seed=seed,
            between=between,
            title=headline(counted, number),
            beside=beside,
            missing=missing,
        )
        for task, counted in answers.tally(questions, number, seed).items()
    }
    return save(drawn, folder)


def save(drawn: Mapping[str, Image.Image], folder: Path) -> list[Path]:
    """Write the sheet of each task as ``sheet_TASK.png``, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"sheet_{paths.safe_name(task)}.png" for task in drawn]
    for file, picture in zip(files, drawn.values(), strict=True):
        write_atomic(file, encode(picture, "PNG"))
    return files


def headline(counted: answers.Tally, number: int) -> str:
    """Return the title of a task's sheet."""
    shown = min(number, counted.count)
    return f"{counted.task_type or 'no task'}: {shown} of {counted.count} questions"


def encode(picture: Image.Image, kind: str = "JPEG") -> bytes:
    """Return a picture as the bytes of a PNG or JPEG file, the same on every run."""
    out = io.BytesIO()
    options = {"quality": 85, "subsampling": 0} if kind == "JPEG" else {"compress_level": 1}
    picture.save(out, kind, **options)
    return out.getvalue()


# ── what to show ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Story:
    """A bundle as far as it can be read: its clip, frame paths as records have them, and boxes."""

    clip: Clip
    names: list[str]
    boxes: tuple[Box, ...]
    colours: dict[int | None, str]

    def colour(self, track: int | None) -> str:
        """Return the colour of a track, grey for a box without one."""
        return self.colours.get(track, MISSING)

    def track(self, frame: int, xyxy: Quad) -> int | None:
        """Return the track of the annotated box that this one is, if there is one."""
        near = [
            (grids.iou(xyxy, b.xyxy), b.track) for b in self.boxes if b.frame == frame and b.xyxy
        ]
        best = max(near, key=lambda found: found[0], default=(0.0, None))
        return best[1] if best[0] >= SAME else None


def _story(bundle: str, places: Places) -> Story | None:
    """Read a bundle, or return None where there is none to be read."""
    if not bundle:
        return None
    try:
        folder = paths.resolve(places.root, bundle, places.beside)
        clip = bundles.read(folder, folder)
        found = bundles.read_boxes(folder) or ()
        files = BundleFootage(clip, folder).files
    except W2VError:
        return None
    tracks = sorted({box.track for box in found if box.track is not None})
    return Story(
        clip=clip,
        names=[f"{bundle}/{os.path.relpath(file, folder)}" for file in files],
        boxes=found,
        colours=dict(zip(tracks, itertools.cycle(COLOURS), strict=False)),
    )


def _annotated(box: Box, story: Story) -> Mark:
    """Return the mark of a box of ``annotate``; dashed, where first seen, if now out of sight."""
    name = box.label if box.track is None else f"{box.track} {box.label}"
    at = box.xyxy or _first_seen(box.track, story)
    if box.xyxy is None:
        name += " out of sight"
    elif not box.kept:
        name += " (not kept)"
    return Mark(xyxy=at, colour=story.colour(box.track), text=name, dashed=box.xyxy is None)


def _first_seen(track: int | None, story: Story) -> Quad:
    found = (b.xyxy for b in story.boxes if b.track == track and b.xyxy)
    return next(found, (0.0, 0.0, 0.0, 0.0))


def _views(question: Question, story: Story | None, between: int) -> list[View]:
    """Return the pictures of a row: those of the question, and frames of the bundle beside them."""
    ends = _ends(question)
    frames = [_frame(image, story) for image in question.images]
    views = [
        View(
            path=image,
            caption=f"image {k + 1}" + (f", frame {frame}" if frame is not None else ""),
            marks=_subject(ends, k == 0, k == len(frames) - 1 > 0, frame, story),
        )
        for k, (image, frame) in enumerate(zip(question.images, frames, strict=True))
    ]
    if (
        story is None
        or frames[:1] != [0]
        or any(f not in (0, len(story.names) - 1) for f in frames)
    ):
        return views
    last = len(story.names) - 1
    extra = [k for k in _spread(last + 1, between + 2) if k not in (0, last)]
    if len(frames) == 1 and last > 0 and (between or ends[0]):
        extra.append(last)
    shown = [
        View(
            path=story.names[k],
            caption=f"frame {k}, not asked about",
            marks=_subject(ends, False, k == last, k, story),
        )
        for k in extra
    ]
    return views[:1] + shown + views[1:]


def _frame(image: str, story: Story | None) -> int | None:
    """Return which frame of the bundle a picture is."""
    names = story.names if story else []
    image = os.path.normpath(image)
    return next((k for k, name in enumerate(names) if os.path.normpath(name) == image), None)


def _ends(question: Question) -> tuple[Mark | None, Mark | None]:
    """Return the boxes a question is about, in its first and its last picture, not yet coloured.

    They are taken from the evidence, in pixels, else from the words, on the grid.
    """
    found = [_quad(question.evidence.get(name)) for name in ENDS]
    if any(found):
        marks = [Mark(xyxy=quad, colour=MISSING) if quad else None for quad in found]
        return marks[0], marks[1]
    said = grids.find(question.prompt) + grids.find(question.answer)
    grid = (grids.GRID, grids.GRID)
    both = [Mark(xyxy=quad, colour=MISSING, size=grid) for quad in said[:2]]
    return (both[0] if both else None), (both[1] if len(both) > 1 else None)


def _quad(value: Any) -> Quad | None:
    if not isinstance(value, list | tuple) or len(value) != 4:
        return None
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
        return None
    return float(value[0]), float(value[1]), float(value[2]), float(value[3])


def _subject(
    ends: tuple[Mark | None, Mark | None],
    is_first: bool,
    is_last: bool,
    frame: int | None,
    story: Story | None,
) -> list[Mark]:
    """Return the boxes to draw in one picture: those of the question, and where its object went."""
    start, end = ends
    if is_first:
        return [_coloured(start, 0, story)] if start else []
    marks = []
    if is_last and end:
        last = None if story is None else len(story.names) - 1
        marks.append(_coloured(end, last, story))
    if start is None or story is None or frame is None:
        return marks
    track = story.track(0, _pixels(start, story))
    if track is None or (marks and marks[0].colour == story.colour(track)):
        return marks
    for box in story.boxes:
        if box.frame == frame and box.track == track:
            seen = _annotated(box, story)
            if box.xyxy is None:
                seen = replace(seen, xyxy=start.xyxy, size=start.size)
            marks.append(seen)
    return marks


def _subjects_first(story: Story, question: Question) -> Story:
    """Return the story with the first two colours for the objects that the question is about.

    Colours come round again after seven tracks; these two must never be alike by chance.
    """
    frames = (0, len(story.names) - 1)
    about = [
        story.track(frame, _pixels(mark, story))
        for frame, mark in zip(frames, _ends(question), strict=True)
        if mark
    ]
    tracks = dict.fromkeys([*(track for track in about if track is not None), *story.colours])
    return replace(story, colours=dict(zip(tracks, itertools.cycle(COLOURS), strict=False)))


def _coloured(mark: Mark, frame: int | None, story: Story | None) -> Mark:
    """Return a mark in the colour of the track it belongs to, with its number.

    White where ``annotate`` knows of no such box; one colour where there are no annotations.
    """
    if story is None or not story.boxes or frame is None:
        return replace(mark, colour=COLOURS[0])
    track = story.track(frame, _pixels(mark, story))
    if track is None:
        return replace(mark, colour=PAPER, text="no such track")
    label = next(b.label for b in story.boxes if b.track == track)
    return replace(mark, colour=story.colour(track), text=f"{track} {label}")


def _pixels(mark: Mark, story: Story) -> Quad:
    """Return the box of a mark in pixels of the stored frames."""
    if mark.size is None:
        return mark.xyxy
    camera = story.clip.intrinsics
    across, down = camera.width / mark.size[0], camera.height / mark.size[1]
    x1, y1, x2, y2 = mark.xyxy
    return x1 * across, y1 * down, x2 * across, y2 * down


def _spread(total: int, number: int) -> list[int]:
    """Return up to ``number`` of 0 ... total-1, evenly, both ends included."""
    number = min(total, max(2, number))
    if number < 2:
        return list(range(total))
    return sorted({round(k * (total - 1) / (number - 1)) for k in range(number)})


# ── drawing ────────────────────────────────────────────────────────────────────────────────────


def _row(question: Question, places: Places, thumb: int, between: int) -> Image.Image:
    story = _story(question.bundle, places)
    story = story and _subjects_first(story, question)
    strip = _strip(_views(question, story, between), places, thumb)
    if story and story.clip.moves:
        moves = f"moves: {motion.say(story.clip.moves)}"
        strip = _above(strip, _write([(moves, 13, INK, False)], strip.width))
    return _beside(strip, _write(_words(question), TEXT_WIDTH))


def _words(question: Question) -> list[tuple[str, int, str, bool]]:
    """Return the lines beside the pictures: text, size, colour, bold."""
    head = [question.task_type, question.form, question.direction, question.source]
    meaning = answers.spoken(question)
    gold = question.answer if meaning == question.answer else f"{question.answer} = {meaning}"
    facts = [f"weight {motion.number(question.weight)}"]
    facts += [_facts(question.evidence)] if question.evidence else []
    return [
        ("  |  ".join(filter(None, head)), 12, FAINT, False),
        (question.prompt, 14, INK, False),
        (f"answer: {gold}", 16, GREEN, True),
        ("  |  ".join(facts), 12, FAINT, False),
        (question.id, 11, FAINT, False),
    ]


def _facts(values: dict[str, Any]) -> str:
    """Return the plain values of a dict as ``name value``, at most ten of them."""
    told = []
    for name, value in values.items():
        if name in ENDS:  # drawn
            continue
        if isinstance(value, float):
            value = motion.number(value)
        if isinstance(value, list) and value and all(isinstance(v, int | float) for v in value):
            value = ", ".join(motion.number(v) for v in value)
        if isinstance(value, str | int):
            told.append(f"{name} {value}")
    return "  |  ".join(told[:10])


def _strip(views: Sequence[View], places: Places, thumb: int) -> Image.Image:
    """Return pictures side by side, captions below."""
    drawn = []
    for view in views:
        caption = _write([(view.caption, 12, FAINT, False)], thumb)
        drawn.append(_above(_picture(view, places, thumb), caption))
    if not drawn:
        return Image.new("RGB", (thumb, 1), PAPER)
    width = sum(d.width for d in drawn) + GAP * (len(drawn) - 1)
    strip = Image.new("RGB", (width, max(d.height for d in drawn)), PAPER)
    left = 0
    for one in drawn:
        strip.paste(one, (left, 0))
        left += one.width + GAP
    return strip


def _picture(view: View, places: Places, thumb: int) -> Image.Image:
    """Return one picture, ``thumb`` pixels wide, with its boxes; grey where it cannot be read."""
    try:
        frame = images.load(paths.resolve(places.root, view.path, places.beside))
    except W2VError as error:
        places.missing(view.path)
        return _placeholder(view.path, error, thumb)
    height, width = frame.shape[:2]
    size = (thumb, max(1, min(2 * thumb, round(height * thumb / width))))
    drawn = Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(drawn)
    placed = [(place(m.xyxy, size, m.size or (width, height)), m) for m in view.marks]
    for box, mark in placed:
        _draw_text(pen, mark, box, size)
    for box, mark in placed:  # after the texts: no text may hide where a box ends
        _draw_box(pen, mark, box)
    return drawn


def _placeholder(path: str, error: W2VError, thumb: int) -> Image.Image:
    grey = Image.new("RGB", (thumb, thumb * 3 // 4), MISSING)
    pen = ImageDraw.Draw(grey)
    what = "no such picture" if isinstance(error, BadFile) else "outside the root"
    lines = _wrapped(f"{what}: {path}", _font(12), thumb - 2 * GAP)[:8]
    pen.multiline_text((GAP, GAP), "\n".join(lines), fill=INK, font=_font(12))
    return grey


def _draw_box(pen: ImageDraw.ImageDraw, mark: Mark, box: Spot) -> None:
    if mark.dashed:
        _draw_dashes(pen, box, mark.colour)
    else:
        left, top, right, bottom = box
        pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=INK)
        pen.rectangle(box, outline=mark.colour, width=3)


def _draw_text(pen: ImageDraw.ImageDraw, mark: Mark, box: Spot, size: tuple[int, int]) -> None:
    """Write the text of a box above it or, where there is no room, inside."""
    if not mark.text:
        return
    font = _font(12)
    left, top, *_ = box
    across = min(size[0], int(font.getlength(mark.text)) + 6)
    x = max(0, min(left, size[0] - across))
    y = top - 16 if top >= 16 else min(top + 3, size[1] - 16)
    pen.rectangle((x, y, x + across - 1, y + 15), fill=mark.colour)
    pen.text((x + 3, y + 1), mark.text, fill="#000000", font=font)


def place(xyxy: Quad, size: tuple[int, int], measured: tuple[int, int]) -> Spot:
    """Return the first and last column and row of a box in a thumbnail.

    Args:
        xyxy: The box, in units of ``measured``.
        size: Width and height of the thumbnail in pixels.
        measured: Width and height of the whole picture in the units of the box.
    """
    x1, y1, x2, y2 = (v * s / m for v, s, m in zip(xyxy, size * 2, measured * 2, strict=True))
    left, top = (min(max(0, round(v)), s - 1) for v, s in zip((x1, y1), size, strict=True))
    right, bottom = (min(max(0, round(v) - 1), s - 1) for v, s in zip((x2, y2), size, strict=True))
    return left, top, max(left, right), max(top, bottom)


def _draw_dashes(
    pen: ImageDraw.ImageDraw, box: Spot, colour: str, on: int = 7, off: int = 5
) -> None:
    left, top, right, bottom = box
    for x in range(left, right + 1, on + off):
        end = min(x + on - 1, right)
        pen.rectangle((x, top, end, min(top + 2, bottom)), fill=colour)
        pen.rectangle((x, max(bottom - 2, top), end, bottom), fill=colour)
    for y in range(top, bottom + 1, on + off):
        end = min(y + on - 1, bottom)
        pen.rectangle((left, y, min(left + 2, right), end), fill=colour)
        pen.rectangle((max(right - 2, left), y, right, end), fill=colour)


def _write(lines: Sequence[tuple[str, int, str, bool]], width: int) -> Image.Image:
    """Return wrapped text on paper; each item is text, size, colour, bold."""
    laid: list[tuple[int, str, int, str, bool]] = []
    y = 0
    for text, size, colour, bold in lines:
        for line in _wrapped(text, _font(size), width)[:16] if text else []:
            laid.append((y, line, size, colour, bold))
            y += round(size * LEADING)
        y += 4 if text else 0
    paper = Image.new("RGB", (width, max(1, y)), PAPER)
    pen = ImageDraw.Draw(paper)
    for y, line, size, colour, bold in laid:
        # The built-in font has one weight: a stroke in the same colour makes it bold.
        stroke = 0.5 if bold else 0
        pen.text((1, y), line, fill=colour, font=_font(size), stroke_width=stroke)
    return paper


def _wrapped(text: str, font: Ink, width: int) -> list[str]:
    """Return a text as lines that fit; words that do not fit are broken."""
    lines = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            while word:
                tried = f"{line} {word}" if line else word
                if font.getlength(tried) <= width:
                    line, word = tried, ""
                elif line:
                    lines.append(line)
                    line = ""
                else:
                    fits = next(
                        k
                        for k in range(len(word), 0, -1)
                        if k == 1 or font.getlength(word[:k]) <= width
                    )
                    lines.append(word[:fits])
                    word = word[fits:]
        lines.append(line)
    return lines


def _above(one: Image.Image, other: Image.Image) -> Image.Image:
    both = Image.new("RGB", (max(one.width, other.width), one.height + 4 + other.height), PAPER)
    both.paste(one, (0, 0))
    both.paste(other, (0, one.height + 4))
    return both


def _beside(one: Image.Image, other: Image.Image) -> Image.Image:
    size = (one.width + 2 * GAP + other.width, max(one.height, other.height))
    both = Image.new("RGB", size, PAPER)
    both.paste(one, (0, 0))
    both.paste(other, (one.width + 2 * GAP, 0))
    return both


def _stack(title: str, rows: Sequence[Image.Image]) -> Image.Image:
    """Return rows one below the other with lines between them, under a title."""
    width = max([row.width for row in rows] + [TEXT_WIDTH])
    parts = [_write([(title, 22, INK, True)], width)] if title else []
    parts += rows
    height = GAP + sum(part.height + 2 * GAP for part in parts)
    whole = Image.new("RGB", (width + 2 * GAP, height), PAPER)
    pen = ImageDraw.Draw(whole)
    y = GAP
    for k, part in enumerate(parts):
        whole.paste(part, (GAP, y))
        y += part.height + GAP
        if k < len(parts) - 1:
            pen.line((GAP, y, width + GAP, y), fill=LINE)
        y += GAP
    return whole
