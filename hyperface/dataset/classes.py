"""Class labels and positions of a dataset's images, from its plan and the images that are not there. Pure.

Images are put in the order (identity, image); a position counts them from 0. Labels number the identities that have an
image from 0, because a trainer's last layer has one row per class and none to spare.

A: absent images, C: classes, R: any rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hyperface.dataset.plan import key


@dataclass(frozen=True)
class Classes:
    """Images of a plan without the absent ones. Memory: 8 bytes per identity and per absent image."""

    first_identity: int
    num_identities: int
    images_per_identity: int
    absent_A: NDArray[np.int64]
    """Sorted numbers `row * images_per_identity + image` of the images that are left out."""

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Return the number of images of each planned identity."""
        absent = np.bincount(self.absent_A // self.images_per_identity, minlength=self.num_identities)
        return self.images_per_identity - absent.astype(np.int64)

    @cached_property
    def identities_C(self) -> NDArray[np.int64]:
        """The identity behind each label, ascending."""
        return self.first_identity + np.flatnonzero(self.counts)

    @cached_property
    def starts_C(self) -> NDArray[np.int64]:
        """Position of the first image of each label."""
        counts_C = self.counts[self.counts > 0]
        return np.cumsum(counts_C) - counts_C

    @property
    def num_images(self) -> int:
        return self.num_identities * self.images_per_identity - len(self.absent_A)

    @property
    def without_images(self) -> int:
        """Return the number of planned identities that are no class."""
        return self.num_identities - len(self.identities_C)

    def labels(self, identities_R: NDArray[np.int64]) -> NDArray[np.int64]:
        """The label of each identity; every identity must have an image."""
        return np.searchsorted(self.identities_C, identities_R).astype(np.int64)

    def positions(self, identities_R: NDArray[np.int64], images_R: NDArray[np.int64]) -> NDArray[np.int64]:
        """The position of each image; every image must be there."""
        numbers_R = (identities_R - self.first_identity) * self.images_per_identity + images_R
        return numbers_R - np.searchsorted(self.absent_A, numbers_R)

    def images(self, label: int) -> NDArray[np.int64]:
        """The image numbers of a class, ascending."""
        first = (int(self.identities_C[label]) - self.first_identity) * self.images_per_identity
        begin, end = np.searchsorted(self.absent_A, (first, first + self.images_per_identity))
        return np.delete(np.arange(self.images_per_identity), self.absent_A[begin:end] - first)

    def rows(self) -> Iterator[tuple[int, str]]:
        """Yield (label, key) of every image, by position."""
        for label, identity in enumerate(self.identities_C):
            for image in self.images(label):
                yield label, key(int(identity), int(image))

    def table(self) -> bytes:
        """The mapping as CSV: `label,identity,images`, one line per class."""
        counts_C = self.counts[self.counts > 0]
        rows = enumerate(zip(self.identities_C, counts_C, strict=True))
        lines = [f"{label},{identity},{count}\n" for label, (identity, count) in rows]
        return "".join(["label,identity,images\n", *lines]).encode()


def classes(
    first_identity: int, num_identities: int, images_per_identity: int, absent: list[tuple[int, int]]
) -> Classes:
    """Build the classes of a plan; `absent` are (identity, image) of what is left out, in any order, without
    repeats."""
    numbers = [(identity - first_identity) * images_per_identity + image for identity, image in absent]
    return Classes(first_identity, num_identities, images_per_identity, np.array(sorted(numbers), dtype=np.int64))
