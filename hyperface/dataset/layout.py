"""The names of a dataset's files inside a run."""

from typing import Literal

from hyperface.run.names import DATASET, DONE

Format = Literal["parquet", "webdataset"]
SUFFIX: dict[Format, str] = {"parquet": "parquet", "webdataset": "tar"}
QUARANTINE = f"{DATASET}/_quarantine"
PENDING = f"{DATASET}/_pending"


def formats(choice: Literal["webdataset", "parquet", "both"]) -> tuple[Format, ...]:
    """The file formats behind `dataset.format`."""
    return ("parquet", "webdataset") if choice == "both" else (choice,)


def shard_file(kind: Format, shard: int) -> str:
    return f"{DATASET}/{kind}/shard-{shard:06d}.{SUFFIX[kind]}"


def marker_file(shard: int) -> str:
    return f"{DONE}/shard-{shard:06d}.json"


def quarantine_file(shard: int) -> str:
    return f"{QUARANTINE}/shard-{shard:06d}.json"


def pending_file(shard: int) -> str:
    """What the marker of a shard will say, while its files are being written."""
    return f"{PENDING}/shard-{shard:06d}.json"
