"""Images as they are stored: JPEG, RGB. Equal pixels and quality give equal bytes with one build of Pillow."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hyperface.faces import pictures

FORMAT = ("JPEG",)
# Faces are shown at 96 CSS pixels: twice that for dense screens.
_FACE_PIXELS = 192
END_OF_IMAGE = b"\xff\xd9"


def encode(image_HWC: NDArray[np.uint8], quality: int) -> bytes:
    """Encode uint8 RGB [H, W, 3] as JPEG of quality 1..100 without chroma subsampling: faces here are small."""
    sink = io.BytesIO()
    Image.fromarray(image_HWC, "RGB").save(sink, format="JPEG", quality=quality, subsampling=0)
    return sink.getvalue()


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode a JPEG to uint8 RGB [H, W, 3].

    Raises:
        ValueError: not a whole JPEG, larger than a picture may be, or bytes after its end.
    """
    try:
        pixels_HWC = pictures.decode(data, FORMAT)
    except ValueError as error:
        raise ValueError(f"is not a whole JPEG image ({error})") from error
    if not data.endswith(END_OF_IMAGE):
        raise ValueError("has bytes after the end of its JPEG image")
    return pixels_HWC


def thumbnail(data: bytes) -> str:
    """Return a base64 JPEG of at most 192 pixels a side; smaller images are kept as they are stored."""
    with Image.open(io.BytesIO(data), formats=FORMAT) as image:
        if max(image.size) > _FACE_PIXELS:
            image.thumbnail((_FACE_PIXELS, _FACE_PIXELS))
            sink = io.BytesIO()
            image.convert("RGB").save(sink, format="JPEG", quality=90)
            data = sink.getvalue()
    return base64.b64encode(data).decode()
