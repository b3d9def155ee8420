"""The packing of a run: from its gallery to its references, with checkpoints, records and a summary.

N: all rows, L: own rows of this rank, G: gallery rows, D: embedding dimension.
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch
from numpy.typing import NDArray

from hyperface.config import without_knobs
from hyperface.distributed.ranks import speaker
from hyperface.errors import RunError
from hyperface.faces import embeddings
from hyperface.faces.embeddings import Embeddings
from hyperface.packing import checkpoint, keep_away, kept_start, result, solver
from hyperface.packing.checkpoint import History
from hyperface.packing.partition import Partition, one_process
from hyperface.packing.problem import Inputs, Posed, check, pose, start_rows
from hyperface.packing.result import Packing, Progress
from hyperface.packing.sampling import STARTS, Tell
from hyperface.packing.solver import Problem, State
from hyperface.progress.logs import Line
from hyperface.progress.meter import Meter, Watch, unwatched
from hyperface.run import Run
from hyperface.run.names import GALLERY, PACKED, PACKING_SUMMARY, REFERENCES, START_SUMMARY

RECORDED = 80
"""About how many steps of a run are recorded."""


def is_done(run: Run) -> bool:
    return run.store.exists(REFERENCES) and run.store.exists(PACKING_SUMMARY)


def bind(run: Run) -> None:
    """Record what decides the references of a run, or compare it with what is recorded. Raises as `Run.bind`."""
    begun = any(map(run.store.exists, (REFERENCES, START_SUMMARY))) or checkpoint.of(run.store).newest() >= 0
    if begun and not run.store.exists(PACKED):
        return  # of an older version
    gallery = {"sha256": hashlib.sha256(run.store.read(GALLERY)).hexdigest()}
    sections = {name: without_knobs(getattr(run.config, name)) for name in ("run", "packing")}
    what = "packing (resume with the recorded values and gallery, or choose another run.dir)"
    run.bind(PACKED, {**sections, "gallery": gallery}, what, begun=begun)


def refuse_impossible(run: Run) -> None:
    """Say what is wrong with a run's problem without drawing its start.

    Raises:
        ConfigError, EmbeddingError: as `load_problem`, but for a sample that only turns out to be impossible.
    """
    config = run.config.packing
    if config.start not in STARTS:
        load_problem(run, torch.device("cpu"))
        return
    gallery_GD = embeddings.read(run.store, GALLERY, "key").vectors_ND
    inputs = Inputs(gallery_GD, gallery_GD, *keep_away.read(config, run.config.storage))
    check(inputs, config, run.config.run.seed)


def load_problem(
    run: Run, device: torch.device, partition: Partition | None = None, say: Callable[[str], None] | None = None
) -> Posed:
    """Return the run's problem and its start; one that was drawn for an earlier attempt is read.

    Args:
        partition: the ranks that draw a start together, all of which call this; None: this process alone.
        say: called with lines of how far the drawing is.

    Raises:
        ConfigError: the gallery has fewer rows than there are identities to pack; as `keep_away.read` and `check`; a
            sample that cannot be met.
        EmbeddingError: the gallery, the frozen or the protected rows cannot be used.
    """
    config, seed = run.config.packing, run.config.run.seed
    gallery = embeddings.read(run.store, GALLERY, "key")
    frozen_FD, protected_PD = keep_away.read(config, run.config.storage)
    tell = draw_teller(config.num_identities, say) if say else None
    ranks, rows = partition or one_process(config.num_identities), gallery.vectors_ND
    drawn = kept_start.kept(run, frozen_FD, protected_PD, device, ranks) if config.start in STARTS else None
    inputs = Inputs(rows, rows, frozen_FD, protected_PD, gallery.norms, drawn)
    return pose(inputs, config, seed, device, ranks, tell)


def draw_teller(n: int, say: Callable[[str], None]) -> Tell:
    """Return a function that says now and then how far the drawing of a start is."""
    meter = Meter("packing: drawing", n, "identities", say=say)
    return lambda kept, seen: meter.reach(kept, extra=f"{seen:,} candidates")


def start_of(run: Run) -> NDArray[np.float32]:
    """Return the rows that the run's packing began from, equal ones not yet parted.

    Raises:
        ConfigError, EmbeddingError: as `load_problem`.
    """
    config, seed = run.config.packing, run.config.run.seed
    if config.start not in STARTS:
        return start_rows(embeddings.read(run.store, GALLERY, "key").vectors_ND, config, seed)
    if not config.steps:
        return embeddings.read(run.store, REFERENCES, "identity").vectors_ND
    drawn_ND: NDArray[np.float32] = load_problem(run, torch.device("cpu")).x_ND.numpy()
    return drawn_ND


def pack_rows(
    run: Run,
    partition: Partition,
    device: torch.device,
    say: Callable[[str], None] | None = None,
    watch: Watch = unwatched,
) -> None:
    """Do one rank's part of the run's packing, from the newest checkpoint; rank 0 writes the results.

    Every rank calls it, with the same `partition.sizes`.

    Args:
        say: called with each line of progress, on rank 0; None: standard output.
        watch: called with every recorded step.

    Raises:
        ConfigError, EmbeddingError: as `load_problem`; packing.protected_cosine cannot be met.
        RunError: other references are there already.
        StorageError: something cannot be read or written; the newest checkpoint stays.
    """
    say = speaker(partition.rank, say)
    posed = load_problem(run, device, partition, say)
    if partition.rank == 0:
        bind(run)
    config, problem = run.config.packing, posed.problem
    state, history = checkpoint.load(run.store, partition, device) or _begin(posed, partition)
    if posed.sampled is not None and config.steps and partition.rank == 0:  # now that it has been looked at
        kept_start.keep(run, posed)
    n, dim = sum(partition.sizes), state.x_LD.shape[1]
    workers = len(partition.sizes)
    told = f"{n} identities in {dim} dimensions, {workers} worker{'s' if workers > 1 else ''}"
    say(Line("packing", f"{told}, from step {state.step} of {config.steps}"))
    saved, meter = state.step, Meter("packing", config.steps, "steps", done=state.step, say=say, watch=watch)
    for value in solver.iterate(state, problem, partition):
        last = state.step == config.steps
        if (state.step - 1) % -(-config.steps // RECORDED) == 0 or last:
            history.progress.append(Progress.of(value, state))
            _tell(meter, history.progress[-1])
        if state.step % config.checkpoint_every == 0 or last:
            checkpoint.save(run.store, state, history, partition)
            saved = state.step
    if saved < state.step:
        checkpoint.save(run.store, state, history, partition)
    packing = result.finished(state, posed, partition, history.before)
    if state.step:
        history.progress.append(Progress.at_the_end(packing, problem))
        _tell(meter, history.progress[-1])
    meter.close()
    if partition.rank == 0:
        write_results(run, packing, history, problem)
        say(Line("packing", f"{summary_line(packing)} -> {run.store.uri(REFERENCES)}"))


def _tell(meter: Meter, progress: Progress) -> None:
    own = ("step", "seconds")
    numbers = {key: value for key, value in asdict(progress).items() if key not in own and value is not None}
    meter.reach(progress.step, numbers, progress_text(progress))


def _begin(posed: Posed, partition: Partition) -> tuple[State, History]:
    state, before = result.begin(posed, partition)
    return state, History(before)


def write_results(run: Run, packing: Packing, history: History, problem: Problem) -> None:
    """Write references, the steps' record, then the summary, which marks the stage as done; then checkpoints go."""
    first = run.config.packing.first_identity
    identities = list(range(first, first + len(packing.references_ND)))
    table = Embeddings(identities, packing.references_ND, packing.norms_N)
    contents = embeddings.to_parquet("identity", table)
    if not run.store.put_new(REFERENCES, contents) and run.store.read(REFERENCES) != contents:
        uri = run.store.uri(REFERENCES)
        raise RunError(f"{uri}: holds other references than this packing's, without summary; delete it and run again")
    if not run.records("packing"):
        run.record("packing", [asdict(progress) for progress in history.progress])
    n, dim = packing.references_ND.shape
    config = run.config.packing
    described = {"num_identities": n, "dim": dim, "references_sha256": hashlib.sha256(contents).hexdigest()}
    described |= {key: getattr(config, key) for key in ("separation", "alpha", "start", "precision")}
    described |= {
        "frozen": keep_away.identity_of(problem.frozen_FD),
        "protected": keep_away.identity_of(problem.protected_PD),
    }
    run.put_json(PACKING_SUMMARY, packing.numbers | described)
    checkpoint.clear(run.store)


def summary_line(packing: Packing) -> str:
    gallery = "" if packing.mean_gallery_cosine is None else f", gallery {packing.mean_gallery_cosine:.3f}"
    return (
        f"max cosine {packing.max_cosine_before:.3f} before, {packing.max_cosine:.3f} after "
        f"(bound {packing.bound_cosine:.3f}){gallery}, {packing.steps} steps in {packing.seconds:.0f} s"
    )


def progress_text(progress: Progress) -> str:
    """Return what a line of a packing says besides the steps."""
    gallery = "" if progress.mean_gallery_cosine is None else f", gallery {progress.mean_gallery_cosine:.3f}"
    return f"max cosine {progress.max_cosine:.3f}{gallery}"
