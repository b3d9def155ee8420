"""A generator that keeps a ledger of its draws, and an S3 store that kills its process at a marker."""

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from color_world import ColorGenerator
from faults import die, first
from numpy.typing import NDArray

from hyperface.storage import S3Store


@dataclass(frozen=True)
class LedgerGenerator(ColorGenerator):
    """Notes the seed of every draw; at one seed it says so and waits."""

    drawn: str = ""
    """File with a line for each draw."""
    seed: int = -1
    asked: str = ""
    """File made when the seed is asked for; empty: nothing special about it."""
    may_go_on: str = ""
    """File whose presence lets it go on."""

    def generate(self, embeddings_BD: NDArray[np.float32], seeds_B: Sequence[int]) -> NDArray[np.uint8]:
        with Path(self.drawn).open("a") as file:
            file.write("".join(f"{seed}\n" for seed in seeds_B))
        if self.asked and self.seed in seeds_B:
            Path(self.asked).touch()
            while not os.path.exists(self.may_go_on):
                time.sleep(0.02)
        return super().generate(embeddings_BD, seeds_B)

    def drawn_again(self) -> set[int]:
        """Seeds that were drawn more than once: what was made again."""
        return {int(seed) for seed, times in Counter(Path(self.drawn).read_text().split()).items() if times > 1}


@dataclass(frozen=True)
class KillingS3Store(S3Store):
    """Kills its process once, when the data of a shard is there and its marker is to be written."""

    flag: str = ""
    """File that then names the marker."""

    def put_new(self, name: str, data: bytes) -> bool:
        if "/_done/" in name and first(self.flag):
            Path(self.flag).write_text(name)
            die(os.getpid())
        return super().put_new(name, data)
