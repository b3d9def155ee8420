"""Verification of a dataset. Every problem is one line that names the file."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, NotRequired, TypedDict

from hyperface.dataset import afterwards, fingerprint, index, jpeg
from hyperface.dataset.dataset import Dataset, Survey, from_bytes
from hyperface.dataset.marker import RETRY, FileRecord, Marker
from hyperface.dataset.plan import image_seed, marker_file, quarantine_file
from hyperface.dataset.schema import ShardImages
from hyperface.errors import RunError
from hyperface.run import Run
from hyperface.run.names import CONFIG, DONE, FINGERPRINT, GALLERY, INDEX, PACKED, PACKING_SUMMARY, REFERENCES
from hyperface.run.opening import made_by_another
from hyperface.run.records import shaped
from hyperface.run.shapes import Cosine
from hyperface.storage import Store

LISTED = 20
"""Missing shards that have a line each."""


def verify(run: Run, *, deep: bool) -> list[str]:
    """Return everything that is wrong with the run's dataset; none for a finished, whole one.

    Checks every marker against the plan, the sizes of its files, strange files, the index, the references, and whether
    what was made of it afterwards belongs to this run. `deep` also reads every shard: hash, rows, keys, labels, seeds,
    cosines, and decodes every image.
    """
    dataset = Dataset.of(run)
    try:
        parts = dataset.begun_with()
    except RunError as error:
        return [str(error)]
    others = [f"{line}; restore {CONFIG}" for line in made_by_another(run.store, run.config)]
    if parts is None:
        return [f"{run.store.uri(FINGERPRINT)}: is missing: this run has no dataset yet, or it was lost", *others]
    expected, found = fingerprint.digest(parts), dataset.survey()
    problems = list(_missing_problems(run.store, found))
    problems += [found.damaged[shard] for shard in sorted(found.damaged)]
    problems += [f"{run.store.uri(name)}: is no file of this dataset" for name in dataset.unexpected(found.listing)]
    if deep:
        for shard in sorted(found.markers):
            problems += shard_problems(dataset, found.markers[shard])
    whole = None
    if not found.missing and not found.damaged:
        built = index.build(dataset, found.markers, expected)
        files = index.files(run.config, built, parts)
        problems += _index_problems(run.store, found, files)
        whole = hashlib.sha256(files[INDEX]).hexdigest()
    problems += references_problems(run.store, parts)
    problems += _packing_problems(run.store)
    problems += _gallery_problems(run.store)
    problems += afterwards.problems(run.store, run.config, expected, whole, deep=deep)
    return problems + others


def _missing_problems(store: Store, found: Survey) -> Iterator[str]:
    left = [shard for shard in found.missing if shard not in found.quarantined]
    if len(left) > LISTED:
        total = len(found.done) + len(found.missing)
        fix = f"run `python -m jobs.pipeline {store}`, which goes on"
        yield f"{store.uri(DONE)}: {len(left)} of {total} shards are not done, {left[0]} the first of them; {fix}"
    for shard in found.missing:
        if shard in found.quarantined:
            yield f"{store.uri(quarantine_file(shard))}: {found.quarantined[shard]}; take it up again with {RETRY}"
        elif len(left) <= LISTED:
            yield f"{store.uri(marker_file(shard))}: is missing: the shard is not done"
    for shard in found.settled:
        yield f"{store.uri(quarantine_file(shard))}: is out of date, the shard is done; run the synthesize job again"


def _index_problems(store: Store, found: Survey, built: Mapping[str, bytes]) -> Iterator[str]:
    for name, data in built.items():
        if name not in found.listing:
            yield f"{store.uri(name)}: is missing; run the synthesize job again"
        elif store.read(name) != data:
            yield f"{store.uri(name)}: does not say what the markers say; run the synthesize job again"


def references_problems(store: Store, parts: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line unless the references are those that the images were drawn from; `parts` are the fingerprint's."""
    if not store.exists(REFERENCES):
        yield f"{store.uri(REFERENCES)}: is missing; the images cannot be compared with what they were drawn from"
    elif hashlib.sha256(store.read(REFERENCES)).hexdigest() != parts.get(REFERENCES):
        yield f"{store.uri(REFERENCES)}: is not the file that the images were drawn from; restore it"


class _Certificate(TypedDict):
    max_cosine: Cosine
    references_sha256: NotRequired[str]


