"""A disk that is full when one file is written."""

from dataclasses import dataclass

from hyperface.errors import StorageError
from hyperface.storage import LocalStore


@dataclass(frozen=True)
class FullDisk(LocalStore):
    refused: str = ""
    """Ending of the name of that file."""

    def put(self, name: str, data: bytes) -> None:
        self._refuse(name)
        super().put(name, data)

    def put_new(self, name: str, data: bytes) -> bool:
        self._refuse(name)
        return super().put_new(name, data)

    def _refuse(self, name: str) -> None:
        if name.endswith(self.refused):
            raise StorageError(f"{self.uri(name)}: cannot be written: No space left on device")
