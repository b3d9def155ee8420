"""A training that is on its way, as what all trainings share sees it, and the way through its steps.

Shape legend: b images of this rank in a step, S pixels a side.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hyperface.config import TrainConfig, TrainGeneratorConfig
from hyperface.distributed.place import Place, Stepped
from hyperface.training import loader
from hyperface.training.images import Images
from hyperface.training.loader import Steps


class Underway(Protocol):
    """The state of a training on one rank."""

    images: Images
    image_size: int
    place: Place
    steps: Steps
    step: int
    """Steps taken."""
    seconds: float
    """Spent in steps, the training's earlier parts included."""

    @property
    def config(self) -> TrainConfig | TrainGeneratorConfig: ...
    @property
    def last_step(self) -> int: ...
    def run(self) -> Iterator[Stepped]: ...
    def take(self, images_bSSC: NDArray[np.uint8], labels_b: NDArray[np.int64]) -> Stepped: ...


def steps_left(training: Underway) -> Iterator[Stepped]:
    """Take the steps that are left, epoch after epoch, each in an order of its own."""
    config = training.config
    while training.step < training.last_step:
        epoch, first = divmod(training.step, training.steps.count)
        own, order = training.place.streams(config.streams), loader.order_of(config.seed, epoch)
        size, threads = training.image_size, config.loader_threads
        parts = loader.batches(training.images, training.steps, own, order, first, size, threads)
        with contextlib.closing(parts):
            began = time.monotonic()
            for images_bSSC, labels_b in parts:
                stepped = training.take(images_bSSC, labels_b)
                training.seconds += time.monotonic() - began
                yield stepped
                began = time.monotonic()


def take_steps(
    training: Underway, add: Callable[[Stepped], None], checkpoint_every: int, save: Callable[[], None]
) -> None:
    """Take them, telling each; save after each epoch, and after so many steps."""
    saved = training.step
    for stepped in training.run():
        add(stepped)
        if stepped.step % training.steps.count == 0 or stepped.step - saved >= checkpoint_every:
            save()
            saved = stepped.step
