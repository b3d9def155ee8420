"""The schema of an image of the dataset: in memory, and in Arrow, which Hugging Face `datasets` reads as images.

d: embedding dimension, R: rows of a shard.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True)
class Attribute:
    """The target of an attribute of an image, and its value as a reader finds it in the stored image."""

    target: float
    value: float
    """Value in the attribute's unit, to three digits."""
    met: bool
    """True where the value is within the tolerance of `control.tolerance`."""


@dataclass(frozen=True)
class Outcome:
    """The result of steering for one image."""

    steps: int
    """Steps of gradient descent; 0: none was needed, or nothing was wanted."""
    attributes: Mapping[str, Attribute]
    """Attributes that had a target."""

    def to_dict(self) -> dict[str, object]:
        return {"steps": self.steps, "attributes": {name: asdict(found) for name, found in self.attributes.items()}}


@dataclass(frozen=True)
class Sample:
    """One image that passed the gate."""

    key: str
    identity: int
    image_index: int
    jpeg: bytes
    seed: int
    """Seed of the draw that passed, in [0, 2^63)."""
    attempt: int
    """Number of the draw that passed; 0 for the first."""
    cosine: float
    """Cosine of the stored image's embedding to the reference of its identity, to six digits."""
    embedding_d: NDArray[np.float32]
    """Embedding of the stored image."""
    control: Outcome | None = None
    """Result of the steering; None in a dataset whose images are not steered."""


@dataclass(frozen=True)
class ShardImages:
    """The rows of a shard as read back from either format, in their order."""

    keys: list[str]
    identities: list[int]
    image_indices: list[int]
    jpegs: list[bytes]
    seeds: list[int]
    cosines: list[float]


def arrow_schema(embedding_dim: int, control: bool = False) -> pa.Schema:
    """Return the columns of a Parquet shard, with the feature types of Hugging Face `datasets` as metadata.

    Args:
        control: images are steered: a last column `control` says as JSON what of each.
    """
    features = {
        "key": {"dtype": "string", "_type": "Value"},
        "identity": {"dtype": "int64", "_type": "Value"},
        "image_index": {"dtype": "int32", "_type": "Value"},
        "image": {"_type": "Image"},
        "seed": {"dtype": "int64", "_type": "Value"},
        "cosine": {"dtype": "float32", "_type": "Value"},
        # `Sequence` is the name that every release of `datasets` reads.
        "embedding": {
            "feature": {"dtype": "float32", "_type": "Value"},
            "length": embedding_dim,
            "_type": "Sequence",
        },
        **({"control": {"dtype": "string", "_type": "Value"}} if control else {}),
    }
    return pa.schema(
        [
            ("key", pa.string()),
            ("identity", pa.int64()),
            ("image_index", pa.int32()),
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("seed", pa.int64()),
            ("cosine", pa.float32()),
            ("embedding", pa.list_(pa.float32(), embedding_dim)),
            *([("control", pa.string())] if control else []),
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
