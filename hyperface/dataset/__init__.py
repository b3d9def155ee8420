"""The dataset on storage: formats, markers, commit, index, verification. Shared by synthesis and report."""

from hyperface.dataset.reading import read_shards
from hyperface.dataset.schema import Sample, ShardImages
from hyperface.dataset.verify import verify

__all__ = ["Sample", "ShardImages", "read_shards", "verify"]
