"""The margin heads against their published formulas, written out."""

import math

import pytest
import torch

from hyperface.training.recognizer.margins import FeatureNorms, adaface, arcface, cosface


def cosines(count: int = 50) -> torch.Tensor:
    return torch.linspace(-0.999, 0.999, count, dtype=torch.float64)


def test_arcface_is_the_cosine_of_the_angle_plus_the_margin():
    target = cosines()
    near = torch.acos(target) < math.pi - 0.5
    expected = torch.cos(torch.acos(target) + 0.5)
    torch.testing.assert_close(arcface(target, 0.5)[near], expected[near], rtol=0, atol=1e-9)


def test_arcface_falls_with_the_angle_also_beyond_pi():
    turned = arcface(cosines(), 0.5)
    assert (turned.diff() > 0).all()
    assert (turned < cosines()).all()


def test_cosface_takes_the_margin_off_the_cosine():
    torch.testing.assert_close(cosface(cosines(), 0.35), cosines() - 0.35)


@pytest.mark.parametrize("quality", [-1.0, -0.3, 0.0, 1.0])
def test_adaface_is_its_equation_twelve(quality: float):
    target, m = torch.linspace(-0.7, 0.9, 20, dtype=torch.float64), 0.4
    expected = torch.cos(torch.acos(target) - m * quality) - (m * quality + m)
    torch.testing.assert_close(adaface(target, torch.full_like(target, quality), m), expected, rtol=0, atol=1e-9)


def test_adaface_of_the_lowest_quality_is_arcface_and_of_the_mean_cosface():
    target = torch.linspace(-0.7, 0.9, 20, dtype=torch.float64)
    torch.testing.assert_close(adaface(target, torch.full_like(target, -1), 0.4), arcface(target, 0.4))
    torch.testing.assert_close(adaface(target, torch.zeros_like(target), 0.4), cosface(target, 0.4))


def test_gradients_of_the_heads_are_finite_at_both_ends_of_the_cosine():
    for head in (lambda t: arcface(t, 0.5), lambda t: cosface(t, 0.35), lambda t: adaface(t, torch.ones_like(t), 0.4)):
        target = torch.tensor([-1.0, 1.0], requires_grad=True)
        torch.autograd.backward(head(target).sum())
        assert target.grad is not None
        assert torch.isfinite(target.grad).all()


def test_quality_is_the_standardised_norm_by_running_values():
    norms, batch = FeatureNorms(concentration=0.5, momentum=0.9), torch.tensor([10.0, 20.0, 30.0, 60.0])
    quality = norms.quality(batch)
    mean, deviation = 0.9 * 20 + 0.1 * 30, 0.9 * 100 + 0.1 * float(batch.std())
    assert (norms.mean, norms.deviation) == pytest.approx((mean, deviation))
    torch.testing.assert_close(quality, (batch - mean) / (deviation + 1e-3) * 0.5)
    assert norms.quality(torch.tensor([1e9, -5.0])).abs().max() <= 1
