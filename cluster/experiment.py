"""The experiment on Ray: a piece is one repeat of one way to choose identities, from gallery to verified student.

A piece has a run of its own under `experiment/arms/`, whose stages go on where they were stopped, and ends with its
`result.json`. What a piece is made of is in `hyperface/experiment/trial.py`.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.actor_pool import PoolActor, fan_out
from cluster.metrics import watching
from hyperface import config as configuration
from hyperface.config import Config
from hyperface.errors import ConfigError, UserError
from hyperface.experiment import comparison as experiment
from hyperface.experiment.comparison import Piece, Result
from hyperface.experiment.trial import make_piece, test_sets
from hyperface.progress.logs import Line, say
from hyperface.progress.meter import Meter
from hyperface.report.experiment import write_experiment
from hyperface.run import Run
from hyperface.run.names import EXPERIMENT
from hyperface.run.provenance import provenance


def experiment_stage(run: Run) -> None:
    """Make every piece that has no result, then the table; nothing to do when all is there.

    Raises:
        ConfigError: the experiment was begun with other values; it needs the toy world.
        RunError: a piece failed, with its name, or its actor died too often.
        StorageError: the storage cannot be read or written.
    """
    config = run.config
    _check(config)
    experiment.check(config)
    every = experiment.pieces(config)
    there = run.store.list(experiment.ARMS)
    todo = [number for number, piece in enumerate(every) if piece.result not in there]
    sections = {
        "train": configuration.without_knobs(config.train),
        "experiment": configuration.without_knobs(config.experiment),
        "sets": test_sets(run),
    }
    what = "experiment (resume with what it was begun with, or choose another run.dir)"
    begun = any(name.endswith("/result.json") for name in there)
    run.bind("experiment/begun.json", sections, what, begun=begun)
    if todo:
        say(Line("experiment", f"{len(every)} pieces, {len(every) - len(todo)} of them done"))
        _work_on(run, every, todo)
    rows = experiment.table(experiment.arms(config), [run.shaped(piece.result, Result) for piece in every])
    decided = {"config": configuration.identity(config), "provenance": provenance(config)}
    summary = {"arms": rows, **sections, **decided, **_sizes(config)}
    run.put_json(EXPERIMENT, summary)
    write_experiment(run)
    print("\n".join(experiment.lines(rows)) + f"\nexperiment: {run.store.uri(EXPERIMENT)}", flush=True)


def _check(config: Config) -> None:
    """The truth about identities is known in the toy world only."""
    if config.recognizer.kind != "toy" or config.embed.source != "toy" or config.train.data:
        raise ConfigError(
            "experiment: needs the toy world, whose identities are known: recognizer.kind=toy, embed.source=toy and no "
            "train.data; give jobs/configs/toy_experiment.yaml"
        )


def _sizes(config: Config) -> dict[str, int]:
    identities, each = config.packing.num_identities, config.synthesis.images_per_identity
    return {
        "identities": identities,
        "images": identities * each,
        "repeats": config.experiment.seeds,
        "folds": config.experiment.folds,
    }


def _work_on(run: Run, every: list[Piece], todo: list[int]) -> None:
    before = len(every) - len(todo)
    with (
        fan_out(
            todo,
            _Worker,
            (run, every),
            stage="experiment",
            cluster=run.config.cluster,
            actors=run.config.experiment.num_actors,
            gpus=0,
            failures=run.config.experiment.max_failures,
        ) as rows,
        Meter("experiment", len(every), "pieces", done=before, watch=watching(run, "experiment"), every_s=0) as meter,
    ):
        for done, batch in enumerate(rows, start=before + 1):
            meter.reach(done, {"accuracy": float(batch["accuracy"][0])}, str(batch["line"][0]))


class _Worker(PoolActor):
    """An actor: one piece at a time, in one thread."""

    def __init__(self, run: Run, every: list[Piece]) -> None:
        super().__init__()
        self.run, self.every = run, every

    def work(self, piece: int) -> Mapping[str, Sequence[Any]]:
        own, began = self.every[piece], time.monotonic()
        try:
            result = make_piece(self.run, own)
        except UserError as error:
            raise type(error)(f"{own.folder}: {error}") from error
        seconds, accuracy = time.monotonic() - began, result["accuracy"]["mean"]
        line = f"{own.arm.name}, repeat {own.repeat}: accuracy {accuracy:.4f}, {seconds:.0f} s"
        return {"line": [line], "accuracy": [accuracy]}
