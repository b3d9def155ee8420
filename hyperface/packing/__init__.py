"""Packing identities on the recogniser's hypersphere: far from each other, near the gallery of real embeddings."""

from hyperface.packing.result import Packing
from hyperface.packing.single import pack

__all__ = ["Packing", "pack"]
