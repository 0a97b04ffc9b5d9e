"""Pictures on disk to arrays and back. Heavy packages are imported when a picture is touched."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from w2v.errors import BadFile

if TYPE_CHECKING:
    import numpy as np

_ORIENTATION, _SIDEWAYS = 0x0112, 5
"""The EXIF tag of a photograph's orientation, and the first value that swaps its sides."""
_TURNED = (b"eXIf", b"Raw profile type", b"xmp")
"""What a PNG contains, one of them at least, where it has an orientation."""


def load(path: Path) -> np.ndarray:
    """Return (H, W, 3) uint8 sRGB, turned upright as its EXIF orientation says.

    Raises:
        BadFile: The file is missing, empty, cut short or not a picture.
    """
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise BadFile(f"{path}: {_reason(path, error)}") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadFile(f"{path}: too large to be a photograph ({error})") from error


def size(path: Path) -> tuple[int, int]:
    """Return (width, height), turned upright like ``load``; nothing is decoded that need not be.

    Raises:
        BadFile: The file is missing, empty or not a picture.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            width, height = picture.size
            if picture.format == "PNG":  # pillow decodes all of one to look for an orientation
                content = path.read_bytes()
                if not any(mark in content for mark in _TURNED):
                    return width, height
            if picture.format == "TIFF":  # whose size pillow may have turned already
                return ImageOps.exif_transpose(picture).size
            sideways = picture.getexif().get(_ORIENTATION, 1) >= _SIDEWAYS
            return (height, width) if sideways else (width, height)
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise BadFile(f"{path}: {_reason(path, error)}") from error


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such picture"
    try:
        if path.stat().st_size == 0:
            return "the file is empty"
    except OSError:
        pass
    return f"not a readable picture ({type(error).__name__}: {error})".replace(f" {path!r}", "")


def encode(frame: np.ndarray) -> bytes:
    """Return (H, W, 3) uint8, or (H, W) uint16, as PNG bytes; the same on every run."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(frame).save(out, "PNG", compress_level=4)
    return out.getvalue()


def load_grey(path: Path) -> np.ndarray:
    """Return (H, W) of a one-channel picture in its own depth (ids, millimeters).

    Raises:
        BadFile: The file is missing, empty, cut short or not one-channel.
    """
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            values = np.asarray(picture)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise BadFile(f"{path}: {_reason(path, error)}") from error
    if values.ndim != 2:
        raise BadFile(f"{path}: expected one channel, found a colour picture")
    return values


def resize_crop(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return a frame scaled to cover width x height and cropped in the middle.

    Colour is resampled with an antialiased filter; use ``nearest`` for depth and ids.
    """
    import numpy as np
    from PIL import Image

    if frame.shape[:2] == (height, width):
        return frame
    return np.asarray(
        Image.fromarray(frame).resize(
            (width, height), Image.Resampling.LANCZOS, box=_middle(frame, width, height)
        )
    )


def nearest(values: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return (H, W) depth or ids scaled and cropped like ``resize_crop``, without blending."""
    import numpy as np

    left, top, right, bottom = _middle(values, width, height)
    x = left + (np.arange(width) + 0.5) * (right - left) / width
    y = top + (np.arange(height) + 0.5) * (bottom - top) / height
    return values[np.floor(y).astype(int)[:, None], np.floor(x).astype(int)]


def _middle(values: np.ndarray, width: int, height: int) -> tuple[float, float, float, float]:
    """Return the largest middle box of the wanted shape, in source pixels."""
    rows, columns = values.shape[:2]
    scale = max(width / columns, height / rows)
    w, h = width / scale, height / scale
    left, top = (columns - w) / 2, (rows - h) / 2
    return left, top, left + w, top + h
