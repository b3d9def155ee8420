"""The quality gate: the measurements of a picture, and the first reason for which it is refused.

H, W: pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Reason = Literal[
    "error", "blank", "no_face", "many_faces", "blurred", "no_embedding", "cosine", "no_anchor", "judge", "attribute",
]  # fmt: skip
REASONS: tuple[Reason, ...] = get_args(Reason)
"""Reasons why a draw is refused, in the order in which it is looked at: the generator failed; the picture is of one
colour (or black: its latents were not finite); no face, or more than one, was found; it is not sharp; the recogniser
gave no finite embedding; the embedding is too far from the reference; no anchor of its identity could be drawn; the
judge's is too far from the anchor; an attribute misses its target, which refuses a draw for the sake of another one,
but no image."""

BLANK = 1.0
"""Standard deviation of the grey levels below which a picture shows nothing."""
_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class Gate:
    """Rules that a picture must meet; see the fields of `SynthesisConfig`."""

    min_cosine: float
    min_judge_cosine: float = -1.0
    min_sharpness: float = 0.0
    one_face: bool = False


def is_blank(picture_HWC: NDArray[np.uint8]) -> bool:
    """Return whether a picture is of one colour: what a generator gives whose latents were not finite."""
    return bool(grey(picture_HWC).std() < BLANK)


def grey(image_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 RGB [H, W, 3] -> luma by ITU-R BT.601, float32 [H, W] in [0, 255]."""
    return image_HWC.astype(np.float32) @ _GREY


def sharpness(image_HWC: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al., ICPR 2000), in squared grey levels: small when blurred."""
    grey_HW = grey(image_HWC)
    inner = grey_HW[1:-1, 1:-1]
    laplacian = grey_HW[:-2, 1:-1] + grey_HW[2:, 1:-1] + grey_HW[1:-1, :-2] + grey_HW[1:-1, 2:] - 4 * inner
    return float(laplacian.var())


def count(reasons: Sequence[Reason]) -> dict[str, int]:
    """Return {reason: how often}, in the order of `REASONS`, without zeros."""
    return {reason: reasons.count(reason) for reason in REASONS if reason in reasons}
