"""The packing of a run: from its gallery to its references, with checkpoints, records and a summary.

N: all rows, L: own rows of this rank, G: gallery rows, D: embedding dimension.
"""

import sys
import time
from dataclasses import asdict

import torch

from hyperface import embeddings
from hyperface.embeddings import Embeddings
from hyperface.packing import checkpoint, solver
from hyperface.packing.checkpoint import History
from hyperface.packing.shard import Shard
from hyperface.packing.solver import Packing, Problem, Progress, State
from hyperface.run import GALLERY, PACKING_SUMMARY, REFERENCES, Run, RunError

PROGRESS_SECONDS = 2.0
RECORDED = 80
"""About so many steps of a run are recorded."""


def is_done(run: Run) -> bool:
    return run.store.exists(REFERENCES) and run.store.exists(PACKING_SUMMARY)


def load_problem(run: Run, device: torch.device) -> tuple[Problem, State, int]:
    """The run's problem, its start as one rank's state, and how many duplicates were separated.

    Raises:
        ConfigError: the gallery has fewer rows than there are identities to pack.
        EmbeddingError: the gallery cannot be used.
    """
    gallery_GD = embeddings.read(run.store, GALLERY, "key").vectors_ND
    x_ND, duplicates = solver.prepare(gallery_GD, gallery_GD, run.config.packing, run.config.run.seed)
    problem = Problem(run.config.packing, run.config.run.seed, torch.tensor(gallery_GD, device=device))
    return problem, solver.fresh_state(torch.tensor(x_ND, device=device)), duplicates


def pack_rows(run: Run, shard: Shard, device: torch.device) -> None:
    """One rank's part of the run's packing, from the newest checkpoint; rank 0 writes the results.

    Every rank calls it, with the same `shard.sizes`.

    Raises:
        RunError: other references are there already.
        StorageError: something cannot be read or written; the newest checkpoint stays.
    """
    problem, start, duplicates = load_problem(run, device)
    state, history = checkpoint.load(run.store, shard, device) or _begin(start, problem, shard)
    say = _say if shard.rank == 0 else _be_silent
    n, dim = sum(shard.sizes), state.x_LD.shape[1]
    steps, every = problem.config.steps, problem.config.checkpoint_every
    say(f"packing: {n} identities in {dim} dimensions, {len(shard.sizes)} workers, from step {state.step} of {steps}")
    said = time.monotonic()
    for progress in solver.iterate(state, problem, shard):
        if progress.step % -(-steps // RECORDED) == 0 or state.step == steps:
            history.progress.append(progress)
        if time.monotonic() - said > PROGRESS_SECONDS:
            said = time.monotonic()
            say(_line(progress, steps))
        if state.step % every == 0 or state.step == steps:
            checkpoint.save(run.store, state, history, shard)
    packing = solver.finished(state, problem, shard, history.before, duplicates)
    if shard.rank == 0:
        write_results(run, packing, history)
        say(f"packing: {summary_line(packing)} -> {run.store.uri(REFERENCES)}")


def _begin(start: State, problem: Problem, shard: Shard) -> tuple[State, History]:
    own = solver.fresh_state(start.x_LD[shard.own])
    return own, History(solver.measure(own.x_LD, problem.gallery_GD, shard))


def write_results(run: Run, packing: Packing, history: History) -> None:
    """References, the steps' record, then the summary, which marks the stage as done; then checkpoints go."""
    identities = list(range(len(packing.references_ND)))
    contents = embeddings.to_parquet("identity", Embeddings(identities, packing.references_ND))
    if not run.store.put_new(REFERENCES, contents) and run.store.read(REFERENCES) != contents:
        uri = run.store.uri(REFERENCES)
        raise RunError(f"{uri}: holds other references than this packing's, without summary; delete it and run again")
    if not run.records("packing"):
        run.record("packing", [asdict(progress) for progress in history.progress])
    summary = {key: value for key, value in asdict(packing).items() if key != "references_ND"}
    n, dim = packing.references_ND.shape
    config = run.config.packing
    described = {"num_identities": n, "dim": dim, "separation": config.separation, "alpha": config.alpha}
    run.put_json(PACKING_SUMMARY, summary | described)
    checkpoint.clear(run.store)


def summary_line(packing: Packing) -> str:
    gallery = "" if packing.mean_gallery_cosine is None else f", gallery {packing.mean_gallery_cosine:.3f}"
    return (
        f"max cosine {packing.max_cosine_before:.3f} before, {packing.max_cosine:.3f} after "
        f"(bound {packing.bound_cosine:.3f}){gallery}, {packing.steps} steps in {packing.seconds:.0f} s"
    )


def _line(progress: Progress, steps: int) -> str:
    gallery = "" if progress.mean_gallery_cosine is None else f" gallery {progress.mean_gallery_cosine:.3f}"
    return f"packing: step {progress.step}/{steps} max cosine {progress.max_cosine:.3f}{gallery}"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")  # Ray Train's own `print` would say it twice
    sys.stdout.flush()


def _be_silent(line: str) -> None:
    pass
