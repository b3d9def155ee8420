"""The whole dataset in one process: the oracle of the distributed stage, and enough for a small one."""

from hyperface.dataset import index
from hyperface.models.protocols import Models
from hyperface.run import Run
from hyperface.synthesis.anchors import num_blocks
from hyperface.synthesis.shards import read_references, shard_maker


def make_dataset(run: Run, models: Models) -> None:
    """Make the shards that have no marker, then the index.

    Raises:
        RunError, EmbeddingError, ConfigError, StorageError: as `shard_maker` and `ShardMaker.make`.
    """
    maker = shard_maker(run, read_references(run), models)
    for block in range(num_blocks(maker.dataset.plan) if models.judge else 0):
        maker.make_anchors(block)
    for shard in maker.dataset.glance().missing:
        maker.make(shard)
    index.write(maker.dataset, maker.dataset.survey().markers)
