"""What one image of the dataset is: in memory, and as an Arrow schema that Hugging Face `datasets` reads as images.

d: embedding dimension, R: rows of a shard.
"""

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sample:
    """One image that passed the gate."""

    key: str
    identity: int
    image_index: int
    jpeg: bytes
    seed: int
    """Of the draw that passed, in [0, 2^63)."""
    attempt: int
    """0 for the first draw."""
    cosine: float
    """Of the stored image's embedding to the reference of its identity, to six digits."""
    embedding_d: NDArray[np.float32]
    """Of the stored image."""


@dataclass(frozen=True)
class ShardImages:
    """The rows of a shard as read back from either format, in their order."""

    keys: list[str]
    identities: list[int]
    image_indices: list[int]
    jpegs: list[bytes]
    seeds: list[int]
    cosines: list[float]


def arrow_schema(embedding_dim: int) -> pa.Schema:
    """The columns of a Parquet shard, with the feature types of Hugging Face `datasets` as metadata."""
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
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
