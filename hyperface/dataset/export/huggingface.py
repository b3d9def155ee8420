"""A Hugging Face dataset folder: `data/train-00000-of-00012.parquet` and README.md, read by `datasets`. Bytes only."""

import io
import json
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from hyperface.dataset.card import SIZES
from hyperface.dataset.schema import ShardImages

ROWS = 100
"""Rows of a row group: what a streaming reader fetches for its first image."""

FEATURES = {
    "image": {"_type": "Image"},
    "label": {"dtype": "int64", "_type": "Value"},
    "identity": {"dtype": "int64", "_type": "Value"},
    "key": {"dtype": "string", "_type": "Value"},
    "cosine": {"dtype": "float32", "_type": "Value"},
}
SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("label", pa.int64()),
        ("identity", pa.int64()),
        ("key", pa.string()),
        ("cosine", pa.float32()),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": FEATURES}})},
)


def file_name(shard: int, shards: int) -> str:
    return f"data/train-{shard:05d}-of-{shards:05d}.parquet"


def to_bytes(images: ShardImages, labels: Sequence[int]) -> bytes:
    """One row per image, in their order; equal images give equal bytes with one build of pyarrow."""
    stored = [{"bytes": jpeg, "path": f"{key}.jpg"} for key, jpeg in zip(images.keys, images.jpegs, strict=True)]
    columns = [
        pa.array(stored, SCHEMA.field("image").type),
        pa.array(labels, pa.int64()),
        pa.array(images.identities, pa.int64()),
        pa.array(images.keys, pa.string()),
        pa.array(images.cosines, pa.float32()),
    ]
    sink = io.BytesIO()
    table = pa.Table.from_arrays(columns, schema=SCHEMA)
    pq.write_table(table, sink, row_group_size=ROWS, compression="none", use_dictionary=False)
    return sink.getvalue()


def card(images: int, classes: int, duplicates: int, licences: str, parts: Mapping[str, object]) -> bytes:
    """README.md: front matter for the hub, columns, loading, what decided the bytes. `recognizer`: recognizer.kind."""
    size = next((name for limit, name in SIZES if images < limit), "n>1M")
    rows = "\n".join(f"| `{key}` | `{value}` |" for key, value in sorted(parts.items()))
    return f"""---
pretty_name: Synthetic faces
task_categories:
- image-classification
tags:
- face-recognition
- synthetic
size_categories:
- {size}
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.parquet
---
# Synthetic faces: {classes} identities, {images} images

Faces of people who do not exist, for training face recognition. References were packed on the hypersphere of a face
recogniser (HyperFace, Otroshi Shahreza and Marcel, ICLR 2025, arXiv 2411.08470) and drawn by a generator conditioned on
them. Near-duplicates that were left out: {duplicates}.

| column | |
|---|---|
| `image` | the face, JPEG as it was made |
| `label` | class 0 to {classes - 1} |
| `identity` | number of the identity in the run it comes from; `classes.csv` maps label to identity |
| `key` | name of the image there: identity and number |
| `cosine` | of the image's embedding to the reference of its identity, by the recogniser whose sphere was packed |

```python
import datasets

faces = datasets.load_dataset("PATH/TO/FOLDER", split="train")
faces[0]["image"], faces[0]["label"]
```

Images are stored in a global random order, so files may be read in sequence.

## How it was made

| what decides the bytes | |
|---|---|
{rows}

## Licences and limits

{licences}

No image is of a real person by construction; nothing here proves that none resembles one. Fairness across groups was
not measured. Labels are right by construction only as far as the cosines say.
""".encode()
