"""Pictures made by others: any common format, decoded with care."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
"""Of the names of pictures."""
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")


def decode(data: bytes) -> NDArray[np.uint8]:
    """An encoded picture as uint8 RGB [H, W, 3].

    Raises:
        ValueError: foreign, truncated or broken, or of more pixels than Pillow believes (a decompression bomb).
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises for them
        raise ValueError(f"is not a whole picture ({error})") from error
