"""One rank of a training, as the loop and the records that all trainings share see it.

Shape legend: b images of this rank in a step, S pixels a side.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hyperface.config import TrainConfig, TrainGeneratorConfig
from hyperface.distributed.checkpoints import Checkpoints
from hyperface.distributed.place import Place, Stepped
from hyperface.training.images import Images
from hyperface.training.loader import Steps


class Training(ABC):
    """The state of a training on one rank: random weights first, or those of a checkpoint that is read."""

    config: TrainConfig | TrainGeneratorConfig
    parallel: nn.Module
    """The network, with gradients averaged over ranks."""

    def __init__(
        self, config: TrainConfig | TrainGeneratorConfig, images: Images, place: Place, image_size: int
    ) -> None:
        """
        Args:
            images: at least a batch of images.
            image_size: pixels a side.
        """
        self.config, self.images, self.place, self.image_size = config, images, place, image_size
        self.steps = Steps(images.num_images, config.batch_size, config.streams)
        assert self.steps.count >= 1, self.steps
        self.step = 0
        """Number of steps taken."""
        self.seconds = 0.0
        """Seconds spent in steps, the training's earlier parts included."""

    @property
    def last_step(self) -> int:
        return self.steps.count * self.config.epochs

    @property
    def shared_rows(self) -> Sequence[int]:
        """Rows that each rank writes of what is divided among ranks; empty where all have the same."""
        return ()

    @abstractmethod
    def prepare(self, say: Callable[[str], None]) -> None:
        """Do what is to be done once the state is there, before the first step. Every rank calls it."""

    @abstractmethod
    def take(self, images_bSSC: NDArray[np.uint8], labels_b: NDArray[np.int64]) -> Stepped:
        """Take one step on the own images [b, S, S, 3] and labels [b]. Every rank calls it."""

    @abstractmethod
    def write(self, checkpoints: Checkpoints) -> dict[str, Any]:
        """Write this rank's part of the checkpoint at `step`; return the numbers that its marker has to hold."""

    @abstractmethod
    def read(self, checkpoints: Checkpoints, step: int) -> None:
        """Take the state that any number of ranks wrote. Raises RunError: an object is missing or damaged."""

    @abstractmethod
    def result(self) -> tuple[bytes, dict[str, Any]]:
        """Return the network as its file holds it, and what the summary says of it."""
