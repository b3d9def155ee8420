"""The three ways to say how close identities are, of which packing.separation names one."""

from hyperface.config import PackingConfig
from hyperface.packing.objective import Separation
from hyperface.packing.objectives.closest_pair import ClosestPair
from hyperface.packing.objectives.nearest import NearestRows
from hyperface.packing.objectives.soft_maximum import SoftMaximum


def chosen(config: PackingConfig) -> Separation:
    """The separation that a configuration asks for."""
    match config.separation:
        case "closest_pair":
            return ClosestPair(config)
        case "nearest":
            return NearestRows(config)
        case "logsumexp":
            return SoftMaximum(config)
