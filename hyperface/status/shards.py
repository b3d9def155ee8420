"""The shards of a run, by the names of their files, and what went wrong with them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hyperface import run
from hyperface.dataset.dataset import Dataset
from hyperface.dataset.plan import marker_file, pending_file
from hyperface.run import names
from hyperface.run.shapes import Row
from hyperface.status.seen import Seen


@dataclass(frozen=True)
class Shards:
    total: int
    done: int
    damaged: dict[int, str]
    """Shards whose marker is there and whose file is not."""
    quarantined: dict[int, str]
    left: set[int]
    """Shards that are neither done nor quarantined."""
    pending: int


def shards_of(seen: Seen) -> Shards:
    dataset = Dataset.of(run.Run(seen.store, seen.config))
    found = dataset.glance(dict(seen.listing))
    pending = sum(pending_file(shard) in seen.listing for shard in found.missing)
    left = set(found.missing) - found.quarantined.keys()
    return Shards(dataset.plan.num_shards, len(found.done), found.damaged, found.quarantined, left, pending)


def failing(seen: Seen, shards: Shards, rows: Sequence[Row]) -> Iterator[str]:
    """Yield damage that names show; shards that the last job could not make; a gallery with too many bad faces."""
    yield from (shards.damaged[shard] for shard in sorted(shards.damaged))
    failed = {row["shard"]: row["failed"] for row in rows if "shard" in row and "failed" in row}
    yield from (f"shard {shard}: {failed[shard]}" for shard in sorted(failed.keys() & shards.left))
    problems = [row for row in seen.rows("embed") if row.get("event") == "problem"]
    if problems and names.GALLERY not in seen.listing:
        first = f"{problems[0].get('key')}: {problems[0].get('problem')}"
        record = seen.store.uri(names.record_name("embed"))
        yield f"{len(problems)} faces could not be used, e.g. {first}; all are in {record}"


def rejects(seen: Seen, shards: Shards, rows: Sequence[Row]) -> int:
    finished = [row for row in rows if row.get("event") == "finished" and "rejects" in row]
    if finished and not shards.left and not shards.quarantined:
        return finished[-1]["rejects"]
    made = {row["shard"]: row["rejects"] for row in rows if "shard" in row and "rejects" in row}
    return sum(rejects for shard, rejects in made.items() if marker_file(shard) in seen.listing)
