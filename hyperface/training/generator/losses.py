"""The losses of the training of Vec2Face (Wu et al., ICLR 2025): the distance of a made image from the one that was
wanted.

Shape legend: B images, C channels, H = W pixels, D feature dimension.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d, cosine_similarity, normalize, relu

_WINDOW, _SPREAD = 11, 1.5
"""Pixels a side, and standard deviation, of the window in which SSIM compares."""
_RANGE = 2.0
"""Range of images in [-1, 1]."""
_LARGEST_BALANCE = 1e4


def ssim(made: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean structural similarity (Wang et al., 2004) of images [B, C, H, W] in [-1, 1], H and W at least 11:
    [B]."""
    channels = made.shape[1]
    places = torch.arange(_WINDOW, device=made.device, dtype=made.dtype) - _WINDOW // 2
    bell = torch.exp(-0.5 * (places / _SPREAD).square())
    bell = bell / bell.sum()
    kernel = (bell[:, None] * bell).expand(channels, 1, _WINDOW, _WINDOW)
    five = torch.stack([made, wanted, made * made, wanted * wanted, made * wanted], 1).flatten(0, 1)
    means = conv2d(five, kernel, groups=channels)
    mean_a, mean_b, square_a, square_b, product = means.reshape(-1, 5, *means.shape[1:]).unbind(1)
    variance_a, variance_b = square_a - mean_a.square(), square_b - mean_b.square()
    covariance = product - mean_a * mean_b
    c1, c2 = (0.01 * _RANGE) ** 2, (0.03 * _RANGE) ** 2
    light = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    similar_B: Tensor = (light * structure).flatten(1).mean(1)
    return similar_B


def perceptual_distance(made: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Return the distance of feature maps [B, C, H, W], summed over stages: [B].

    Paper: LPIPS (Zhang et al., CVPR 2018), whose channels are weighted by human judgement, on a network of its own.
    Here: as LPIPS without those weights, on the recogniser's maps, because they are here and nothing is fetched. Every
    pixel's channels have norm 1 before they are compared.
    """
    distances = [
        (normalize(a.float(), dim=1, eps=1e-6) - normalize(b.float(), dim=1, eps=1e-6)).square().sum(1).mean((1, 2))
        for a, b in zip(made, wanted, strict=True)
    ]
    return torch.stack(distances).sum(0)


def identity_distance(made_BD: Tensor, wanted_BD: Tensor) -> Tensor:
    """Return 1 - cosine of features: [B]."""
    return 1 - cosine_similarity(made_BD, wanted_BD)


def discriminator_loss(real: Tensor, made: Tensor) -> Tensor:
    """Return the hinge loss (Lim and Ye, arXiv 1705.02894) of what a discriminator says of patches; a scalar."""
    return 0.5 * (relu(1 - real).mean() + relu(1 + made).mean())


def balance(of_others: Tensor, of_adversary: Tensor) -> Tensor:
    """Return the factor of the adversarial term with which its gradient at the last layer is as long as the others'
    (Esser et al., VQGAN, CVPR 2021); a scalar."""
    ratio: Tensor = of_others.norm() / (of_adversary.norm() + 1e-4)
    return ratio.clamp(0.0, _LARGEST_BALANCE).detach()
