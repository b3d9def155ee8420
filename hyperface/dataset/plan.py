"""The plan of a dataset: the images of each shard, the seed of each draw, and the names of the files, as functions
without state.

Images are numbered `row * images_per_identity + image`, where `row` counts the identities of the plan from 0, and dealt
to shards in a global seeded permutation, because a trainer that shuffles in a buffer over identity-sorted shards learns
badly. The permutation is computed, not stored: a worker finds the images of its shard from the plan and the shard's
number alone.

P: positions in the dataset or numbers of images, R: rows of one shard.
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hyperface.config import Config, Format
from hyperface.run.names import DATASET, DONE

ROUNDS = 8
SUFFIX: dict[Format, str] = {"parquet": "parquet", "webdataset": "tar"}
QUARANTINE = f"{DATASET}/_quarantine"
PENDING = f"{DATASET}/_pending"


def key(identity: int, image: int) -> str:
    """The name of an image in every file and record: `0000012-0003`."""
    return f"{identity:07d}-{image:04d}"


def image_seed(run_seed: int, identity: int, image: int, attempt: int) -> int:
    """The seed, in [0, 2^63), of one draw of one image: a hash, so that no two draws share one but by accident."""
    packed = struct.pack("<4Q", run_seed % 2**64, identity, image, attempt)
    return int.from_bytes(hashlib.blake2b(packed, digest_size=8, person=b"hyperface image").digest(), "little") >> 1


def permute(positions_P: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """A seeded bijection of [0, count): the number of the image at each position. No array of `count` is made.

    A balanced Feistel network on the next even number of bits, walked along its cycle until the value falls into the
    range (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002): at most 4 walks on average.
    """
    assert len(positions_P) == 0 or (positions_P.min() >= 0 and positions_P.max() < count), (positions_P, count)
    half_bits = max(1, ((count - 1).bit_length() + 1) // 2)
    digest = hashlib.blake2b(str(seed).encode(), digest_size=8 * ROUNDS, person=b"hyperface order").digest()
    keys = np.frombuffer(digest, dtype="<u8").astype(np.uint64)
    out_P = _feistel(positions_P.astype(np.uint64), half_bits, keys)
    while len(outside := np.flatnonzero(out_P >= count)):
        out_P[outside] = _feistel(out_P[outside], half_bits, keys)
    return out_P.astype(np.int64)


def _feistel(values_P: NDArray[np.uint64], half_bits: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection of [0, 4^half_bits)."""
    bits, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = values_P >> bits, values_P & mask
    for round_key in keys:
        left, right = right, left ^ (_mix(right, round_key) & mask)
    return (left << bits) | right


def _mix(values_P: NDArray[np.uint64], round_key: np.uint64) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    mixed = values_P + round_key
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@dataclass(frozen=True)
class Plan:
    """The images of a dataset and their order. Counts are at least 1, the seed and the first identity at least 0."""

    seed: int
    num_identities: int
    images_per_identity: int
    images_per_shard: int
    first_identity: int = 0
    """Number of the first identity, above 0 in a part by which a dataset grew: it holds `first_identity` to
    `first_identity + num_identities - 1`."""

    @classmethod
    def of(cls, config: Config) -> Self:
        """The plan that a configuration asks for."""
        return cls(
            seed=config.run.seed,
            num_identities=config.packing.num_identities,
            images_per_identity=config.synthesis.images_per_identity,
            images_per_shard=config.synthesis.images_per_shard,
            first_identity=config.packing.first_identity,
        )

    @property
    def num_images(self) -> int:
        return self.num_identities * self.images_per_identity

    @property
    def num_shards(self) -> int:
        return -(-self.num_images // self.images_per_shard)

    def rows(self, shard: int) -> int:
        """Images planned for a shard: `images_per_shard`, or what is left for the last one."""
        return min(self.images_per_shard, self.num_images - shard * self.images_per_shard)

    def shard(self, shard: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(identities [R], images [R]) of a shard, in the order of its rows."""
        assert 0 <= shard < self.num_shards, (shard, self)
        first = shard * self.images_per_shard
        numbers_R = permute(np.arange(first, first + self.rows(shard)), self.num_images, self.seed)
        return self.first_identity + numbers_R // self.images_per_identity, numbers_R % self.images_per_identity

    def keys(self, shard: int) -> list[str]:
        """The keys planned for a shard, in the order of its rows."""
        return [key(int(i), int(j)) for i, j in zip(*self.shard(shard), strict=True)]


def shard_file(kind: Format, shard: int) -> str:
    return f"{DATASET}/{kind}/shard-{shard:06d}.{SUFFIX[kind]}"


def marker_file(shard: int) -> str:
    return f"{DONE}/shard-{shard:06d}.json"


def quarantine_file(shard: int) -> str:
    return f"{QUARANTINE}/shard-{shard:06d}.json"


def pending_file(shard: int) -> str:
    """Return the name of the note that holds a shard's marker while its files are being written."""
    return f"{PENDING}/shard-{shard:06d}.json"
