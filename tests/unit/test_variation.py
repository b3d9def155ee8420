"""Variation within an identity keeps the distance that its formula promises."""

import numpy as np
import pytest

from hyperface.synthesis.variation import vary


def unit(d: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=d)
    return (x / np.linalg.norm(x)).astype(np.float32)


@pytest.mark.parametrize(("d", "beta"), [(512, 0.01), (512, 0.05), (128, 0.01), (128, 0.1), (512, 0.2)])
def test_the_mean_cosine_to_the_reference_is_the_expected_one(d: int, beta: float):
    x = unit(d)
    cosines = [float(x @ vary(x, seed, beta)) for seed in range(400)]
    assert np.mean(cosines) == pytest.approx(1 / np.sqrt(1 + d * beta**2), abs=0.01)


def test_the_result_is_a_unit_vector_of_the_same_type():
    varied = vary(unit(64), 7, 0.3)
    assert varied.dtype == np.float32
    assert np.linalg.norm(varied) == pytest.approx(1, abs=1e-6)


def test_the_seed_alone_decides_the_noise():
    x = unit(64)
    assert (vary(x, 2**63 - 1, 0.1) == vary(x, 2**63 - 1, 0.1)).all()
    assert (vary(x, 1, 0.1) != vary(x, 2, 0.1)).any()


def test_noise_has_no_favourite_direction():
    x = unit(32)
    mean = np.mean([vary(x, seed, 0.1) for seed in range(2000)], axis=0)
    assert mean @ x / np.linalg.norm(mean) > 0.999


def test_without_noise_the_reference_stays():
    assert vary(unit(16), 5, 0.0) == pytest.approx(unit(16), abs=1e-7)
