"""Batches of decoded images, read ahead by threads; the same images in the same order for any number of workers.

A batch is drawn from L streams at once, each of which walks through its own L-th of the epoch's order, as MosaicML
Streaming does with its canonical nodes. A worker has whole streams: the images of a step do not depend on who reads
them, and a training goes on with more or fewer workers from any step.

Shape legend: N images of the dataset, B of a step, L streams, m = B / L images of a stream in a step, b images of this
worker in a step, S pixels a side.
"""

import itertools
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyperface.errors import RunError
from hyperface.faces.pictures import decode
from hyperface.models.iresnet import STRIDE
from hyperface.run.seeds import seed_of
from hyperface.training.images import Images, Item

AHEAD = 3
"""Number of steps that are read before they are asked for."""

TOGETHER = 8
"""Number of images that a thread decodes at a time."""

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images [n, S, S, 3] and their labels [n]."""
Decoded = Future[Part]


@dataclass(frozen=True)
class Steps:
    """The division of an epoch into steps."""

    num_images: int
    batch_size: int
    streams: int

    @property
    def count(self) -> int:
        """Return the number of steps of an epoch; what is left of its order is another choice in each epoch."""
        return self.num_images // self.batch_size

    @property
    def each(self) -> int:
        """Return the number of images of a stream in a step."""
        return self.batch_size // self.streams

    def stretch(self, stream: int, first_step: int) -> tuple[int, int]:
        """Return positions [begin, end) of a stream from a step on."""
        start = stream * self.num_images // self.streams
        return start + first_step * self.each, start + self.count * self.each


def order_of(seed: int, epoch: int) -> int:
    """Return the number that the order of an epoch is made from, in [0, 2^63)."""
    return seed_of("epoch", seed, epoch)


def image_size(images: Images) -> int:
    """Return the pixels a side of the dataset's images, by its first one. Raises RunError when no network takes
    such."""
    item = next(iter(images.stretch(0, 0, 1)))
    height, width = (int(side) for side in _pixels(item).shape[:2])
    if height != width or height % STRIDE:
        rule = f"images must be square, with a multiple of {STRIDE} pixels a side"
        raise RunError(f"{item.name}: {rule}; it has {width}x{height}; align the faces first")
    return height


def batches(
    images: Images, steps: Steps, own: slice, order: int, first_step: int, size: int, threads: int
) -> Generator[Part, None, None]:
    """Yield images uint8 RGB [b, S, S, 3] and labels [b] of this worker, from a step to the end of the epoch.

    Args:
        own: the streams of this worker.
        size: pixels a side that every image must have.

    Raises:
        RunError: an image cannot be read, or has another size; names it.
    """
    streams = [images.stretch(order, *steps.stretch(stream, first_step)) for stream in range(own.start, own.stop)]
    with ThreadPoolExecutor(threads, thread_name_prefix="loader") as pool:

        def walk(stream: Iterator[Item], before: "Future[list[Decoded]] | None") -> "list[Decoded]":
            if before is not None:
                before.result()  # a stream is walked by one thread at a time, in order; its images by all
            items = list(itertools.islice(stream, steps.each))
            return [pool.submit(_pictures, items[i : i + TOGETHER], size) for i in range(0, len(items), TOGETHER)]

        waiting: deque[list[Future[list[Decoded]]]] = deque()
        try:
            for step in range(first_step, steps.count + AHEAD):
                if step < steps.count:
                    before = waiting[-1] if waiting else [None] * len(streams)
                    waiting.append([pool.submit(walk, s, b) for s, b in zip(streams, before, strict=True)])
                if step >= first_step + AHEAD and waiting:
                    parts = [part.result() for stream in waiting.popleft() for part in stream.result()]
                    yield np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _pictures(items: Sequence[Item], size: int) -> Part:
    return np.stack([_sized(item, size) for item in items]), np.array([item.label for item in items], np.int64)


def _sized(item: Item, size: int) -> NDArray[np.uint8]:
    pixels_HWC = _pixels(item)
    if pixels_HWC.shape != (size, size, 3):
        height, width, _ = pixels_HWC.shape
        raise RunError(f"{item.name}: all images must have one size, {size}x{size}; it has {width}x{height}")
    return pixels_HWC


def _pixels(item: Item) -> NDArray[np.uint8]:
    try:
        return decode(item.read())
    except FileNotFoundError as error:
        raise RunError(f"{item.name}: is gone; restore it, or train anew without it") from error
    except ValueError as error:
        raise RunError(f"{item.name}: {error}; restore it, or take it out of the dataset") from error
