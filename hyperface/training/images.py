"""What a training sees of its images: a count, labels, and any stretch of a seeded order, a new one for each epoch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Item:
    """An image of the order."""

    name: str
    label: int
    read: Callable[[], bytes]
    """Its encoded bytes; called once, in whatever thread decodes it."""


class Images(Protocol):
    """A labelled set of images."""

    @property
    def num_images(self) -> int: ...
    @property
    def num_classes(self) -> int:
        """Labels are 0 to num_classes - 1, and each of them has an image."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of what tells these images from others."""
        ...

    @property
    def fingerprint_of(self) -> str:
        """What the fingerprint is made from, in words."""
        ...

    @property
    def left_out(self) -> str:
        """Which files that were found are not among the images, to be said after their number; mostly empty."""
        ...

    def stretch(self, order: int, begin: int, end: int) -> Iterator[Item]:
        """The images at positions [begin, end) of the order that the number `order` gives, 0 <= begin <= end <= N.

        Raises:
            RunError: an image cannot be read or has no class; names file and rule.
        """
        ...
