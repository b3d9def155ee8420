"""The packing of a run: from its gallery to its references, with checkpoints, records and a summary.

N: all rows, L: own rows of this rank, G: gallery rows, D: embedding dimension.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from hyperface import embeddings
from hyperface.embeddings import Embeddings
from hyperface.packing import checkpoint, others, result, solver
from hyperface.packing.checkpoint import History
from hyperface.packing.problem import Posed, pose
from hyperface.packing.result import Packing, Progress
from hyperface.packing.shard import Shard
from hyperface.packing.solver import Problem, State
from hyperface.ranks import speaker
from hyperface.run import GALLERY, PACKING_SUMMARY, REFERENCES, Run, RunError

PROGRESS_SECONDS = 2.0
RECORDED = 80
"""About so many steps of a run are recorded."""


def is_done(run: Run) -> bool:
    return run.store.exists(REFERENCES) and run.store.exists(PACKING_SUMMARY)


def load_problem(run: Run, device: torch.device) -> Posed:
    """The run's problem and its start.

    Raises:
        ConfigError: the gallery has fewer rows than there are identities to pack; as `others.read`.
        EmbeddingError: the gallery, the frozen or the protected rows cannot be used.
    """
    config = run.config.packing
    gallery_GD = embeddings.read(run.store, GALLERY, "key").vectors_ND
    frozen_FD, protected_PD = others.read(config, run.config.storage)
    return pose(gallery_GD, config, run.config.run.seed, device, gallery_GD, frozen_FD, protected_PD)


def pack_rows(run: Run, shard: Shard, device: torch.device, say: Callable[[str], None] | None = None) -> None:
    """One rank's part of the run's packing, from the newest checkpoint; rank 0 writes the results.

    Every rank calls it, with the same `shard.sizes`.

    Args:
        say: told how far it is, on rank 0; None: standard output.

    Raises:
        ConfigError, EmbeddingError: as `load_problem`; packing.protected_cosine cannot be met.
        RunError: other references are there already.
        StorageError: something cannot be read or written; the newest checkpoint stays.
    """
    posed = load_problem(run, device)
    config, problem = run.config.packing, posed.problem
    state, history = checkpoint.load(run.store, shard, device) or _begin(posed, shard)
    say = speaker(shard.rank, say)
    n, dim = sum(shard.sizes), state.x_LD.shape[1]
    told = f"{n} identities in {dim} dimensions, {len(shard.sizes)} workers"
    say(f"packing: {told}, from step {state.step} of {config.steps}")
    said, saved = time.monotonic(), state.step
    for value in solver.iterate(state, problem, shard):
        last = state.step == config.steps
        if (state.step - 1) % -(-config.steps // RECORDED) == 0 or last:
            history.progress.append(Progress.of(value, state))
            if time.monotonic() - said > PROGRESS_SECONDS:
                said = time.monotonic()
                say(progress_line(history.progress[-1], config.steps))
        if state.step % config.checkpoint_every == 0 or last:
            checkpoint.save(run.store, state, history, shard)
            saved = state.step
    if saved < state.step:
        checkpoint.save(run.store, state, history, shard)
    packing = result.finished(state, posed, shard, history.before)
    if state.step:
        history.progress.append(Progress.at_the_end(packing, problem))
    if shard.rank == 0:
        write_results(run, packing, history, problem)
        say(f"packing: {summary_line(packing)} -> {run.store.uri(REFERENCES)}")


def _begin(posed: Posed, shard: Shard) -> tuple[State, History]:
    state, before = result.begin(posed, shard)
    return state, History(before)


def write_results(run: Run, packing: Packing, history: History, problem: Problem) -> None:
    """References, the steps' record, then the summary, which marks the stage as done; then checkpoints go."""
    first = run.config.packing.first_identity
    identities = list(range(first, first + len(packing.references_ND)))
    contents = embeddings.to_parquet("identity", Embeddings(identities, packing.references_ND))
    if not run.store.put_new(REFERENCES, contents) and run.store.read(REFERENCES) != contents:
        uri = run.store.uri(REFERENCES)
        raise RunError(f"{uri}: holds other references than this packing's, without summary; delete it and run again")
    if not run.records("packing"):
        run.record("packing", [asdict(progress) for progress in history.progress])
    summary = {key: value for key, value in asdict(packing).items() if key != "references_ND"}
    n, dim = packing.references_ND.shape
    config = run.config.packing
    described = {"num_identities": n, "dim": dim}
    described |= {key: getattr(config, key) for key in ("separation", "alpha", "start", "precision")}
    described |= {"frozen": _identity(problem.frozen_FD), "protected": _identity(problem.protected_PD)}
    run.put_json(PACKING_SUMMARY, summary | described)
    checkpoint.clear(run.store)


def _identity(rows: torch.Tensor | None) -> dict[str, Any] | None:
    """Which rows they were: how many, and the SHA-256 of their float32 numbers."""
    if rows is None:
        return None
    return {"rows": len(rows), "sha256": hashlib.sha256(rows.cpu().numpy().tobytes()).hexdigest()}


def summary_line(packing: Packing) -> str:
    gallery = "" if packing.mean_gallery_cosine is None else f", gallery {packing.mean_gallery_cosine:.3f}"
    return (
        f"max cosine {packing.max_cosine_before:.3f} before, {packing.max_cosine:.3f} after "
        f"(bound {packing.bound_cosine:.3f}){gallery}, {packing.steps} steps in {packing.seconds:.0f} s"
    )


def progress_line(progress: Progress, steps: int) -> str:
    gallery = "" if progress.mean_gallery_cosine is None else f" gallery {progress.mean_gallery_cosine:.3f}"
    return f"packing: step {progress.step}/{steps} max cosine {progress.max_cosine:.3f}{gallery}"
