"""Reading a dataset back, shard by shard."""

from collections.abc import Iterator

from hyperface.dataset import parquet, webdataset
from hyperface.dataset.plan import SUFFIX
from hyperface.dataset.schema import ShardImages
from hyperface.dataset.survey import planned, planned_formats, survey
from hyperface.run import Run


def from_bytes(data: bytes, name: str, *, proven: bool = False) -> ShardImages:
    """A shard of either format, told by the suffix of its name.

    Args:
        proven: the bytes are those of a marker: whether a tar is ours to the last byte is not looked at again.

    Raises:
        ValueError: names the file and the rule.
    """
    if name.endswith(SUFFIX["parquet"]):
        return parquet.from_bytes(data, name)
    return webdataset.from_bytes(data, name, proven=proven)


def read_shards(run: Run) -> Iterator[ShardImages]:
    """The committed shards in the order of the plan; in a dataset of both formats, from Parquet.

    Raises:
        ValueError: a shard is truncated or foreign; names the file and the rule.
    """
    found = survey(run.store, planned(run.config), planned_formats(run.config), None)
    for problem in found.damaged.values():
        raise ValueError(problem)
    for shard in sorted(found.markers):
        name = found.markers[shard].files[0].name
        yield from_bytes(run.store.read(name), run.store.uri(name))