def _packing_problems(store: Store) -> Iterator[str]:
    """Yield a line unless the summary of the packing, its certificate, is of the references; an older one does not
    say."""
    uri = store.uri(PACKING_SUMMARY)
    if not store.exists(PACKING_SUMMARY):
        if store.exists(PACKED):  # else somebody put the references there
            yield f"{uri}: is missing: nothing says how tight the references are; restore it"
    elif store.exists(REFERENCES):
        try:
            found = shaped(store, PACKING_SUMMARY, _Certificate)
        except RunError as error:
            yield str(error)
            return
        own = hashlib.sha256(store.read(REFERENCES)).hexdigest()
        if found.get("references_sha256", own) != own:
            yield f"{uri}: is of other references than {REFERENCES}; restore it"


class _Gallery(TypedDict):
    sha256: str


class _Packed(TypedDict):
    gallery: _Gallery


def _gallery_problems(store: Store) -> Iterator[str]:
    """Yield a line unless the references were packed from the gallery that is there; an older run has no record of
    it."""
    if store.exists(PACKED):
        if not store.exists(GALLERY):
            purpose = f"if it was removed on purpose, remove {PACKED} as well"
            yield f"{store.uri(GALLERY)}: is missing; the references were packed from it ({purpose})"
            return
        try:
            packed_from = shaped(store, PACKED, _Packed)["gallery"]["sha256"]
        except RunError:
            return
        if hashlib.sha256(store.read(GALLERY)).hexdigest() != packed_from:
            yield f"{store.uri(GALLERY)}: is not the gallery that the references were packed from; restore it"


def shard_problems(dataset: Dataset, marker: Marker) -> Iterator[str]:
    """A line for everything that is wrong inside the files of one shard."""
    store = dataset.store
    for file in marker.files:
        data = store.read(file.name)
        yield from hash_problems(store, file, data)
        try:
            images = from_bytes(data, store.uri(file.name))
        except ValueError as error:
            yield str(error)
            continue
        for problem in _content_problems(dataset, marker, images):
            yield f"{store.uri(file.name)}: {problem}"


def hash_problems(store: Store, file: FileRecord, data: bytes) -> Iterator[str]:
    """Yield a line unless the bytes are those that the marker describes."""
    if hashlib.sha256(data).hexdigest() != file.sha256:
        yield f"{store.uri(file.name)}: must have the SHA-256 of its marker, {file.sha256}"


def _content_problems(dataset: Dataset, marker: Marker, images: ShardImages) -> Iterator[str]:
    plan, synthesis = dataset.plan, dataset.config.synthesis
    rejected = {reject.key for reject in marker.rejects}
    identities, indices = plan.shard(marker.shard)
    rows = [row for row in zip(plan.keys(marker.shard), identities, indices, strict=True) if row[0] not in rejected]
    if len(images.keys) != marker.rows:
        yield f"must have the {marker.rows} rows of its marker; it has {len(images.keys)}"
    if images.keys != [key for key, _, _ in rows]:
        yield _key_problem(images.keys, [key for key, _, _ in rows])
        return
    for r, (key, identity, image) in enumerate(rows):
        if (images.identities[r], images.image_indices[r]) != (identity, image):
            yield f"{key} must be labelled {identity}, {image}; it is {images.identities[r]}, {images.image_indices[r]}"
        attempts = range(synthesis.max_attempts)
        if images.seeds[r] not in [image_seed(plan.seed, int(identity), int(image), a) for a in attempts]:
            yield f"{key} was drawn with a seed that is not of this run: {images.seeds[r]}"
        if not synthesis.min_cosine <= images.cosines[r] <= 1.001:
            yield f"{key} has a cosine outside {synthesis.min_cosine} to 1: {images.cosines[r]}"
        yield from _image_problems(key, images.jpegs[r])


def _key_problem(there: list[str], wanted: list[str]) -> str:
    if repeated := sorted({key for key in there if there.count(key) > 1}):
        return f"keys must be unique; repeated: {', '.join(repeated[:5])}"
    missing, strange = sorted(set(wanted) - set(there)), sorted(set(there) - set(wanted))
    if missing or strange:
        return f"must hold exactly the planned keys; missing {missing[:5]}, strange {strange[:5]}"
    return "must hold its keys in the order of the plan"


def _image_problems(key: str, data: bytes) -> Iterator[str]:
    try:
        jpeg.decode(data)
    except ValueError as error:
        yield f"image of {key} {error}"
