"""A finished run as a source of images: proved whole by its markers, then read one checked shard at a time."""

import hashlib
from collections.abc import Container, Iterable
from dataclasses import dataclass
from functools import cached_property

from hyperface.dataset import fingerprint
from hyperface.dataset.classes import Classes, classes
from hyperface.dataset.dataset import Dataset, from_bytes
from hyperface.dataset.marker import FileRecord, Marker
from hyperface.dataset.plan import Plan
from hyperface.dataset.schema import ShardImages
from hyperface.errors import RunError
from hyperface.run import Run
from hyperface.run.names import CONFIG, FINGERPRINT, INDEX
from hyperface.run.shapes import Listing

NAMED = 10
"""Most damaged shards that one message names."""


@dataclass(frozen=True)
class Source:
    """A whole run. Keeps a line per shard and per image that is not there, never an image."""

    run: Run
    plan: Plan
    fingerprint: str
    files: tuple[FileRecord, ...]
    """The file of each shard that is read: Parquet where there are both formats."""
    rows: tuple[int, ...]
    """Number of images of each shard, duplicates included."""
    rejected: dict[str, tuple[int, int]]
    """Planned images that no shard holds, {key: (identity, image)}."""
    parts: dict[str, object]
    """Values that decided the bytes; see `fingerprint.py`."""
    index_sha256: str
    """SHA-256 of the index, by which the source is known: the index names every file with its hash, and the
    duplicates."""
    duplicates: frozenset[str]
    """Keys that readers leave out, by the index."""

    @cached_property
    def classes(self) -> Classes:
        absent = [*self.rejected.values(), *((int(key[:7]), int(key[8:])) for key in self.duplicates)]
        plan = self.plan
        return classes(plan.first_identity, plan.num_identities, plan.images_per_identity, absent)

    def read(self, shard: int, *, proven: bool = False) -> ShardImages:
        """Read the images of a shard without the duplicates, in its order.

        Args:
            proven: enough that the bytes are those of the marker, for who reads a shard in every epoch; whether a tar
                is ours to the last byte is not looked at.

        Raises:
            RunError: its bytes are not those of its marker, or it holds other images; names the file and the rule.
        """
        file, store = self.files[shard], self.run.store
        try:
            data = store.read(file.name)
            if hashlib.sha256(data).hexdigest() != file.sha256:
                raise ValueError(f"{store.uri(file.name)}: must have the SHA-256 of its marker, {file.sha256}")
            images = from_bytes(data, store.uri(file.name), proven=proven)
            if images.keys != [key for key in self.plan.keys(shard) if key not in self.rejected]:
                raise ValueError(f"{store.uri(file.name)}: must hold its planned keys in their order")
        except FileNotFoundError as error:
            raise RunError(
                f"{store.uri(file.name)}: is missing although its marker is there; {_mend(self.run)}"
            ) from error
        except ValueError as error:
            raise RunError(f"{error}; {_mend(self.run)}") from error
        return without(images, self.duplicates)


def without(images: ShardImages, keys: frozenset[str]) -> ShardImages:
    """Return the rows whose key is not among `keys`."""
    kept = [row for row, key in enumerate(images.keys) if key not in keys]
    if len(kept) == len(images.keys):
        return images
    return ShardImages(**{name: [column[row] for row in kept] for name, column in vars(images).items()})


def open_source(run: Run) -> Source:
    """Prove with one listing and the markers that the run is finished and whole.

    Raises:
        RunError: it is not; says what is missing or damaged and what to run.
    """
    dataset, store = Dataset.of(run), run.store
    if not store.exists(INDEX):
        raise RunError(f"{store.uri(INDEX)}: is missing: the dataset is not finished; {_finish(run)}")
    plan, parts = dataset.plan, dataset.begun_with()
    if parts is None:
        raise RunError(f"{store.uri(FINGERPRINT)}: is missing; put it back, or export another run")
    digest, found = fingerprint.digest(parts), dataset.survey()
    if found.missing:
        count = f"not done of {plan.num_shards} shards: {len(found.missing)}"
        raise RunError(f"{store.uri(INDEX)}: is there, but {count}; {_finish(run)}")
    if found.damaged:
        lines = [found.damaged[shard] for shard in sorted(found.damaged)]
        raise RunError("\n  ".join([f"{run}: damaged shards: {len(lines)}; {_mend(run)}", *lines[:NAMED]]))
    markers = tuple(found.markers[shard] for shard in range(plan.num_shards))
    data, index = store.read(INDEX), _index(run)
    if index.get("fingerprint") != digest or not _describes(index, markers):
        raise RunError(f"{store.uri(INDEX)}: does not say what the markers say; {_finish(run)}")
    rejects = [reject for marker in markers for reject in marker.rejects]
    rejected = {reject.key: (reject.identity, reject.image_index) for reject in rejects}
    duplicates = _duplicates(run, index.get("duplicates", []), plan, rejected)
    files = tuple(marker.files[0] for marker in markers)
    rows = tuple(marker.rows for marker in markers)
    return Source(run, plan, digest, files, rows, rejected, parts, hashlib.sha256(data).hexdigest(), duplicates)


def _index(run: Run) -> Listing:
    try:
        return run.shaped(INDEX, Listing)
    except RunError as error:
        raise RunError(f"{run.store.uri(INDEX)}: cannot be read ({error.__cause__}); {_finish(run)}") from error


def _describes(index: Listing, markers: Iterable[Marker]) -> bool:
    given = [[(f.get("name"), f.get("sha256")) for f in shard["files"]] for shard in index["shards"]]
    return given == [[(file.name, file.sha256) for file in marker.files] for marker in markers]


def _duplicates(run: Run, keys: Iterable[str], plan: Plan, rejected: Container[str]) -> frozenset[str]:
    """Return the index's duplicates, each of which must be an image that is there."""
    given = frozenset(keys)
    for key in sorted(given):
        identity, _, image = key.partition("-")
        row = int(identity) - plan.first_identity if identity.isdecimal() and len(identity) == 7 else -1
        planned_image = image.isdecimal() and len(image) == 4 and int(image) < plan.images_per_identity
        if not (0 <= row < plan.num_identities and planned_image) or key in rejected:
            raise RunError(f"{run.store.uri(INDEX)}: duplicates names {key!r}, which is no image of this dataset")
    return given


def _finish(run: Run) -> str:
    return f"run `python -m jobs.pipeline {run}` first"


def _mend(run: Run) -> str:
    return f"mend it with `python -m jobs.synthesize {run.store.uri(CONFIG)} synthesis.repair=true`"
