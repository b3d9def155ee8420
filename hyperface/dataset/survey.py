"""What of a planned dataset is there: one listing, and where it is asked for the markers it names."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from hyperface.config import Config
from hyperface.dataset.marker import Marker, Quarantine
from hyperface.dataset.plan import Format, Plan, formats, marker_file, pending_file, quarantine_file, shard_file
from hyperface.dataset.webdataset import WIDS
from hyperface.run.names import DATA_CARD, DATASET, FINGERPRINT, INDEX
from hyperface.storage import Store

READERS = 16
"""Small objects read at a time; a marker is a few kilobytes."""
LOST = "is missing although its marker is there"


@dataclass(frozen=True)
class Glance:
    """What the names in one listing tell: enough to go on, in seconds where reading all markers takes minutes."""

    listing: dict[str, int]
    """{name: bytes} of everything under `dataset/`."""
    done: list[int]
    """Shards with a marker."""
    damaged: dict[int, str]
    """What is wrong with those of them that are known to be damaged: one line that names the file."""
    missing: list[int]
    """Shards without a marker."""
    quarantined: dict[int, str]
    """Why some of the missing shards are left alone, by shard: one line."""
    settled: list[int]
    """Shards that have a marker, and a note about a quarantine from before."""


@dataclass(frozen=True)
class Survey(Glance):
    """A glance, and what the markers say: `damaged` is all that is found without reading the files themselves."""

    markers: dict[int, Marker]
    """The markers that fit the plan and the sizes of their files, by shard."""

    def unexpected(self, plan: Plan, kinds: Sequence[Format]) -> list[str]:
        """Names under `dataset/` that no shard of the plan has."""
        known = {FINGERPRINT, INDEX, DATA_CARD, WIDS}
        for shard in range(plan.num_shards):
            known |= {marker_file(shard), pending_file(shard), quarantine_file(shard)}
            known |= {shard_file(kind, shard) for kind in kinds}
        return [name for name in self.listing if name not in known]


def planned(config: Config) -> Plan:
    """The plan that a configuration asks for."""
    return Plan(
        seed=config.run.seed,
        num_identities=config.packing.num_identities,
        images_per_identity=config.synthesis.images_per_identity,
        images_per_shard=config.synthesis.images_per_shard,
        first_identity=config.packing.first_identity,
    )


def glance(store: Store, plan: Plan, kinds: Sequence[Format], listing: dict[str, int] | None = None) -> Glance:
    """List the dataset and compare the names with the plan. Only notes about quarantines are read.

    Args:
        listing: of the store, where there is one already.
    """
    listing, shards = store.list(DATASET) if listing is None else listing, range(plan.num_shards)
    done = [shard for shard in shards if marker_file(shard) in listing]
    missing = [shard for shard in shards if marker_file(shard) not in listing]
    damaged = {}
    for shard in done:
        for name in (shard_file(kind, shard) for kind in kinds):
            if name not in listing:
                damaged[shard] = f"{store.uri(name)}: {LOST}"
    noted = [shard for shard in shards if quarantine_file(shard) in listing]
    there = set(done)
    quarantined = {shard: _quarantine(store, shard) for shard in noted if shard not in there}
    return Glance(listing, done, damaged, missing, quarantined, [shard for shard in noted if shard in there])


def survey(store: Store, plan: Plan, kinds: Sequence[Format], fingerprint: str | None) -> Survey:
    """List the dataset, read its markers and compare them with the plan and the sizes in the listing.

    Args:
        fingerprint: what every marker must carry; None: not known, not compared.
    """
    seen = glance(store, plan, kinds)
    found: dict[int, Marker] = {}
    damaged: dict[int, str] = {}

    def read(shard: int) -> Marker | str:
        name = marker_file(shard)
        try:
            marker = Marker.from_bytes(store.read(name), store.uri(name))
        except ValueError as error:
            return str(error)
        for file, problem in _problems(marker, shard, plan, kinds, fingerprint, seen.listing):
            return f"{store.uri(file)}: {problem}"
        return marker

    with ThreadPoolExecutor(READERS) as readers:
        for shard, result in zip(seen.done, readers.map(read, seen.done), strict=True):
            if isinstance(result, str):
                damaged[shard] = result
            else:
                found[shard] = result
    return Survey(**{**vars(seen), "damaged": damaged}, markers=found)


def _quarantine(store: Store, shard: int) -> str:
    name = quarantine_file(shard)
    try:
        return str(Quarantine.from_bytes(store.read(name), store.uri(name)))
    except FileNotFoundError:
        return f"{store.uri(name)}: was there a moment ago"
    except ValueError as error:
        return str(error)


def _problems(
    marker: Marker,
    shard: int,
    plan: Plan,
    kinds: Sequence[Format],
    fingerprint: str | None,
    listing: dict[str, int],
) -> Iterator[tuple[str, str]]:
    """(file, what is wrong with it)"""
    name = marker_file(shard)
    if marker.shard != shard:
        yield name, f"must describe shard {shard}; it describes shard {marker.shard}"
    if fingerprint is not None and marker.fingerprint != fingerprint:
        yield name, f"was made with another configuration, references or models (fingerprint {marker.fingerprint})"
    if marker.rows + len(marker.rejects) != plan.rows(shard):
        yield name, f"must account for {plan.rows(shard)} images; it has {marker.rows}+{len(marker.rejects)} rejects"
    if [file.name for file in marker.files] != [shard_file(kind, shard) for kind in kinds]:
        yield name, f"must name the files {', '.join(shard_file(kind, shard) for kind in kinds)}"
    for file in marker.files:
        if file.name not in listing:
            yield file.name, LOST
        elif listing[file.name] != file.bytes:
            yield file.name, f"must have the {file.bytes} bytes of its marker; it has {listing[file.name]}"


def planned_formats(config: Config) -> tuple[Format, ...]:
    """The file formats that a configuration asks for."""
    return formats(config.dataset.format)
