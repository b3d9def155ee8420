"""`dataset/wids.json`: the index by which `wids.ShardListDataset` reads the WebDataset form by number, at random."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from hyperface.dataset.layout import SUFFIX
from hyperface.run.names import DATASET
from hyperface.run.records import to_json

WIDS = f"{DATASET}/wids.json"


def to_bytes(index: Mapping[str, Any]) -> bytes:
    """The shards of a finished dataset that has the WebDataset form, named relative to this file's folder.

    Args:
        index: the content of `dataset/index.json`.
    """
    shards = [
        {
            "url": str(PurePosixPath(file["name"]).relative_to(DATASET)),
            "nsamples": shard["rows"],
            "filesize": file["bytes"],
        }
        for shard in index["shards"]
        for file in shard["files"]
        if file["name"].endswith(SUFFIX["webdataset"])
    ]
    return to_json({"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": shards})
