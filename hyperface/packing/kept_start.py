"""The start that a run's packing drew, kept beside the run: a resume and the report read what is slow to draw.

The rows first, then their summary, which vouches for them. Where they are gone, damaged, or were drawn beside other
frozen or protected rows, they are drawn again.
"""

import hashlib
from typing import Any, TypedDict

import torch
from torch import Tensor

from hyperface.errors import RunError
from hyperface.faces import embeddings
from hyperface.faces.embeddings import Embeddings
from hyperface.packing.keep_away import Rows, identity_of
from hyperface.packing.partition import Partition
from hyperface.packing.problem import Posed
from hyperface.packing.sampling import Sample
from hyperface.run import Run
from hyperface.run.names import START, START_SUMMARY
from hyperface.run.records import to_json
from hyperface.run.shapes import Count


class _Summary(TypedDict):
    candidates: Count


def keep(run: Run, posed: Posed) -> None:
    """Write a start that was drawn, unless it is there. One rank calls it.

    Raises:
        StorageError: it cannot be written.
    """
    first, problem = run.config.packing.first_identity, posed.problem
    names = list(range(first, first + len(posed.x_ND)))
    contents = embeddings.to_parquet("identity", Embeddings(names, posed.x_ND.cpu().numpy(), posed.norms_N))
    beside = _beside(problem.frozen_FD, problem.protected_PD)
    summary = to_json({**(posed.sampled or {}), **beside, "sha256": hashlib.sha256(contents).hexdigest()})
    if run.store.exists(START_SUMMARY) and run.store.read(START_SUMMARY) == summary:
        return
    run.store.put(START, contents)
    run.store.put(START_SUMMARY, summary)


def kept(
    run: Run, frozen_FD: Rows | None, protected_PD: Rows | None, device: torch.device, partition: Partition
) -> Sample | None:
    """Read the start that `keep` wrote; None where it has to be drawn.

    Every rank calls it, and all go by what rank 0 found: a rank of a dying group may still write it.

    Raises:
        StorageError: it cannot be read.
    """
    found = _vouched(run, _beside(frozen_FD, protected_PD)) if partition.rank == 0 else None
    candidates = int(partition.each(torch.tensor(found or 0, device=device))[0])
    if not candidates:
        return None
    table = embeddings.read(run.store, START, "identity")
    return Sample(torch.tensor(table.vectors_ND, device=device), table.norms, candidates)


def _beside(frozen_FD: Tensor | Rows | None, protected_PD: Tensor | Rows | None) -> dict[str, Any]:
    """Describe the files that decide a sample and that the configuration only names."""
    return {"frozen": identity_of(frozen_FD), "protected": identity_of(protected_PD)}


def _vouched(run: Run, beside: dict[str, Any]) -> int | None:
    """Return the number of candidates that a kept start was drawn from; None where it cannot be used."""
    if not (run.store.exists(START_SUMMARY) and run.store.exists(START)):
        return None
    try:
        summary = run.shaped(START_SUMMARY, _Summary)
    except RunError:
        return None
    wanted = {**beside, "sha256": hashlib.sha256(run.store.read(START)).hexdigest()}
    return summary["candidates"] if {key: summary.get(key) for key in wanted} == wanted else None
