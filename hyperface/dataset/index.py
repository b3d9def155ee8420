"""The index of a finished dataset: what it holds, file by file."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperface.config import Config
from hyperface.dataset import card, fingerprint, webdataset
from hyperface.dataset.dataset import Dataset
from hyperface.dataset.duplicates import from_text, near_duplicates
from hyperface.dataset.marker import Marker
from hyperface.dataset.plan import Plan, key
from hyperface.errors import RunError
from hyperface.run.names import DATA_CARD, FINGERPRINT, INDEX
from hyperface.run.records import to_json


def build(dataset: Dataset, markers: Mapping[int, Marker], digest: str) -> dict[str, Any]:
    """The content of `dataset/index.json`; equal markers give an equal index, whoever wrote them and when.

    Args:
        markers: {shard: marker} of every shard of the plan.
        digest: the fingerprint of the dataset.
    """
    plan, synthesis = dataset.plan, dataset.config.synthesis
    ordered = [markers[shard] for shard in range(plan.num_shards)]
    rejects = [reject for marker in ordered for reject in marker.rejects]
    rows = sum(marker.rows for marker in ordered)
    repeated = _duplicates(plan, ordered, synthesis.min_hash_distance) if synthesis.finds_duplicates else []
    short = Counter([reject.identity for reject in rejects] + [identity for identity, _ in repeated])
    cosines = sum(marker.statistics.mean_cosine * marker.rows for marker in ordered)
    return {
        "formats": list(dataset.formats),
        "fingerprint": digest,
        "first_identity": plan.first_identity,
        "identities": plan.num_identities,
        "images_per_identity": plan.images_per_identity,
        "planned_images": plan.num_images,
        "images": rows,
        "bytes": sum(file.bytes for marker in ordered for file in marker.files),
        "mean_cosine": round(cosines / rows, 6) if rows else 0.0,
        "draws": sum(marker.statistics.draws for marker in ordered),
        "redraws": sum(marker.statistics.redraws for marker in ordered),
        "refused": dict(sum((Counter(marker.statistics.refused) for marker in ordered), Counter())),
        **_control(ordered),
        "shards": [
            {"shard": marker.shard, "rows": marker.rows, "files": [asdict(file) for file in marker.files]}
            for marker in ordered
        ],
        "rejects": [asdict(reject) for reject in rejects],
        "duplicates": [key(identity, image) for identity, image in repeated],
        "shortfall": {f"{identity:07d}": count for identity, count in sorted(short.items())},
    }


def _control(ordered: Sequence[Marker]) -> dict[str, Any]:
    """Return {"control": {attribute: {met, not_met}}} over all shards; nothing where no image is steered."""
    names = sorted({name for marker in ordered for name in marker.control})
    none = {"met": 0, "not_met": 0}
    counted = {
        name: {key: sum(marker.control.get(name, none)[key] for marker in ordered) for key in none} for name in names
    }
    return {"control": counted} if counted else {}


def _duplicates(plan: Plan, ordered: Sequence[Marker], min_hash_distance: int) -> list[tuple[int, int]]:
    """Return (identity, image) of every stored image that nearly repeats an earlier one of its identity, in order."""
    # By place in the plan, not as a list of images: 9 bytes for each, whatever their number.
    hashes_IJ = np.zeros((plan.num_identities, plan.images_per_identity), dtype=np.uint64)
    there_IJ = np.zeros(hashes_IJ.shape, dtype=np.bool_)
    for marker in ordered:
        rows_R, images_R = _stored(plan, marker)
        hashes_IJ[rows_R, images_R], there_IJ[rows_R, images_R] = from_text(marker.hashes), True
    repeats_IJ = near_duplicates(hashes_IJ, there_IJ, min_hash_distance)
    return [(plan.first_identity + row, image) for row, image in np.argwhere(repeats_IJ).tolist()]


def _stored(plan: Plan, marker: Marker) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (identities counted from the plan's first, images) of the rows of a shard."""
    identities_R, images_R = plan.shard(marker.shard)
    numbers_R = plan.images_per_identity * identities_R + images_R
    rejected = [plan.images_per_identity * reject.identity + reject.image_index for reject in marker.rejects]
    kept_R = ~np.isin(numbers_R, rejected)
    return identities_R[kept_R] - plan.first_identity, images_R[kept_R]


def files(config: Config, index: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files that are written when every shard is there, {name: bytes}; the index comes last, and says that
    all is."""
    by_number = {webdataset.WIDS: webdataset.wids_bytes(index)} if "webdataset" in index["formats"] else {}
    return {**by_number, DATA_CARD: card.text(config, index, parts).encode(), INDEX: to_json(index)}


def write(dataset: Dataset, markers: Mapping[int, Marker]) -> dict[str, Any]:
    """Write the data card, wids.json and then the index of a dataset whose every shard has its marker; return the
    index.

    Raises:
        RunError: what the dataset was begun with is lost.
    """
    store, parts = dataset.store, dataset.begun_with()
    if parts is None:
        raise RunError(f"{store.uri(FINGERPRINT)}: is missing; put it back, or choose another run.dir")
    index = build(dataset, markers, fingerprint.digest(parts))
    for name, data in files(dataset.config, index, parts).items():
        if not store.exists(name) or store.read(name) != data:
            store.put(name, data)
    return index
