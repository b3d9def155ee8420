"""Variation within an identity keeps the distance that its formula promises."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from hyperface.config import SynthesisConfig
from hyperface.synthesis.variation import Variation, angle, chosen, gaussian, mixture, norm_preserving

Vary = Callable[[NDArray[np.float32], int, float], NDArray[np.float32]]
KINDS = [gaussian, angle, norm_preserving]


def unit(d: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=d)
    return (x / np.linalg.norm(x)).astype(np.float32)


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


@pytest.mark.parametrize(("d", "beta"), [(512, 0.01), (512, 0.05), (128, 0.01), (128, 0.1), (512, 0.2)])
def test_the_mean_cosine_of_gaussian_noise_is_the_expected_one(d: int, beta: float):
    cosines = [cosine(unit(d), gaussian(unit(d), seed, beta)) for seed in range(400)]
    assert np.mean(cosines) == pytest.approx(1 / np.sqrt(1 + d * beta**2), abs=0.01)


@pytest.mark.parametrize(("d", "bound"), [(512, 30.0), (128, 60.0), (3, 89.0)])
def test_an_angle_stays_below_its_bound_and_has_the_expected_cosine(d: int, bound: float):
    cosines = [cosine(unit(d), angle(unit(d), seed, bound)) for seed in range(800)]
    assert min(cosines) >= np.cos(np.deg2rad(bound)) - 1e-6
    assert np.mean(cosines) == pytest.approx(np.sin(np.deg2rad(bound)) / np.deg2rad(bound), abs=0.03)
    assert min(cosines) < np.cos(np.deg2rad(bound * 0.98)), "the bound is reached"


@pytest.mark.parametrize("sigma", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("length", [1.0, 22.0])
def test_noise_that_preserves_the_norm_has_the_expected_cosine_at_every_length(sigma: float, length: float):
    x = unit(512) * np.float32(length)
    varied = [norm_preserving(x, seed, sigma) for seed in range(200)]
    assert np.mean([cosine(x, y) for y in varied]) == pytest.approx(1 / np.sqrt(1 + sigma**2), abs=0.01)
    assert [float(np.linalg.norm(y)) for y in varied] == pytest.approx([length] * 200, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_result_is_a_unit_vector_of_the_same_type(kind: Vary):
    varied = kind(unit(64), 7, 0.3)
    assert varied.dtype == np.float32
    assert np.linalg.norm(varied) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_alone_decides_the_noise(kind: Vary):
    x = unit(64)
    assert (kind(x, 2**63 - 1, 0.1) == kind(x, 2**63 - 1, 0.1)).all()
    assert (kind(x, 1, 0.1) != kind(x, 2, 0.1)).any()


@pytest.mark.parametrize("kind", KINDS)
def test_noise_has_no_favourite_direction(kind: Vary):
    x = unit(32)
    mean = np.mean([kind(x, seed, 0.1) for seed in range(2000)], axis=0)
    assert cosine(mean, x) > 0.999


@pytest.mark.parametrize("kind", KINDS)
def test_without_noise_the_reference_stays(kind: Vary):
    assert kind(unit(16), 5, 0.0) == pytest.approx(unit(16), abs=1e-7)


@pytest.mark.parametrize("images", [1, 2, 3, 5, 7, 50, 64, 100])
def test_the_mixture_gives_each_sigma_its_share_of_any_number_of_images(images: int):
    dealt = Counter(mixture((0.3, 0.5, 0.7), (0.4, 0.4, 0.2), images, seed=3).tolist())
    assert sum(dealt.values()) == images
    for sigma, share in ((0.3, 0.4), (0.5, 0.4), (0.7, 0.2)):
        assert abs(dealt[sigma] - share * images) < 1
    if images % 5 == 0:
        assert dealt == Counter({0.3: images * 2 // 5, 0.5: images * 2 // 5, 0.7: images // 5})


@pytest.mark.parametrize("images", [1, 2, 3])
def test_few_images_have_each_sigma_as_often_as_its_share_says_over_many_identities(images: int):
    variation = Variation("norm_preserving", sigmas=(0.3, 0.5, 0.7), shares=(0.4, 0.4, 0.2))
    dealt = Counter(sigma for identity in range(1000) for sigma in variation.image_sigmas(0, identity, images))
    for sigma, share in ((0.3, 0.4), (0.5, 0.4), (0.7, 0.2)):
        assert dealt[sigma] == pytest.approx(1000 * share * images, abs=60)


def test_shares_that_add_up_to_one_but_for_rounding_deal_all_images():
    for seed in range(30):
        assert len(mixture((0.3, 0.5, 0.7), (0.333333, 0.333333, 0.333333), 100_000, seed)) == 100_000


def test_the_mixture_is_dealt_in_an_order_of_the_identitys_own():
    variation = Variation("norm_preserving", sigmas=(0.3, 0.5, 0.7), shares=(0.4, 0.4, 0.2))
    one, same, other = (variation.image_sigmas(0, identity, 50) for identity in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()
    assert sorted(one) == sorted(other)


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (SynthesisConfig(beta=0.2), gaussian(unit(64), 9, 0.2)),
        (SynthesisConfig(variation="angle", max_angle=40.0), angle(unit(64), 9, 40.0)),
        (SynthesisConfig(variation="norm_preserving"), norm_preserving(unit(64), 9, 0.5)),
    ],
)
def test_the_configuration_chooses_the_kind(config: SynthesisConfig, wanted: np.ndarray):
    assert (chosen(config).vary(unit(64), 9, 0.5) == wanted).all()
