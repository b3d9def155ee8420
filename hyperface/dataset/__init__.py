"""The dataset on storage: formats, markers, commit, index, verification. Shared by synthesis and report."""

from hyperface.dataset.dataset import Dataset
from hyperface.dataset.schema import Sample, ShardImages
from hyperface.dataset.verify import verify

__all__ = ["Dataset", "Sample", "ShardImages", "verify"]
