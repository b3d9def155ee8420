"""The small world of `color_world` with gradients: images that can be steered, and a reader of two attributes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from color_world import BLOCK, SIZE, ColorGenerator, ColorRecognizer
from torch import Tensor

from hyperface.models.protocols import AttributeRange, Models

RANGES = {"red": AttributeRange(-1.0, 1.0, tolerance=0.1), "blue": AttributeRange(-1.0, 1.0, 0.1, at_least=True)}
STEERED = ("synthesis.generator=toy_diffusion", "control.targets.red=[-0.2,0.2]", "synthesis.min_cosine=0.6")


@dataclass(frozen=True)
class SteerableGenerator(ColorGenerator):
    """Colours spell the embedding; gradients pass."""

    def decode(self, embeddings_BD: Tensor, seeds_B: Sequence[int]) -> Tensor:
        if self.fail_every and any(seed % self.fail_every == 0 for seed in seeds_B):
            raise ValueError("latents are not finite")
        colours = (embeddings_BD * (120 / 127.5)).reshape(-1, 2, 2, 3).permute(0, 3, 1, 2)
        return colours.repeat_interleave(BLOCK, 2).repeat_interleave(BLOCK, 3)


@dataclass(frozen=True)
class SteerableRecognizer(ColorRecognizer):
    def features_of(self, images_BCHW: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(images_BCHW, BLOCK).permute(0, 2, 3, 1).flatten(1)


@dataclass(frozen=True)
class Reader:
    """Red and blue of the first block."""

    image_size: int = SIZE
    fingerprint: str = "a7" * 32
    ranges: dict[str, AttributeRange] = field(default_factory=lambda: dict(RANGES))

    def values(self, images_BCHW: Tensor) -> Tensor:
        return images_BCHW[:, [0, 2], :BLOCK, :BLOCK].mean((2, 3))


def models(**given: Any) -> Models:
    return replace(Models(SteerableGenerator(), SteerableRecognizer(), attributes=Reader()), **given)
