"""Shards as Parquet, to and from bytes."""

import io
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hyperface.dataset.schema import Sample, ShardImages, arrow_schema
from hyperface.reading.one_line import one_line
from hyperface.reading.unpacking import UnpacksToMore, read_parquet


def to_bytes(samples: Sequence[Sample], embedding_dim: int, control: bool = False) -> bytes:
    """Write one row per sample, in their order; equal samples give equal bytes with one build of pyarrow.

    Args:
        control: the images are steered, and each sample says what came of it.
    """
    schema = arrow_schema(embedding_dim, control)
    flat = np.array([s.embedding_d for s in samples], dtype=np.float32).reshape(-1)
    columns = [
        pa.array([s.key for s in samples], pa.string()),
        pa.array([s.identity for s in samples], pa.int64()),
        pa.array([s.image_index for s in samples], pa.int32()),
        pa.array([{"bytes": s.jpeg, "path": f"{s.key}.jpg"} for s in samples], schema.field("image").type),
        pa.array([s.seed for s in samples], pa.int64()),
        pa.array([s.cosine for s in samples], pa.float32()),
        pa.FixedSizeListArray.from_arrays(pa.array(flat), embedding_dim),
    ]
    if control:
        outcomes = [json.dumps(s.control.to_dict(), sort_keys=True) if s.control else None for s in samples]
        columns.append(pa.array(outcomes, pa.string()))
    sink = io.BytesIO()
    # JPEG, seeds and embeddings do not compress; a dictionary would only be tried and dropped.
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), sink, compression="none", use_dictionary=False)
    return sink.getvalue()


def from_bytes(data: bytes, name: str) -> ShardImages:
    """Read and check what `to_bytes` wrote.

    Raises:
        ValueError: truncated, foreign, of another schema or with missing values; names the file and the rule.
    """
    try:
        names = pq.read_schema(io.BytesIO(data)).names
        return _images(read_parquet(io.BytesIO(data), names, rows=64), name)
    except UnpacksToMore as error:
        raise ValueError(f"{name}: {error}") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{name}: is not a whole Parquet file ({one_line(error)})") from error


def _images(table: pa.Table, name: str) -> ShardImages:
    kind = table.schema.field("embedding").type if "embedding" in table.schema.names else None
    dim = kind.list_size if kind is not None and pa.types.is_fixed_size_list(kind) else 0
    wanted = arrow_schema(dim, "control" in table.schema.names)
    if not table.schema.equals(wanted) or table.schema.metadata != wanted.metadata:
        raise ValueError(f"{name}: must have the columns of a shard; it has {', '.join(table.schema.names)}")
    for column in table.schema.names:
        if table[column].null_count:
            raise ValueError(f"{name}: column `{column}` must not have missing values")
    images = table["image"].to_pylist()
    keys = table["key"].to_pylist()
    for key, image in zip(keys, images, strict=True):
        if image["bytes"] is None or image["path"] != f"{key}.jpg":
            raise ValueError(f"{name}: image of {key} must hold bytes and the path {key}.jpg")
    return ShardImages(
        keys=keys,
        identities=table["identity"].to_pylist(),
        image_indices=table["image_index"].to_pylist(),
        jpegs=[image["bytes"] for image in images],
        seeds=table["seed"].to_pylist(),
        cosines=[round(cosine, 6) for cosine in table["cosine"].to_pylist()],
    )
