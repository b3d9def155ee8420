"""The interface of every place for bytes."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Self

from hyperface.errors import StorageError

LARGEST_OBJECT = 5 * 2**30
"""Most bytes that S3 takes in one PUT. Only a single PUT is conditional on every server: multipart uploads are not."""

LARGEST_TEXT = 256 * 2**20
"""Most bytes that are read of a file of words and numbers; an index of 300,000 shards has fewer."""
TEXTS = (".json", ".jsonl", ".yaml")
NAMES = 1000
"""Most names that `Store.names` gives: S3 lists as many at a time."""


@dataclass(frozen=True)
class Stat:
    """The facts that a store knows of a name without reading it."""

    bytes: int
    etag: str
    """The object's ETag without quotes; empty on a local disk."""


@dataclass(frozen=True)
class Store(ABC):
    """A place for named bytes. Names are relative, with forward slashes."""

    url: str
    """Absolute path, or s3://bucket/prefix, of the place."""

    def __str__(self) -> str:
        return self.url

    def uri(self, name: str) -> str:
        return f"{self.url}/{name}" if name else self.url

    @abstractmethod
    def list(self, prefix: str = "") -> dict[str, int]:
        """Return {name: size in bytes} of everything whose name begins with the folder `prefix`, found by one
        listing."""

    def list_all(self) -> dict[str, int]:
        """List a source that others made, whose every file has to be accounted for: also what is hidden, and what
        cannot be read, such as a pipe or a link to nothing (0 bytes)."""
        return self.list()

    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Files and folders directly in here, the latter with a slash at their end; the first `NAMES` of them."""

    @abstractmethod
    def stat(self, name: str) -> Stat | None:
        """Size and ETag; None when the name holds nothing."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """A seekable reader. Raises FileNotFoundError."""

    @abstractmethod
    def put_new(self, name: str, data: bytes) -> bool:
        """Write all of `data`, or nothing if the name is taken; return whether this call wrote it."""

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Write all of `data` in place of whatever the name held."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove the name if it is there."""

    def read(self, name: str) -> bytes:
        """All bytes. Raises FileNotFoundError, and StorageError for a text of over LARGEST_TEXT."""
        self.refuse_large(name, self.size(name) or 0)
        with self.open(name) as file:
            return file.read()

    def refuse_large(self, name: str, size: int) -> None:
        """Raise StorageError where a configuration, a marker or a record is too large to be one."""
        if name.endswith(TEXTS) and size > LARGEST_TEXT:
            fix = "it is damaged or somebody else's: restore it, or take it away"
            raise StorageError(f"{self.uri(name)}: has {size} bytes; at most {LARGEST_TEXT} are read of it; {fix}")

    def size(self, name: str) -> int | None:
        """Bytes under that name; None when it holds nothing."""
        found = self.stat(name)
        return None if found is None else found.bytes

    def exists(self, name: str) -> bool:
        return self.stat(name) is not None

    def holds(self, name: str, data: bytes) -> bool:
        """Return whether exactly these bytes are under the name."""
        return self.size(name) == len(data) and self.read(name) == data

    def reach(self) -> None:  # noqa: B027  a disk is always there
        """Raise StorageError within seconds if nothing answers. A job calls it first, before it is patient."""

    def hasty(self, patience_s: float, answer_s: float) -> Self:
        """Return the same store, whose requests are given up sooner.

        Args:
            patience_s: seconds for which a request is tried again.
            answer_s: seconds without a byte after which a request is believed lost.
        """
        return self

    def prepared(self) -> Self:
        """Return the store as a job that writes is to use it, once it is known what the server can do.

        Raises:
            StorageError: nothing answers, or nothing may be written.
        """
        return self

    def sweep(self, is_ours: Callable[[str], bool]) -> None:  # noqa: B027  a bucket holds nothing half-written
        """Remove what killed writers left.

        Args:
            is_ours: returns whether a name directly in here, as `names` gives it, is one that they write.
        """

    @property
    def one_writer_wins(self) -> bool:
        """Return whether `put_new` is decided by the storage itself. If not, only one driver at a time may write."""
        return True
