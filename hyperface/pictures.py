"""Pictures made by others: any common format, decoded with care."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
"""Of the names of pictures."""
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
LARGEST_SIDE = 4096
"""Pixels: a picture that claims to be larger is refused before it is decoded."""
LARGEST_FILE = 4 * LARGEST_SIDE**2
"""Bytes: above what the largest picture takes in any format."""


def decode(data: bytes | bytearray, formats: tuple[str, ...] = FORMATS) -> NDArray[np.uint8]:
    """An encoded picture as uint8 RGB [H, W, 3].

    Raises:
        ValueError: foreign, truncated or broken, or wider or higher than LARGEST_SIDE.
    """
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            if max(image.size) > LARGEST_SIDE:
                claimed = f"{image.size[0]}x{image.size[1]}"
                raise ValueError(f"must be at most {LARGEST_SIDE} pixels wide and high, and claims {claimed}")
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError as error:
        raise ValueError(f"is none of {', '.join(formats)}") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # what Pillow raises for broken ones
        raise ValueError(f"cannot be decoded ({error})") from error
