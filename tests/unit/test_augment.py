"""Augmentation: each change alone, none by default, and an image's own whatever its batch."""

import pytest
import torch
from torch import Tensor

from hyperface.training.recognizer.augment import NUMBERS, Augmentation, augment

NONE = {"flip": 0.0, "erasing": 0.0, "crop": 0.0, "low_resolution": 0.0, "photometric": 0.0}


def faces(count: int = 6, size: int = 16) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def numbers(count: int = 6) -> Tensor:
    return torch.rand(count, NUMBERS, generator=torch.Generator().manual_seed(2))


def changed(**chosen: float) -> Tensor:
    return augment(faces(), numbers(), Augmentation(**{**NONE, **chosen}))


def test_without_any_change_images_stay_as_they_are():
    torch.testing.assert_close(changed(), faces(), rtol=0, atol=0)


def test_a_flip_mirrors_left_and_right():
    torch.testing.assert_close(changed(flip=1.0), faces().flip(3), rtol=0, atol=0)


def test_erasing_changes_one_rectangle_of_at_most_a_third():
    differs = (changed(erasing=1.0) != faces()).any(1)
    for image in differs:
        rows, columns = image.any(1).nonzero()[:, 0], image.any(0).nonzero()[:, 0]
        assert image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
        assert 0 < image.sum() <= 0.45 * image.numel()


def test_a_crop_leaves_one_rectangle_and_black_around_it():
    cropped = changed(crop=1.0)
    black = (cropped == -1).all(1)
    assert black.any()
    kept = ~black[:, None].expand_as(cropped)
    torch.testing.assert_close(cropped[kept], faces()[kept])
    assert ((~black).float().mean((1, 2)) >= 0.15).all()


def test_low_resolution_takes_detail_and_keeps_the_mean():
    coarse = changed(low_resolution=1.0)
    assert coarse.std() < 0.9 * faces().std()
    torch.testing.assert_close(coarse.mean((2, 3)), faces().mean((2, 3)), rtol=0, atol=0.15)


def test_low_resolution_of_a_plain_image_changes_nothing():
    plain = torch.full((4, 3, 16, 16), 0.3)
    found = augment(plain, numbers(4), Augmentation(**{**NONE, "low_resolution": 1.0}))
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-5)


def test_photometric_stays_in_range_and_keeps_grey_grey():
    found = changed(photometric=1.0)
    assert found.abs().max() <= 1 + 1e-6
    assert not torch.allclose(found, faces())
    grey = faces().mean(1, keepdim=True).expand(-1, 3, -1, -1)
    recoloured = augment(grey, numbers(), Augmentation(**{**NONE, "photometric": 1.0}))
    torch.testing.assert_close(recoloured[:, 0], recoloured[:, 2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("change", list(NONE))
def test_an_image_depends_on_its_own_numbers_only(change: str):
    chosen = Augmentation(**{**NONE, change: 0.5})
    together = augment(faces(), numbers(), chosen)
    alone = torch.cat([augment(faces()[i : i + 1], numbers()[i : i + 1], chosen) for i in range(6)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert 0 < (together != faces()).flatten(1).any(1).sum() < 6
