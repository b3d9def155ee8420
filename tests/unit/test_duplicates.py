"""Near-duplicates: what two images must differ in, and which of several is kept."""

import numpy as np
import pytest
from PIL import Image

from hyperface.dataset import duplicates, jpeg
from hyperface.dataset.duplicates import difference_hash, from_text, near_duplicates, to_text


def picture(seed: int, size: int = 64) -> np.ndarray:
    """A smooth random picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))


def distance(one: np.ndarray, other: np.ndarray) -> int:
    return (difference_hash(one) ^ difference_hash(other)).bit_count()


def test_small_changes_keep_the_hash_near_and_other_pictures_are_far():
    for seed in range(10):
        one = picture(seed)
        brighter = np.clip(one.astype(int) + 9, 0, 255).astype(np.uint8)
        assert distance(one, one) == 0
        assert distance(one, jpeg.decode(jpeg.encode(one, 40))) <= 6
        assert distance(one, brighter) <= 6
        assert distance(one, picture(seed + 100)) >= 12


def test_hashes_survive_their_text():
    hashes = [0, 1, 2**64 - 1, difference_hash(picture(1))]
    assert from_text(to_text(hashes)).tolist() == hashes
    assert from_text("").tolist() == []


def plainly(hashes: np.ndarray, there: np.ndarray, least: int) -> list[list[bool]]:
    """The definition, image by image."""
    repeats = np.zeros(there.shape, dtype=bool)
    for i, j in zip(*np.nonzero(there), strict=True):
        repeats[i, j] = any(
            there[i, k] and not repeats[i, k] and (int(hashes[i, j]) ^ int(hashes[i, k])).bit_count() < least
            for k in range(j)
        )
    return repeats.tolist()


@pytest.mark.parametrize("least", [0, 1, 3, 20])
def test_duplicates_are_those_of_the_definition_whatever_is_missing(least: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(duplicates, "_HASHES_AT_A_TIME", 30)  # three identities at a time
    random = np.random.default_rng(least)
    there = random.uniform(size=(20, 9)) < 0.7
    bases = random.integers(0, 2**63, 5, dtype=np.uint64)
    hashes = bases[random.integers(0, 5, there.shape)] ^ (
        np.uint64(1) << random.integers(0, 4, there.shape, dtype=np.uint64)
    )
    found = near_duplicates(hashes, there, least)
    assert found.tolist() == plainly(hashes, there, least)
    assert found.any() == (least > 0)


def test_images_of_two_identities_are_never_duplicates_of_each_other():
    same = np.full(4, 7, dtype=np.uint64)
    there = np.ones(4, dtype=bool)
    assert not near_duplicates(same[:, None], there[:, None], 64).any()
    assert near_duplicates(same[None], there[None], 1).tolist() == [[False, True, True, True]]
