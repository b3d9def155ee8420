"""Data files of a Hugging Face dataset folder: `data/train-00000-of-00012.parquet`, read by `datasets`. Bytes only."""

import io
import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from hyperface.dataset.schema import ShardImages

ROWS = 100
"""Number of rows of a row group: what a streaming reader fetches for its first image."""

FEATURES = {
    "image": {"_type": "Image"},
    "label": {"dtype": "int64", "_type": "Value"},
    "identity": {"dtype": "int64", "_type": "Value"},
    "key": {"dtype": "string", "_type": "Value"},
    "seed": {"dtype": "int64", "_type": "Value"},
    "cosine": {"dtype": "float32", "_type": "Value"},
}
SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("label", pa.int64()),
        ("identity", pa.int64()),
        ("key", pa.string()),
        ("seed", pa.int64()),
        ("cosine", pa.float32()),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": FEATURES}})},
)


def file_name(shard: int, shards: int) -> str:
    return f"data/train-{shard:05d}-of-{shards:05d}.parquet"


def to_bytes(images: ShardImages, labels: Sequence[int]) -> bytes:
    """Write one row per image, in their order; equal images give equal bytes with one build of pyarrow."""
    stored = [{"bytes": jpeg, "path": f"{key}.jpg"} for key, jpeg in zip(images.keys, images.jpegs, strict=True)]
    columns = [
        pa.array(stored, SCHEMA.field("image").type),
        pa.array(labels, pa.int64()),
        pa.array(images.identities, pa.int64()),
        pa.array(images.keys, pa.string()),
        pa.array(images.seeds, pa.int64()),
        pa.array(images.cosines, pa.float32()),
    ]
    sink = io.BytesIO()
    table = pa.Table.from_arrays(columns, schema=SCHEMA)
    pq.write_table(table, sink, row_group_size=ROWS, compression="none", use_dictionary=False)
    return sink.getvalue()
