"""A finished run is measured: its stored images are embedded again, by the recogniser and by an independent judge.

Writes `report/faces.json` (the faces that the page shows), then `evaluation/separation.json` (the numbers).

Shape legend: N images, D embedding dimension.
"""

import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperface.audit import separation
from hyperface.audit.distribution import distribution
from hyperface.audit.image_embeddings import rows_of
from hyperface.dataset import ShardImages
from hyperface.dataset.jpeg import thumbnail
from hyperface.dataset.source import open_source
from hyperface.dataset.verify import references_problems
from hyperface.errors import RunError
from hyperface.faces import embeddings
from hyperface.models.protocols import Recognizer
from hyperface.packing.stage import start_of
from hyperface.progress.logs import Line, say
from hyperface.run import Run
from hyperface.run.names import FACES, GALLERY, INDEX, REFERENCES, SEPARATION

CLOSEST_PAIRS = 8


@dataclass(frozen=True)
class StoredImages:
    """Stored images are those of whole identities, in the order of their keys."""

    keys: list[str]
    identities_N: NDArray[np.int64]
    image_indices: list[int]
    jpegs: list[bytes]
    cosines_N: NDArray[np.float32]
    """The synthesis recorded these cosines to the reference, by the recogniser."""


def measured(run: Run, recognizer: Recognizer, judge: Recognizer | None) -> dict[str, Any]:
    """The record `evaluation/separation.json` is measured now, unless it is there for these models and settings.

    Raises:
        RunError: the dataset is not finished, or holds none of the images that should be measured; the record is no
            JSON.
    """
    if not run.store.exists(INDEX):
        raise RunError(f"{run}: has no {INDEX}: the dataset is not finished; run `python -m jobs.pipeline {run}` first")
    asked = _asked(run, recognizer, judge)
    if run.store.exists(SEPARATION) and run.store.exists(FACES):
        recorded = run.get_json(SEPARATION)
        if recorded.get("asked") == asked:
            return recorded
    began, source = time.monotonic(), open_source(run)
    for problem in references_problems(run.store, source.parts):
        raise RunError(problem)
    identities = sampled_identities(run)
    of = run.config.packing.num_identities
    say(Line("report", f"reads the images of {len(identities)} of {of} identities"))
    whole = replace(source, duplicates=frozenset())  # they are measured, too
    images = collect(map(whole.read, range(source.plan.num_shards)), identities, asked["images_per_identity"])
    if not images.keys:
        raise RunError(f"{run}: none of the images to measure is in the dataset; all of them were rejected")
    found, faces = _measure(run, images, recognizer, judge)
    run.put_json(FACES, faces)
    run.put_json(SEPARATION, {"asked": asked, **found})
    seconds = time.monotonic() - began
    run.record("report", [{"event": "finished", "images": len(images.keys), "seconds": round(seconds, 2)}])
    say(Line("report", f"measured {len(images.keys)} images, {seconds:.0f} s -> {run.store.uri(SEPARATION)}"))
    return {"asked": asked, **found}


