"""Margin heads, which change the cosine of an image to the centre of its own class. Other cosines stay as they are.

B: images of a batch.
"""

import math

import torch
from torch import Tensor


def arcface(target_B: Tensor, margin: float) -> Tensor:
    """ArcFace (Deng et al., CVPR 2019): cos(theta + m).

    Paper: theta + m is used as it stands. Here: where it exceeds pi, cosine minus m sin m instead, as the authors' code
    does, so that the loss falls with theta everywhere.

    Args:
        target_B: cosines in [-1, 1].
        margin: m, radians.
    """
    sine_B = (1.0 - target_B.square()).clamp(min=1e-12).sqrt()
    turned_B = target_B * math.cos(margin) - sine_B * math.sin(margin)
    return torch.where(target_B > math.cos(math.pi - margin), turned_B, target_B - margin * math.sin(margin))


def cosface(target_B: Tensor, margin: float) -> Tensor:
    """CosFace (Wang et al., CVPR 2018): cosine - m."""
    return target_B - margin


def adaface(target_B: Tensor, quality_B: Tensor, margin: float) -> Tensor:
    """AdaFace (Kim, Jain and Liu, CVPR 2022), equation 12: cos(theta - m q) - (m q + m) for quality q in [-1, 1].

    Args:
        target_B: cosines in [-1, 1].
        quality_B: quality of the images, from their feature norms: see `FeatureNorms`.
        margin: m, both the largest angle (radians) and half of the largest cosine that is taken off.
    """
    theta_B = torch.acos(target_B.clamp(-1 + 1e-6, 1 - 1e-6))
    turned_B = (theta_B - margin * quality_B).clamp(1e-3, math.pi - 1e-3)
    return torch.cos(turned_B) - margin * (1 + quality_B)


class FeatureNorms:
    """Feature norms as AdaFace's measure of image quality: standardised by running mean and deviation, times h, cut.

    Paper: exponential moving averages with momentum 0.99 and h = 0.333 (section 3.3). Here the same; the start (20 and
    100) and the cut of norms to [0.001, 100] are the authors' code's.
    """

    def __init__(self, concentration: float = 0.333, momentum: float = 0.99) -> None:
        self.concentration, self.momentum = concentration, momentum
        self.mean, self.deviation = 20.0, 100.0

    def quality(self, norms_B: Tensor) -> Tensor:
        """Return quality in [-1, 1] of the images of a batch, which count towards the running values first."""
        norms_B = norms_B.detach().clamp(0.001, 100.0)
        kept = self.momentum
        self.mean = kept * self.mean + (1 - kept) * float(norms_B.mean())
        self.deviation = kept * self.deviation + (1 - kept) * float(norms_B.std())
        return ((norms_B - self.mean) / (self.deviation + 1e-3) * self.concentration).clamp(-1.0, 1.0)
