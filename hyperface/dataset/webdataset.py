"""Shards as WebDataset tar files, to and from bytes: `{key}.jpg`, `{key}.cls` (the identity), `{key}.json`."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from hyperface.dataset.plan import SUFFIX
from hyperface.dataset.schema import Sample, ShardImages
from hyperface.faces import tar
from hyperface.reading.json_text import from_json
from hyperface.run.names import DATASET
from hyperface.run.records import to_json

FIELDS = ("attempt", "cosine", "identity", "image_index", "key", "seed")
CONTROL = "control"
"""Field that is added where images are steered."""
WIDS = f"{DATASET}/wids.json"


def to_bytes(samples: Sequence[Sample]) -> bytes:
    """Write three members per sample, in their order; equal samples give equal bytes."""
    return _tar((f"{s.key}.{suffix}", data) for s in samples for suffix, data in _members(s))


def _members(sample: Sample) -> list[tuple[str, bytes]]:
    described = {name: getattr(sample, name) for name in FIELDS}
    described |= {CONTROL: sample.control.to_dict()} if sample.control else {}
    return [
        ("jpg", sample.jpeg),
        ("cls", str(sample.identity).encode()),
        ("json", json.dumps(described, sort_keys=True).encode()),
    ]


def _tar(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Write a USTAR archive without time, owner or machine in it."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)  # mtime, uid and gid are 0, the owner's names empty
            info.size, info.mode = len(data), 0o644
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def from_bytes(data: bytes, name: str, *, proven: bool = False) -> ShardImages:
    """Read and check what `to_bytes` wrote.

    Args:
        proven: somebody knows these bytes; they are not compared with those of an archive made anew.

    Raises:
        ValueError: truncated, foreign, with trailing bytes or with wrong members; names the file and the rule.
    """
    members = _untar(data, name)
    if not proven and _tar(members) != data:
        raise ValueError(f"{name}: is not a tar file of this product, or is truncated or has trailing bytes")
    if len(members) % 3:
        raise ValueError(f"{name}: must hold jpg, cls and json of every key; it has {len(members)} members")
    images = ShardImages([], [], [], [], [], [])
    for jpg, cls, described in zip(members[0::3], members[1::3], members[2::3], strict=True):
        key = jpg[0].removesuffix(".jpg")
        if (jpg[0], cls[0], described[0]) != (f"{key}.jpg", f"{key}.cls", f"{key}.json"):
            raise ValueError(f"{name}: must hold jpg, cls and json of a key in this order; see {jpg[0]}")
        _append(images, key, jpg[1], cls[1], described[1], name)
    return images


def _untar(data: bytes, name: str) -> list[tuple[str, bytes]]:
    found = []
    try:
        for member in tar.members(io.BytesIO(data), lambda _: True, len(data)):
            if member.content is None:
                raise ValueError(f"{name}: member {member.name!a} must be a file")
            found.append((member.name, member.content))
    except tarfile.ReadError as error:
        raise ValueError(f"{name}: is not a whole tar file ({error}), or has trailing bytes") from error
    return found


def _append(images: ShardImages, key: str, jpeg: bytes, cls: bytes, described: bytes, name: str) -> None:
    try:
        label, fields = int(cls), from_json(described)
    except ValueError as error:
        raise ValueError(f"{name}: label or description of {key} cannot be read ({error})") from error
    if not isinstance(fields, dict) or tuple(sorted(fields.keys() - {CONTROL})) != FIELDS:
        raise ValueError(f"{name}: {key}.json must have the fields {', '.join(FIELDS)}")
    if fields["key"] != key or fields["identity"] != label:
        raise ValueError(f"{name}: {key}.cls and {key}.json must name this key and one identity")
    images.keys.append(key)
    images.identities.append(label)
    images.image_indices.append(fields["image_index"])
    images.jpegs.append(jpeg)
    images.seeds.append(fields["seed"])
    images.cosines.append(fields["cosine"])


def wids_bytes(index: Mapping[str, Any]) -> bytes:
    """Return the content of `dataset/wids.json`, by which `wids.ShardListDataset` reads the shards by number, at
    random.

    Shards are named relative to its folder.

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
