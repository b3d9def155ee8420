"""The images of a run: what is planned, what of it is there, and reading it back."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

from hyperface.config import Config, Format
from hyperface.dataset import fingerprint, parquet, webdataset
from hyperface.dataset.marker import Marker, Quarantine
from hyperface.dataset.plan import SUFFIX, Plan, marker_file, pending_file, quarantine_file, shard_file
from hyperface.dataset.schema import ShardImages
from hyperface.dataset.webdataset import WIDS
from hyperface.run import Run
from hyperface.run.names import DATA_CARD, DATASET, FINGERPRINT, INDEX
from hyperface.storage import Store

READERS = 16
"""Number of small objects that are read at a time; a marker is a few kilobytes."""
LOST = "is missing although its marker is there"


@dataclass(frozen=True)
class Glance:
    """The state of each shard by the names in one listing: seconds, where reading all markers takes minutes."""

    listing: dict[str, int]
    """Sizes of everything under `dataset/`, {name: bytes}."""
    done: list[int]
    """Shards with a marker."""
    damaged: dict[int, str]
    """Problems of shards with a marker that are known to be damaged, {shard: problem}: one line that names the file."""
    missing: list[int]
    """Shards without a marker."""
    quarantined: dict[int, str]
    """Reasons of the missing shards that are left alone, {shard: reason}: one line."""
    settled: list[int]
    """Shards that have a marker, and a note about a quarantine from before."""


@dataclass(frozen=True)
class Survey(Glance):
    """A glance, and what the markers say: `damaged` is all that is found without reading the files themselves."""

    markers: dict[int, Marker]
    """Markers that fit the plan and the sizes of their files, {shard: marker}."""


@dataclass(frozen=True)
class Dataset:
    """The images that a run plans, in the place where they are stored; whether any is there is asked of its methods.

    Iterating gives the committed shards in the order of the plan; of a dataset in both formats, from Parquet. It raises
    ValueError where a shard is truncated or foreign, naming the file and the rule.
    """

    store: Store
    config: Config
    plan: Plan
    formats: tuple[Format, ...]
    """The file formats of each shard."""

    @classmethod
    def of(cls, run: Run) -> Self:
        """The dataset of a run, as its configuration plans it; nothing is read."""
        return cls(run.store, run.config, Plan.of(run.config), run.config.dataset.formats)

    def begun_with(self) -> dict[str, Any] | None:
        """Read what decides the bytes, {name: value}, as recorded with the first shard; None before that.

        Raises:
            RunError: the record is damaged.
        """
        return fingerprint.recorded(self.store)

    def fingerprint(self) -> str | None:
        """The digest of `begun_with`, which every marker carries; None before the first shard."""
        parts = self.begun_with()
        return fingerprint.digest(parts) if parts else None

    def glance(self, listing: dict[str, int] | None = None) -> Glance:
        """List the dataset and compare the names with the plan. Only notes about quarantines are read.

        Args:
            listing: {name: bytes} of the store, where there is one already.
        """
        listing, shards = self.store.list(DATASET) if listing is None else listing, range(self.plan.num_shards)
        done = [shard for shard in shards if marker_file(shard) in listing]
        missing = [shard for shard in shards if marker_file(shard) not in listing]
        damaged = {}
        for shard in done:
            for name in self.files(shard):
                if name not in listing:
                    damaged[shard] = f"{self.store.uri(name)}: {LOST}"
        noted = [shard for shard in shards if quarantine_file(shard) in listing]
        there = set(done)
        quarantined = {shard: self._quarantine(shard) for shard in noted if shard not in there}
        return Glance(listing, done, damaged, missing, quarantined, [shard for shard in noted if shard in there])

    def survey(self) -> Survey:
        """List the dataset, read its markers and compare them with plan, fingerprint and the sizes in the listing."""
        seen, expected = self.glance(), self.fingerprint()
        found: dict[int, Marker] = {}
        damaged: dict[int, str] = {}

        def read(shard: int) -> Marker | str:
            name = marker_file(shard)
            try:
                marker = Marker.from_bytes(self.store.read(name), self.store.uri(name))
            except ValueError as error:
                return str(error)
            for file, problem in self._problems(shard, marker, expected, seen.listing):
                return f"{self.store.uri(file)}: {problem}"
            return marker

        with ThreadPoolExecutor(READERS) as readers:
            for shard, result in zip(seen.done, readers.map(read, seen.done), strict=True):
                if isinstance(result, str):
                    damaged[shard] = result
                else:
                    found[shard] = result
        return Survey(**{**vars(seen), "damaged": damaged}, markers=found)

    def __iter__(self) -> Iterator[ShardImages]:
        found = self.survey()
        for problem in found.damaged.values():
            raise ValueError(problem)
        for shard in sorted(found.markers):
            name = found.markers[shard].files[0].name
            yield from_bytes(self.store.read(name), self.store.uri(name))

    def files(self, shard: int) -> list[str]:
        """Return the names of the files of a shard, one for each format."""
        return [shard_file(kind, shard) for kind in self.formats]

    def unexpected(self, listing: dict[str, int]) -> list[str]:
        """Return names under `dataset/` that no shard of the plan has."""
        known = {FINGERPRINT, INDEX, DATA_CARD, WIDS}
        for shard in range(self.plan.num_shards):
            known |= {marker_file(shard), pending_file(shard), quarantine_file(shard), *self.files(shard)}
        return [name for name in listing if name not in known]

    def _quarantine(self, shard: int) -> str:
        name = quarantine_file(shard)
        try:
            return str(Quarantine.from_bytes(self.store.read(name), self.store.uri(name)))
        except FileNotFoundError:
            return f"{self.store.uri(name)}: was there a moment ago"
        except ValueError as error:
            return str(error)

    def _problems(
        self, shard: int, marker: Marker, expected: str | None, listing: dict[str, int]
    ) -> Iterator[tuple[str, str]]:
        """Yield (file, what is wrong with it) for a shard."""
        name, planned = marker_file(shard), self.plan.rows(shard)
        if marker.shard != shard:
            yield name, f"must describe shard {shard}; it describes shard {marker.shard}"
        if expected is not None and marker.fingerprint != expected:
            yield name, f"was made with another configuration, references or models (fingerprint {marker.fingerprint})"
        if marker.rows + len(marker.rejects) != planned:
            yield name, f"must account for {planned} images; it has {marker.rows}+{len(marker.rejects)} rejects"
        if [file.name for file in marker.files] != self.files(shard):
            yield name, f"must name the files {', '.join(self.files(shard))}"
        for file in marker.files:
            if file.name not in listing:
                yield file.name, LOST
            elif listing[file.name] != file.bytes:
                yield file.name, f"must have the {file.bytes} bytes of its marker; it has {listing[file.name]}"


def from_bytes(data: bytes, name: str, *, proven: bool = False) -> ShardImages:
    """Read a shard of either format, which the suffix of its name shows.

    Args:
        proven: the bytes are those of a marker: whether a tar is ours to the last byte is not looked at again.

    Raises:
        ValueError: names the file and the rule.
    """
    if name.endswith(SUFFIX["parquet"]):
        return parquet.from_bytes(data, name)
    return webdataset.from_bytes(data, name, proven=proven)
