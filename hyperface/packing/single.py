"""The packing in one process.

N: all rows, G: gallery rows, F: frozen rows, P: protected rows, D: embedding dimension.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from hyperface.config import PackingConfig
from hyperface.packing import result, solver
from hyperface.packing.partition import one_process
from hyperface.packing.problem import Inputs, pose
from hyperface.packing.result import Packing, Progress
from hyperface.packing.sampling import Tell


def pack(
    start_ND: NDArray[np.float32],
    config: PackingConfig,
    *,
    seed: int,
    gallery_GD: NDArray[np.float32] | None = None,
    frozen_FD: NDArray[np.float32] | None = None,
    protected_PD: NDArray[np.float32] | None = None,
    norms_N: NDArray[np.float32] | None = None,
    on_step: Callable[[Progress], None] | None = None,
    on_draw: Tell | None = None,
    device: str = "cpu",
) -> Packing:
    """Spread identities on the hypersphere, near the gallery: HyperFace in one process.

    Paper: HyperFace (Otroshi Shahreza and Marcel, ICLR 2025), algorithms 1 and 2. Minimise, over unit rows,
    separation + alpha * mean over rows of the cosine distance to the nearest gallery row, by Adam on the rows
    themselves, normalising them after each step. Here: with more choices of the separation and of the start, and with
    rows to keep away from. The result is the best step's, never worse than the start.

    Args:
        start_ND: at least config.num_identities unit rows; a seeded choice of them, when there are more, is the start.
            For config.start=random, algebraic or rejection only their dimension counts, and there may be none.
        gallery_GD: unit rows that references should stay near; None: no gallery term.
        frozen_FD: unit rows that do not move and that references keep away from, as from each other.
        protected_PD: unit rows that no reference comes closer to than config.protected_cosine.
        norms_N: norms of the features that rows of the start are the directions of, for config.start=pca; None: 1.
        on_step: called after each step, with what it saw; waits for the device.
        on_draw: called with (identities kept, candidates seen) while a start is drawn.
        device: name of a torch device.

    Raises:
        EmbeddingError: rows are not finite or not of norm 1 (to 1e-3); names them.
        ConfigError: an impossible problem: too few identities, dimensions or rows to start from; rows of another
            dimension; packing.protected_cosine or packing.start_cosine that cannot be met; an algebraic start that does
            not exist.
    """
    partition, place = one_process(config.num_identities), torch.device(device)
    inputs = Inputs(start_ND, gallery_GD, frozen_FD, protected_PD, norms_N)
    posed = pose(inputs, config, seed, place, partition, on_draw)
    state, before = result.begin(posed, partition)
    for value in solver.iterate(state, posed.problem, partition):
        if on_step is not None:
            on_step(Progress.of(value, state))
    return result.finished(state, posed, partition, before)
