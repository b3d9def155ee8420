"""The start that a run's packing drew, kept beside the run: a resume and the report read what is slow to draw.

The rows first, then their summary, which vouches for them.
"""

import torch

from hyperface import embeddings
from hyperface.embeddings import Embeddings
from hyperface.packing.problem import Posed
from hyperface.packing.sampling import Sample
from hyperface.packing.shard import Shard
from hyperface.run import START, START_SUMMARY, Run


def keep(run: Run, posed: Posed) -> None:
    """Write a start that was drawn, unless it is there.

    Raises:
        StorageError: it cannot be written.
    """
    if run.store.exists(START_SUMMARY):
        return
    first = run.config.packing.first_identity
    names = list(range(first, first + len(posed.x_ND)))
    table = Embeddings(names, posed.x_ND.cpu().numpy(), posed.norms_N)
    run.store.put(START, embeddings.to_parquet("identity", table))
    run.put_json(START_SUMMARY, posed.sampled)


def kept(run: Run, device: torch.device, shard: Shard) -> Sample | None:
    """What `keep` wrote; None when there is none.

    Every rank calls it, and all take it or none: a rank of a dying group may write it in between.

    Raises:
        EmbeddingError: it is damaged.
    """
    there = torch.tensor(int(run.store.exists(START_SUMMARY)), device=device)
    if not shard.each(there)[0]:
        return None
    table = embeddings.read(run.store, START, "identity")
    candidates = int(run.get_json(START_SUMMARY)["candidates"])
    return Sample(torch.tensor(table.vectors_ND, device=device), table.norms, candidates)
