"""Conversion between pixels and what networks see and draw: signals in [-1, 1].

Shape legend: B images, H x W pixels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_signal(images_BHWC: NDArray[np.uint8], device: torch.device | None = None) -> Tensor:
    """uint8 [B, H, W, 3] -> float32 [B, 3, H, W] in [-1, 1], on a device, channels last in memory."""
    pixels = torch.from_numpy(np.ascontiguousarray(images_BHWC)).to(device)
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1.0


def to_pixels(signal: Tensor, drawable_B: Tensor | None = None) -> NDArray[np.uint8]:
    """[B, 3, H, W] in [-1, 1], on any device -> uint8 RGB [B, H, W, 3]; black where a picture is not finite.

    Args:
        drawable_B: False for pictures that are black whatever they say; None: there is none.
    """
    shown_B = is_finite(signal) if drawable_B is None else is_finite(signal) & drawable_B
    shown = torch.where(shown_B[:, None, None, None], signal.float(), -1.0)
    levels = (shown * 127.5 + 127.5).round().clamp(0.0, 255.0).to(torch.uint8)
    pixels: NDArray[np.uint8] = levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return pixels


def is_finite(images: Tensor) -> Tensor:
    """Return whether all pixels of each image are finite numbers, [B]."""
    return torch.isfinite(images).flatten(1).all(1)
