"""Pictures made by others: which files of a source are pictures, and any common format decoded with care."""

import io
import re
import struct
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from hyperface.reading.one_line import shown
from hyperface.storage.walk import hidden

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".jpe", ".jfif", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
"""Names of pictures end in one of these, in any case."""
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
LARGEST_SIDE = 4096
"""Largest side in pixels: a picture that claims to be larger is refused before it is decoded."""
LARGEST_FILE = 4 * LARGEST_SIDE**2
"""Largest file in bytes: more than the largest picture takes in any format."""
MOST_SCANS = 100
"""Most scans by which a JPEG may go over all of its pixels; usual ones have up to 12, and 30 bytes make another."""
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
"""Markers of a JPEG after which a length stands, and that of its end."""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The turn that sets a picture of each EXIF orientation upright; `ImageOps.exif_transpose` would also write the tags
anew, and can fail at foreign ones."""
HIDDEN = "hidden"
KINDS_SHOWN = 8
"""Number of kinds that a line for people names."""
_BITS, _WHITE_IS_ZERO = 258, 262
"""TIFF's tags for the bits of a number, and for what 0 means."""


def is_picture(name: str) -> bool:
    """Return whether a file's name ends like a picture's."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def other_kind(name: str) -> str:
    """Name the kind under which a file of a source that is no picture is counted: `hidden`, or its suffix; empty for a
    picture."""
    if hidden(name):
        return HIDDEN
    return "" if is_picture(name) else shown(PurePosixPath(name).suffix.lower())[:16] or "no suffix"


def counted(kinds: Counter[str]) -> str:
    """Write the counts in a line: `.json 12, hidden 3, others 2`, the most frequent first, all beyond a few
    together."""
    frequent = sorted((+kinds).items(), key=lambda found: (-found[1], found[0]))[:KINDS_SHOWN]
    others = kinds.total() - sum(count for _, count in frequent)
    return ", ".join(f"{kind} {count}" for kind, count in frequent) + (f", others {others}" if others else "")


def decode(data: bytes | bytearray, formats: tuple[str, ...] = FORMATS) -> NDArray[np.uint8]:
    """An encoded picture as uint8 RGB [H, W, 3], upright by its EXIF orientation; the first frame of an animation.

    Raises:
        ValueError: foreign, truncated or broken, wider or higher than LARGEST_SIDE, of more scans than MOST_SCANS, or
            of pixels without a known white.
    """
    image = _loaded(data, formats)
    rgb = _eight_bits(image).convert("RGB")
    turn = UPRIGHT.get(_orientation(image))
    return np.asarray(rgb if turn is None else rgb.transpose(turn))


def _loaded(data: bytes | bytearray, formats: tuple[str, ...]) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            if max(image.size) > LARGEST_SIDE:
                claimed = f"{image.size[0]}x{image.size[1]}"
                raise ValueError(f"must be at most {LARGEST_SIDE} pixels wide and high, and claims {claimed}")
            if image.format in ("JPEG", "MPO") and _has_many_scans(data):
                raise ValueError(f"must have at most {MOST_SCANS} scans")
            image.load()
            return image
    except UnidentifiedImageError as error:
        raise ValueError(f"is none of {', '.join(formats)}") from error
    except (OSError, SyntaxError, TypeError, Image.DecompressionBombError) as error:  # of Pillow, for broken ones
        raise ValueError(f"cannot be decoded ({error})") from error


def _has_many_scans(data: bytes | bytearray) -> bool:
    """Return whether a JPEG takes far longer than its bytes tell, by more than MOST_SCANS before its end."""
    at = scans = 0
    while scans <= MOST_SCANS and (marker := _MARKER.search(data, at)) and marker[0] != b"\xff\xd9":
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
        scans += marker[0] == b"\xff\xda"
    return scans > MOST_SCANS


def _orientation(image: Image.Image) -> Any:
    """Read from the EXIF tags where the top of a picture is; 1, upright, where they say nothing that can be read."""
    try:  # of a TIFF, which Pillow turns while it loads it, nothing is left to say
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except (OSError, SyntaxError, ValueError, struct.error):  # broken tags, of a picture that may be sound
        return 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """Convert a picture to a mode that Pillow turns into RGB without cutting off what is bright, as it does with deep
    grey.

    Raises:
        ValueError: nobody can say which number is white.
    """
    if image.mode in ("P", "PA", "La", "RGBa"):
        return image.convert("RGBA")  # from others there is no way to RGB, or only one with a warning
    if image.mode[0] not in "IF":
        return image
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    values_HW = np.asarray(image)
    if image.mode == "F" and values_HW.min() >= 0 and values_HW.max() <= 1:
        levels = 1
    elif image.mode.startswith("I;16"):
        levels = 2**12 if tags.get(_BITS) == (12,) else 2**16
    elif image.mode == "I" and image.format == "PPM":
        levels = 2**16
    else:
        raise ValueError("has pixels of 32 bits, and which number is white nobody can say; save it with 8 or 16 bits")
    # The upper bits, as Pillow itself takes them from the 16 of a colour.
    grey_HW = np.minimum(values_HW * (256 / levels), 255).astype(np.uint8)
    return Image.fromarray(255 - grey_HW if tags.get(_WHITE_IS_ZERO) == 0 else grey_HW)
