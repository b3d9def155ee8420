"""The size of a batch, found by trial."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch

from hyperface.synthesis.batches import best_batch_size


@dataclass
class Device:
    """Draws in a time of its own: some for each call, some for each image beyond what runs side by side."""

    side_by_side: int
    memory: int
    error: Callable[[str], BaseException] = MemoryError
    now: float = 0.0
    tried: list[int] = field(default_factory=list)

    def draw(self, size: int) -> None:
        self.tried.append(size)
        if size > self.memory:
            raise self.error(f"{size} images do not fit")
        self.now += max(size, self.side_by_side) + 0.01

    def clock(self) -> float:
        return self.now


@pytest.mark.parametrize(("side_by_side", "best"), [(1, 1), (4, 4), (8, 8), (100, 64)])
def test_the_size_doubles_for_as_long_as_it_makes_images_faster(side_by_side: int, best: int):
    device = Device(side_by_side, memory=1000)
    assert best_batch_size(device.draw, 64, device.clock) == best


def no_memory(message: str) -> RuntimeError:
    return RuntimeError(f"DefaultCPUAllocator: can't allocate memory: {message}")


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError, no_memory])
def test_the_size_is_half_of_what_fits_when_memory_is_full(error: Callable[[str], BaseException]):
    device = Device(side_by_side=100, memory=20, error=error)
    assert best_batch_size(device.draw, 64, device.clock) == 8
    assert max(device.tried) == 32


def test_no_more_images_are_tried_than_a_shard_has():
    device = Device(side_by_side=100, memory=1000)
    assert best_batch_size(device.draw, 5, device.clock) == 4
    assert max(device.tried) == 4


def test_an_error_of_a_single_image_goes_up():
    device = Device(side_by_side=1, memory=0)
    with pytest.raises(MemoryError, match="1 images do not fit"):
        best_batch_size(device.draw, 8, device.clock)


def test_another_error_goes_up():
    device = Device(side_by_side=100, memory=4, error=RuntimeError)
    with pytest.raises(RuntimeError, match="8 images do not fit"):
        best_batch_size(device.draw, 64, device.clock)
