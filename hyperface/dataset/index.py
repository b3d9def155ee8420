"""The index of a finished dataset: what it holds, file by file."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hyperface.dataset import card, fingerprint
from hyperface.dataset.layout import Format
from hyperface.dataset.marker import Marker
from hyperface.dataset.plan import Plan
from hyperface.run import DATA_CARD, INDEX, Run, RunError, to_json


def build(plan: Plan, kinds: Sequence[Format], markers: Mapping[int, Marker], digest: str) -> dict[str, Any]:
    """The content of `dataset/index.json`; equal markers give an equal index, whoever wrote them and when."""
    ordered = [markers[shard] for shard in range(plan.num_shards)]
    rejects = [reject for marker in ordered for reject in marker.rejects]
    rows = sum(marker.rows for marker in ordered)
    cosines = sum(marker.statistics.mean_cosine * marker.rows for marker in ordered)
    return {
        "formats": list(kinds),
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
        "errors": sum(marker.statistics.errors for marker in ordered),
        "shards": [
            {"shard": marker.shard, "rows": marker.rows, "files": [asdict(file) for file in marker.files]}
            for marker in ordered
        ],
        "rejects": [asdict(reject) for reject in rejects],
        "shortfall": dict(sorted(Counter(f"{reject.identity:07d}" for reject in rejects).items())),
    }


def write(run: Run, plan: Plan, kinds: Sequence[Format], markers: Mapping[int, Marker]) -> dict[str, Any]:
    """Write the data card and then the index of a run in which every shard has its marker; the index.

    Raises:
        RunError: what the dataset was begun with is lost.
    """
    parts = fingerprint.recorded(run.store)
    if parts is None:
        raise RunError(f"{run.store.uri(fingerprint.FINGERPRINT)}: is missing; put it back, or choose another run.dir")
    index = build(plan, kinds, markers, fingerprint.digest(parts))
    for name, data in ((DATA_CARD, card.text(run.config, index, parts).encode()), (INDEX, to_json(index))):
        if not run.store.exists(name) or run.store.read(name) != data:
            run.store.put(name, data)
    return index
