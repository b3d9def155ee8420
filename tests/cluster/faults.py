"""Stores and generators that fail once, at a point that a test names."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray
from color_world import ColorGenerator
from numpy.typing import NDArray

from hyperface.errors import StorageError
from hyperface.storage import LocalStore

INSIDE: list[int] = []
"""One for each thread in the generator of this process."""


def first(flag: str) -> bool:
    """Return whether nobody has been here before, in any process."""
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def die(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True)
class LedgerStore(LocalStore):
    """A disk that notes every `put_new` in a file, and can kill its process at a marker."""

    ledger: str = ""
    before: str = ""
    """Flag of a kill before a marker is written; empty: none."""
    after: str = ""
    """Flag of a kill after a marker was written; empty: none."""

    def put_new(self, name: str, data: bytes) -> bool:
        marker = "_done" in name
        if marker and self.before and first(self.before):
            die(os.getpid())
        self._note("asked", name)
        won = super().put_new(name, data)
        self._note("new" if won else "adopted", name)
        if marker and self.after and first(self.after):
            die(os.getpid())
        return won

    def noted(self, kind: str) -> list[str]:
        """Names of the shards' files that were written (`new`) or found with the same bytes (`adopted`), of a dataset
        with this ledger from its beginning."""
        lines = [line.split() for line in Path(self.ledger).read_text().splitlines()]
        asked, names = ([name for how, name in lines if how == key and "/shard-" in name] for key in ("asked", kind))
        if kind == "new":  # also what a process wrote that was killed, by another thread of its, before it noted it
            names += [name for name in set(asked) - set(names) if self.exists(name)]
        return names

    def _note(self, kind: str, name: str) -> None:
        with Path(self.ledger).open("a") as file:
            file.write(f"{kind} {name}\n")


@dataclass(frozen=True)
class PatientStore(LocalStore):
    """A disk that takes no shard before the generator has gone on to another one."""

    drawn: str = ""
    """File in which a `NotingGenerator` notes its calls."""
    calls: int = 0
    """Number of calls of the generator in the whole dataset: with the last one the disk waits no longer."""

    def put_new(self, name: str, data: bytes) -> bool:
        if "/shard-" in name and "_done" not in name:
            before, deadline = self._noted(), time.monotonic() + 600
            while self._noted() == before < self.calls:
                if time.monotonic() > deadline:
                    raise StorageError(f"{name}: nothing is generated while it is uploaded")
                time.sleep(0.01)
        return super().put_new(name, data)

    def _noted(self) -> int:
        return len(Path(self.drawn).read_text().splitlines())


@dataclass(frozen=True)
class NotingGenerator(ColorGenerator):
    """Notes each call with the threads that are in it."""

    drawn: str = ""

    def generate(self, embeddings_BD: NDArray[np.float32], seeds_B: Sequence[int]) -> NDArray[np.uint8]:
        INSIDE.append(1)
        images = super().generate(embeddings_BD, seeds_B)
        time.sleep(0.02)
        with Path(self.drawn).open("a") as file:
            file.write(f"{len(INSIDE)}\n")
        INSIDE.pop()
        return images


@dataclass(frozen=True)
class KillingGenerator(ColorGenerator):
    """Kills a process when it is asked for a given seed, or for any."""

    seed: int | None = None
    flag: str = ""
    """Name of the file that the last kill makes; empty: every request for the seed kills."""
    victim: str = ""
    """File with the number of the process; empty: its own."""

    def generate(self, embeddings_BD: NDArray[np.float32], seeds_B: Sequence[int]) -> NDArray[np.uint8]:
        if (self.seed is None or self.seed in seeds_B) and (not self.flag or first(self.flag)):
            die(int(Path(self.victim).read_text()) if self.victim else os.getpid())
        return super().generate(embeddings_BD, seeds_B)


@dataclass(frozen=True)
class BrokenGenerator(ColorGenerator):
    """Fails for every batch with a given seed, and not as an image may fail."""

    seed: int = 0
    noted: str = ""
    """File in which each process that fails writes its number."""

    def generate(self, embeddings_BD: NDArray[np.float32], seeds_B: Sequence[int]) -> NDArray[np.uint8]:
        if self.seed in seeds_B:
            with Path(self.noted).open("a") as file:
                file.write(f"{os.getpid()}\n")
            raise RuntimeError("the device is lost")
        return super().generate(embeddings_BD, seeds_B)


@dataclass(frozen=True)
class WaitingGenerator(ColorGenerator):
    """Says that it was asked for a given seed, and does not go on before it may."""

    seed: int = 0
    asked: str = ""
    """File made when it is asked."""
    may_go_on: str = ""
    """File whose presence lets it go on."""

    def generate(self, embeddings_BD: NDArray[np.float32], seeds_B: Sequence[int]) -> NDArray[np.uint8]:
        if self.seed in seeds_B:
            Path(self.asked).touch()
            while not os.path.exists(self.may_go_on):
                time.sleep(0.02)
        return super().generate(embeddings_BD, seeds_B)


@dataclass(frozen=True)
class AwayGenerator(ColorGenerator):
    """Says that it was asked for an image on any node but one, and is never done there; at home it waits for that."""

    home: str = ""
    """The node where it works."""
    asked: str = ""
    """File made elsewhere when it is asked."""
    placed: str = ""
    """File in which it notes on which node it is asked, and which GPUs were reserved for it."""

    def generate(self, embeddings_BD: NDArray[np.float32], seeds_B: Sequence[int]) -> NDArray[np.uint8]:
        here = ray.get_runtime_context().get_node_id()
        with Path(self.placed).open("a") as file:
            file.write(f"{here} {os.environ.get('CUDA_VISIBLE_DEVICES', 'none')}\n")
        if here != self.home:
            Path(self.asked).touch()
            while True:
                time.sleep(1)
        deadline = time.monotonic() + 600
        while not Path(self.asked).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        return super().generate(embeddings_BD, seeds_B)
