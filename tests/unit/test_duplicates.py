"""Near-duplicates: what two images must differ in, and which of several is kept."""

import itertools

import numpy as np
import pytest
from PIL import Image

from hyperface.dataset import jpeg
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


def plainly(identities: np.ndarray, images: np.ndarray, hashes: np.ndarray, least: int) -> list[bool]:
    """The definition, image by image."""
    repeats = [False] * len(images)
    for row in np.lexsort((images, identities)):
        repeats[row] = any(
            not repeats[other] and (int(hashes[row]) ^ int(hashes[other])).bit_count() < least
            for other in range(len(images))
            if identities[other] == identities[row] and images[other] < images[row]
        )
    return repeats


@pytest.mark.parametrize("least", [0, 1, 3, 20])
def test_duplicates_are_those_of_the_definition_whatever_the_order_and_the_numbers(least: int):
    random = np.random.default_rng(least)
    names = [(i, j) for i, j in itertools.product(range(20), range(9)) if random.uniform() < 0.7]
    rows = np.array(names)[random.permutation(len(names))]
    bases = random.integers(0, 2**63, 5, dtype=np.uint64)
    hashes = bases[random.integers(0, 5, len(rows))] ^ (
        np.uint64(1) << random.integers(0, 4, len(rows), dtype=np.uint64)
    )
    found = near_duplicates(rows[:, 0], rows[:, 1], hashes, least)
    assert found.tolist() == plainly(rows[:, 0], rows[:, 1], hashes, least)
    assert found.any() == (least > 0)


def test_images_of_two_identities_are_never_duplicates_of_each_other():
    same = np.full(4, 7, dtype=np.uint64)
    assert not near_duplicates(np.arange(4), np.zeros(4, dtype=np.int64), same, 64).any()
    assert near_duplicates(np.zeros(4, dtype=np.int64), np.arange(4), same, 1).tolist() == [False, True, True, True]


def test_no_images_have_no_duplicates():
    none = np.zeros(0, dtype=np.int64)
    assert near_duplicates(none, none, none.astype(np.uint64), 5).tolist() == []
