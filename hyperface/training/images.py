"""The images of a training as it sees them: a count, labels, and any stretch of a seeded order, a new one for each
epoch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Item:
    """An image of the order."""

    name: str
    label: int
    read: Callable[[], bytes]
    """Function that returns its encoded bytes; called once, in whatever thread decodes it."""


class Images(Protocol):
    """A labelled set of images."""

    @property
    def num_images(self) -> int: ...
    @property
    def num_classes(self) -> int:
        """Return the number of classes: labels are 0 to num_classes - 1, and each of them has an image."""
        ...

    @property
    def fingerprint(self) -> str:
        """Return a SHA-256, in hex, by which these images differ from others."""
        ...

    @property
    def fingerprint_of(self) -> str:
        """Return the sources of the fingerprint, in words."""
        ...

    @property
    def left_out(self) -> str:
        """Name the files that were found and are not among the images, to be said after their number; mostly empty."""
        ...

    def stretch(self, order: int, begin: int, end: int) -> Iterator[Item]:
        """Yield the images at positions [begin, end) of the order that the number `order` gives, 0 <= begin <= end <=
        N.

        Raises:
            RunError: an image cannot be read or has no class; names file and rule.
        """
        ...
