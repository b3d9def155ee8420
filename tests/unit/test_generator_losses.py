"""Losses of a generator's training, against sums written out plainly."""

import math

import torch
from torch import Tensor

from hyperface.training.generator.discriminator import PatchDiscriminator
from hyperface.training.generator.losses import (
    balance,
    discriminator_loss,
    identity_distance,
    perceptual_distance,
    ssim,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def ssim_at(a: Tensor, b: Tensor) -> float:
    """Compute SSIM of one window of 11 x 11 in one channel, weighted as Wang et al. do."""
    places = [(row - 5, column - 5) for row in range(11) for column in range(11)]
    weights = torch.tensor([math.exp(-(r * r + c * c) / (2 * 1.5**2)) for r, c in places]).reshape(11, 11)
    weights = weights / weights.sum()
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    variance_a, variance_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
    covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    light = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return float(light * (2 * covariance + c2) / (variance_a + variance_b + c2))


def test_structural_similarity_is_the_mean_over_all_windows():
    a, b = noise(2, 3, 13, 12), noise(2, 3, 13, 12, seed=1) * 0.3
    b[1] += 0.5 * a[1]
    found = ssim(a, b)
    for image in range(2):
        windows = [
            ssim_at(a[image, c, r : r + 11, s : s + 11], b[image, c, r : r + 11, s : s + 11])
            for c in range(3)
            for r in range(3)
            for s in range(2)
        ]
        assert abs(float(found[image]) - sum(windows) / len(windows)) < 1e-5
    assert found[1] > found[0] + 0.1
    assert torch.allclose(ssim(a, a), torch.ones(2))


def test_feature_maps_are_compared_by_direction_pixel_by_pixel_and_image_by_image():
    a, b = [noise(2, 4, 3, 3), noise(2, 5, 2, 2)], [noise(2, 4, 3, 3, seed=1), noise(2, 5, 2, 2, seed=2)]
    for image in range(2):
        total = 0.0
        for one, other in zip(a, b, strict=True):
            sides = range(one.shape[2])
            cells = [(one[image, :, r, c], other[image, :, r, c]) for r in sides for c in sides]
            total += sum(float(((x / x.norm() - y / y.norm()) ** 2).sum()) for x, y in cells) / len(cells)
        assert abs(float(perceptual_distance(a, b)[image]) - total) < 1e-5
    assert perceptual_distance(a, [3 * maps for maps in a]).abs().max() < 1e-6


def test_identity_is_a_cosine():
    rows = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    assert torch.allclose(identity_distance(rows, torch.tensor([[6.0, 8.0], [0.0, 2.0]])), torch.tensor([0.0, 1.0]))


def test_a_discriminator_that_is_sure_learns_no_more_and_one_that_errs_does():
    sure, wrong = torch.full((2, 1, 3, 3), 1.5), torch.full((2, 1, 3, 3), -1.5)
    assert float(discriminator_loss(sure, wrong)) == 0.0
    assert float(discriminator_loss(wrong, sure)) == 2.5


def test_a_discriminator_says_something_of_each_patch_and_of_an_image_whatever_its_batch():
    torch.manual_seed(0)
    discriminator, images = PatchDiscriminator(8), noise(3, 3, 32, 32)
    said = discriminator(images)
    assert said.shape == (3, 1, 4, 4)
    assert torch.allclose(said[1:2], discriminator(images[1:2]), atol=1e-5)


def test_the_adversary_pulls_as_hard_as_all_others_together_and_never_without_bound():
    assert abs(float(balance(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0]))) - 2.5) < 1e-3
    assert float(balance(torch.tensor([1e9]), torch.tensor([1e-9]))) == 1e4