def sampled_identities(run: Run) -> list[int]:
    """The sample is whole identities, evenly spread over all, with about `report.max_images` images together."""
    config = run.config
    wanted = max(2, config.report.max_images // config.synthesis.images_per_identity)
    return [config.packing.first_identity + i for i in evenly(config.packing.num_identities, wanted)]


def evenly(count: int, wanted: int) -> list[int]:
    """At most `wanted` of the numbers 0 to count - 1 are chosen, evenly spread."""
    return [i * count // min(wanted, count) for i in range(min(wanted, count))]


def collect(shards: Iterable[ShardImages], identities: Sequence[int], images_per_identity: int) -> StoredImages:
    """Every image of the given identities is collected; no shard is read after the last of them."""
    wanted, found = set(identities), []
    for shard in shards:
        rows = zip(shard.keys, shard.identities, shard.image_indices, shard.jpegs, shard.cosines, strict=True)
        found += [row for row in rows if row[1] in wanted]
        if len(found) == len(wanted) * images_per_identity:
            break
    found.sort()
    return StoredImages(
        keys=[row[0] for row in found],
        identities_N=np.array([row[1] for row in found], np.int64),
        image_indices=[row[2] for row in found],
        jpegs=[row[3] for row in found],
        cosines_N=np.array([row[4] for row in found], np.float32),
    )


def face_rows(run: Run, images: StoredImages, judged_ND: NDArray[np.float32]) -> list[dict[str, Any]]:
    """The face grid has a row for `report.grid_identities` of the measured identities, evenly spread."""
    present, columns, rows = np.unique(images.identities_N), run.config.report.grid_images, []
    for position in evenly(len(present), run.config.report.grid_identities):
        at = np.flatnonzero(images.identities_N == present[position])
        shown = [
            {"key": images.keys[i], "cosine": _rounded(images.cosines_N[i]), "jpeg": thumbnail(images.jpegs[i])}
            for i in at
            if images.image_indices[i] < columns
        ]
        rows.append(
            {
                "identity": int(present[position]),
                "mean_cosine": _rounded(images.cosines_N[at].mean()),
                "same_identity": _rounded(separation.mean_pairwise(judged_ND[at])),
                "images": shown,
            }
        )
    return rows


def _asked(run: Run, recognizer: Recognizer, judge: Recognizer | None) -> dict[str, Any]:
    """These values decide the measurement: where one differs, it is measured anew."""
    return {
        "recognizer": recognizer.fingerprint,
        "judge": judge.fingerprint if judge else None,
        "images_per_identity": run.config.synthesis.images_per_identity,
        "dataset": hashlib.sha256(run.store.read(INDEX)).hexdigest(),
        **asdict(run.config.report),
    }


def _measure(
    run: Run, images: StoredImages, recognizer: Recognizer, judge: Recognizer | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(numbers, faces)"""
    gallery = embeddings.read(run.store, GALLERY, "key")
    references = embeddings.read(run.store, REFERENCES, "identity")
    start_ND = start_of(run)
    own_ND = _embedded(run, images, recognizer, "recogniser")
    judged_ND = _embedded(run, images, judge, "judge") if judge else own_ND
    by_own = separation.of_images(own_ND, images.identities_N, CLOSEST_PAIRS)
    by_judge = separation.of_images(judged_ND, images.identities_N, CLOSEST_PAIRS) if judge else None
    rows_N = images.identities_N - run.config.packing.first_identity
    to_reference_N = (own_ND * references.vectors_ND[rows_N]).sum(axis=1)
    to_gallery_N = separation.nearest_of(references.vectors_ND, gallery.vectors_ND)
    numbers = {
        "references": {
            "before": asdict(separation.of_references(start_ND)),
            "after": asdict(separation.of_references(references.vectors_ND)),
            "to_gallery": _plain(distribution(to_gallery_N)),
        },
        "images": {
            "count": len(images.keys),
            "to_reference": _plain(distribution(to_reference_N)),
            "by_recognizer": _plain(by_own),
            "by_judge": _plain(by_judge),
        },
    }
    closest = [
        {
            "cosine": _rounded(pair.cosine),
            "images": [
                {"key": images.keys[i], "cosine": _rounded(images.cosines_N[i]), "jpeg": thumbnail(images.jpegs[i])}
                for i in (pair.first, pair.second)
            ],
        }
        for pair in (by_judge or by_own).closest
    ]
    return numbers, {"grid": face_rows(run, images, judged_ND), "closest": closest}


def _embedded(run: Run, images: StoredImages, network: Recognizer, who: str) -> NDArray[np.float32]:
    say(Line("report", f"embeds {len(images.keys)} images by the {who}"))
    return rows_of(images.jpegs, network, str(run))


def _plain(result: Any) -> Any:
    return None if result is None else asdict(result)


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 4)
