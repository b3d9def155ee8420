"""Augmentation of a batch on its device, each image by numbers of its own.

AdaFace's set (Kim, Jain and Liu, CVPR 2022, section 4.1 and the authors' code): each image is with some probability
cropped, made small and large again, or changed in colour. Here all images of a batch at once: a change of size is a
product with two matrices, and so is a change of colour. Random erasing: Zhong et al., AAAI 2020.

Shape legend: B images, C = 3 channels, S pixels a side; R random numbers of an image, uniform in [0, 1).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

NUMBERS = 18
"""Number of random numbers of an image."""


@dataclass(frozen=True)
class Augmentation:
    """Probabilities of each change."""

    flip: float
    erasing: float
    crop: float
    low_resolution: float
    photometric: float


def augment(images_BCSS: Tensor, numbers_BR: Tensor, chosen: Augmentation) -> Tensor:
    """Return changed images, float32 in [-1, 1] like the given ones. An image depends on its own numbers only."""
    x, u = images_BCSS, numbers_BR
    x = torch.where(_where(u[:, 0] < chosen.flip), x.flip(3), x)
    if chosen.photometric:
        x = torch.where(_where(u[:, 1] < chosen.photometric), _recoloured(x, u[:, 5:8]), x)
    if chosen.low_resolution:
        x = torch.where(_where(u[:, 2] < chosen.low_resolution), _coarse(x, u[:, 8:10]), x)
    if chosen.crop:
        inside = _rectangle(u[:, 10:14], x.shape[-1], (0.2, 1.0), (3 / 4, 4 / 3))
        x = torch.where(_where(u[:, 3] < chosen.crop) & ~inside, -1.0, x)
    if chosen.erasing:
        inside = _rectangle(u[:, 14:18], x.shape[-1], (0.02, 0.33), (0.3, 3.3))
        x = torch.where(_where(u[:, 4] < chosen.erasing) & inside, _noise(x, u[:, 14]), x)
    return x


def _where(chosen_B: Tensor) -> Tensor:
    return chosen_B[:, None, None, None]


def _recoloured(x: Tensor, u_B3: Tensor) -> Tensor:
    """Multiply brightness, contrast and saturation by factors in [0.5, 1.5]. Here always in this order."""
    brightness, contrast, saturation = (0.5 + u_B3).t()[:, :, None, None, None]
    levels = ((x + 1) / 2 * brightness).clamp(0, 1)
    levels = (contrast * levels + (1 - contrast) * _grey(levels).mean((2, 3), keepdim=True)).clamp(0, 1)
    levels = (saturation * levels + (1 - saturation) * _grey(levels)).clamp(0, 1)
    recoloured: Tensor = levels * 2 - 1
    return recoloured


def _grey(levels: Tensor) -> Tensor:
    """Return luminance by ITU-R BT.601, [B, 1, S, S]."""
    weights = levels.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (levels * weights).sum(1, keepdim=True)


def _coarse(x: Tensor, u_B2: Tensor) -> Tensor:
    """Make images 0.2 to 1 times as large by area, and large again by straight lines between pixels."""
    size = x.shape[-1]
    sides_B = (size * (0.2 + 0.8 * u_B2[:, 0])).long().clamp(2, size)
    there_BSS = _resampling(sides_B, size, x.dtype)
    return torch.einsum("bij,bcjk,blk->bcil", there_BSS, x, there_BSS)


def _resampling(sides_B: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Return the matrix, [B, S, S], that makes a line of S pixels one of sides_B pixels and S again."""
    pixels = torch.arange(size, device=sides_B.device, dtype=dtype)
    sides = sides_B.to(dtype)[:, None, None]
    width = size / sides
    begin = pixels[:, None] * width  # of the coarse pixel in each row; the rows beyond sides_B are not asked for
    overlap = torch.minimum(begin + width, pixels + 1) - torch.maximum(begin, pixels)
    smaller_BSS = overlap.clamp(min=0) / width
    place = ((pixels[:, None] + 0.5) / width - 0.5).clamp(min=0).minimum(sides - 1)
    larger_BSS = (1 - (place - pixels).abs()).clamp(min=0)
    return larger_BSS @ smaller_BSS


def _rectangle(u_B4: Tensor, size: int, share: tuple[float, float], ratio: tuple[float, float]) -> Tensor:
    """Return where a pixel is inside a rectangle with a share of the area and a ratio of its sides in the given ranges:
    [B, 1, S, S]."""
    area = size * size * (share[0] + (share[1] - share[0]) * u_B4[:, 0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = torch.exp(low + (high - low) * u_B4[:, 1])
    height, width = (area * shape).sqrt().round().clamp(1, size), (area / shape).sqrt().round().clamp(1, size)
    top, left = (u_B4[:, 2] * (size - height + 1)).floor(), (u_B4[:, 3] * (size - width + 1)).floor()
    line = torch.arange(size, device=u_B4.device)
    rows = (line >= top[:, None]) & (line < (top + height)[:, None])
    columns = (line >= left[:, None]) & (line < (left + width)[:, None])
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def _noise(x: Tensor, u_B: Tensor) -> Tensor:
    """Return uniform noise in [-1, 1), the same for the same number of an image: a hash of it and of the place."""
    place = torch.arange(x[0].numel(), device=x.device, dtype=torch.float32).view(1, *x.shape[1:])
    return torch.frac(torch.sin(place * 12.9898 + u_B[:, None, None, None] * 78233.0) * 43758.547).abs() * 2 - 1
