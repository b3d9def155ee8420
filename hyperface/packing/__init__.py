"""Packing identities on the recogniser's hypersphere: far from each other, near the gallery of real embeddings."""

from hyperface.packing.solver import Packing, pack

__all__ = ["Packing", "pack"]
