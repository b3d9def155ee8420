"""The loader: every image once an epoch, in an order that no number of workers changes, and again from any step."""

import io
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from hyperface.distributed.ranks import even_sizes
from hyperface.errors import RunError
from hyperface.training.images import Item
from hyperface.training.loader import Steps, batches, order_of

SIZE = 4


def picture(number: int, size: int = SIZE) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), number, np.uint8)).save(sink, format="PNG")
    return sink.getvalue()


class Numbered:
    """Images that show their own number, in an order that is turned by the order's number."""

    def __init__(self, count: int, broken: int = -1, larger: int = -1) -> None:
        self.num_images, self.num_classes, self.fingerprint = count, count, ""
        self.broken, self.larger = broken, larger
        self.threads: set[int] = set()

    def stretch(self, order: int, begin: int, end: int) -> Iterator[Item]:
        for place in range(begin, end):
            number = (place + order) % self.num_images
            yield Item(f"image {number}", number, lambda number=number: self._read(number))

    def _read(self, number: int) -> bytes:
        self.threads.add(threading.get_ident())
        data = picture(number, SIZE + 1 if number == self.larger else SIZE)
        return data[:20] if number == self.broken else data


def labels(images: Numbered, steps: Steps, world: int = 1, order: int = 3, first: int = 0) -> list[list[int]]:
    """The labels of each step, of all workers in their order."""
    found: list[list[list[int]]] = []
    sizes = even_sizes(steps.streams, world)
    for rank in range(world):
        own = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        parts = list(batches(images, steps, own, order, first, SIZE, threads=3))
        for pixels, numbers in parts:
            assert pixels.shape == (len(numbers), SIZE, SIZE, 3)
            assert (pixels == numbers[:, None, None, None]).all()
        found.append([numbers.tolist() for _, numbers in parts])
    return [[label for rank in step for label in rank] for step in zip(*found, strict=True)]


@pytest.mark.parametrize(("count", "batch", "streams"), [(48, 8, 4), (50, 8, 4), (37, 6, 3), (9, 8, 8), (8, 8, 1)])
def test_an_epoch_shows_no_image_twice_and_leaves_out_less_than_a_batch(count: int, batch: int, streams: int):
    steps = Steps(count, batch, streams)
    seen = [label for step in labels(Numbered(count), steps) for label in step]
    assert len(seen) == len(set(seen)) == count // batch * batch


@pytest.mark.parametrize("world", [2, 3, 4])
def test_the_images_of_a_step_do_not_depend_on_the_number_of_workers(world: int):
    images, steps = Numbered(50), Steps(50, 12, 4)
    assert labels(images, steps, world) == labels(images, steps)


@pytest.mark.parametrize("world", [1, 3])
def test_an_epoch_goes_on_from_any_step(world: int):
    images, steps = Numbered(50), Steps(50, 8, 4)
    whole = labels(images, steps)
    for first in range(steps.count + 1):
        assert labels(images, steps, world, first=first) == whole[first:]


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {order_of(seed, epoch) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16
    assert all(0 <= order < 2**63 for order in orders)


def test_a_broken_image_is_named():
    with pytest.raises(RunError, match="image 11: cannot be decoded"):
        labels(Numbered(48, broken=11), Steps(48, 8, 4))


def test_an_image_of_another_size_is_named_with_both_sizes():
    with pytest.raises(RunError, match="image 11: all images must have one size, 4x4; it has 5x5"):
        labels(Numbered(48, larger=11), Steps(48, 8, 4))


def test_the_images_of_one_stream_are_decoded_by_several_threads():
    together = threading.Barrier(2, timeout=600)

    class Meeting(Numbered):
        def _read(self, number: int) -> bytes:
            if number in (0, 8):  # the first of two parts of one step
                together.wait()
            return super()._read(number)

    images = Meeting(16)
    assert labels(images, Steps(16, 16, 1), order=0) == [list(range(16))]
    assert not together.broken


def test_the_threads_of_a_loader_that_is_left_early_end():
    images = Numbered(48)
    running = batches(images, Steps(48, 8, 4), slice(0, 4), 0, 0, SIZE, threads=3)
    next(running)
    running.close()
    alive = {thread.ident for thread in threading.enumerate()}
    assert images.threads
    assert not images.threads & alive
