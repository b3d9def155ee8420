"""The experiment on Ray: a piece is one repeat of one way to choose identities, from gallery to verified student.

A piece has a run of its own under `experiment/arms/`, whose stages go on where they were stopped, and ends with its
`result.json`.
"""

import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cluster.actor_pool import fan_out
from hyperface import experiment, gallery
from hyperface.config import Config, ConfigError, without_knobs
from hyperface.dataset import jpeg, read_shards
from hyperface.dataset.plan import key
from hyperface.embeddings import EmbeddingError, to_parquet
from hyperface.evaluation import separation
from hyperface.evaluation.embedded import rows_of
from hyperface.evaluation.stage import verify_on
from hyperface.evaluation.toy_sets import toy_sets
from hyperface.experiment import Piece
from hyperface.models.loading import load_models
from hyperface.models.protocols import ModelError, Recognizer
from hyperface.models.toy import faces
from hyperface.models.toy.recognizer import load_judge, load_recognizer
from hyperface.models.toy.render_generator import STRENGTH
from hyperface.models.trained import load_trained
from hyperface.packing import stage as packing
from hyperface.packing.shard import one_process
from hyperface.ranks import Alone
from hyperface.recognition import stage as recognition
from hyperface.recognition.trainer import Place
from hyperface.report.experiment import write_experiment
from hyperface.run import EXPERIMENT, GALLERY, Run, RunError, open_run, provenance
from hyperface.storage import StorageError
from hyperface.synthesis.single import make_dataset

SETS = "experiment/sets"
FACES = "faces"
"""Rendered identities of the upper bound, as an ImageFolder inside the piece's run."""


def experiment_stage(run: Run) -> None:
    """Make every piece that has no result, then the table; nothing to do when all is there.

    Raises:
        ConfigError: the experiment was begun with other values; it needs the toy world.
        RunError: a piece failed, with its name, or its actor died too often.
        StorageError: the storage cannot be read or written.
    """
    config = run.config
    _check(config)
    what = "experiment (resume with what it was begun with, or choose another run.dir)"
    sections = {"train": without_knobs(config.train), "experiment": without_knobs(config.experiment)}
    run.bind("experiment/begun.json", sections, what)
    every = experiment.pieces(config)
    there = run.store.list(experiment.ARMS)
    todo = [number for number, piece in enumerate(every) if piece.result not in there]
    if todo:
        print(f"experiment: {len(every)} pieces, {len(every) - len(todo)} of them done", flush=True)
        for name in (each.name for each in toy_sets(run.store, SETS)):  # drawn once, before the actors want them
            print(f"experiment: test set {name} is ready", flush=True)
        _work_on(run, every, todo)
    rows = experiment.table(experiment.arms(config), [run.get_json(piece.result) for piece in every])
    summary = {"arms": rows, **sections, "provenance": provenance(config), **_sizes(config)}
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
    return {"identities": identities, "images": identities * each, "repeats": config.experiment.seeds}


def _work_on(run: Run, every: list[Piece], todo: list[int]) -> None:
    rows = fan_out(
        todo,
        _Worker,
        (run, every),
        cluster=run.config.cluster,
        actors=run.config.experiment.num_actors,
        gpus=0,
        failures=run.config.experiment.max_failures,
    )
    began = time.monotonic()
    # Without prefetching: its thread outlives a loop that is left early, and ends the process when Ray shuts down.
    batches = rows.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0)
    for done, batch in enumerate(batches, start=1):
        said = json.loads(batch["said"][0])
        if "stop" in said:
            raise RunError(said["stop"])
        left = (time.monotonic() - began) / done * (len(todo) - done)
        print(f"experiment: {done}/{len(todo)} {said['line']}, ETA {left / 60:.0f} min", flush=True)


class _Worker:
    """An actor: one piece at a time, in one thread."""

    def __init__(self, run: Run, every: list[Piece]) -> None:
        torch.set_num_threads(1)
        self.run, self.every = run, every

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, list[str]]:
        piece, began = self.every[int(batch["piece"][0])], time.monotonic()
        try:
            result = make_piece(self.run, piece)
        except (ConfigError, EmbeddingError, ModelError, RunError, StorageError) as error:
            # As an exception it would lose its type on the way.
            return {"said": [json.dumps({"stop": f"{piece.folder}: {error}"})]}
        seconds = time.monotonic() - began
        line = f"{piece.arm.name}, repeat {piece.repeat}: accuracy {result['accuracy']['mean']:.4f}, {seconds:.0f} s"
        return {"said": [json.dumps({"line": line})]}


def make_piece(run: Run, piece: Piece) -> dict[str, Any]:
    """From gallery to verified student; the result, which is recorded last."""
    own = open_run(experiment.piece_config(run.config, piece, run.store.uri(piece.folder)))
    judge = load_judge()
    if piece.arm.packing is None:
        own, identity = _rendered(own, judge)
    else:
        identity = _synthesized(own, judge)
    if not recognition.is_done(own):
        recognition.begin(own)
        recognition.train_rank(own, Place(0, 1, Alone(), torch.device("cpu")), _silent)
    student = load_trained(own.store, own.config.train.name)
    verified = {s.name: verify_on(s, student, own.config.evaluate.batch_size) for s in toy_sets(run.store, SETS)}
    accuracy = {name: found["accuracy"] for name, found in verified.items()}
    accuracy["mean"] = sum(accuracy.values()) / len(accuracy)
    result = {"arm": piece.arm.name, "repeat": piece.repeat, "accuracy": accuracy, "identity": identity}
    run.put_json(piece.result, {**result, "verified": verified, "training": student.described})
    return result


def _synthesized(own: Run, judge: Recognizer) -> dict[str, float | None]:
    """Gallery, references and dataset of a piece; what the judge says of its identities."""
    recognizer = load_recognizer()
    if not own.store.exists(GALLERY):
        chunks = gallery.plan_chunks(own.config.embed, own.config.storage)
        found = [face for chunk in chunks for face in gallery.embed_chunk(chunk, own.config, recognizer)]
        made = gallery.assemble(found, own.config.embed.num_faces)
        own.store.put_new(GALLERY, to_parquet("key", made.embeddings))
    if not packing.is_done(own):
        packing.pack_rows(own, one_process(own.config.packing.num_identities), torch.device("cpu"), _silent)
    make_dataset(own, load_models(own.config))
    shards = list(read_shards(own))
    rows = np.concatenate([rows_of(shard, judge, str(own)) for shard in shards])
    return _judged(rows, np.concatenate([shard.identities for shard in shards]))


def _rendered(own: Run, judge: Recognizer) -> tuple[Run, dict[str, float | None]]:
    """Identities of the renderer itself as an ImageFolder, in the poses and light that the generator draws."""
    config = own.config
    identities, each = config.packing.num_identities, config.synthesis.images_per_identity
    drawn = faces.render_faces(identities, each, config.run.seed, STRENGTH)
    there = own.store.list(FACES)
    for row, image in enumerate(drawn.images_BHWC):
        identity, number = divmod(row, each)
        name = f"{FACES}/{identity:07d}/{key(identity, number)}.jpg"
        if name not in there:
            own.store.put(name, jpeg.encode(image, config.dataset.jpeg_quality))
    trained_on = replace(config, train=replace(config.train, data=own.store.uri(FACES)))
    return replace(own, config=trained_on), _judged(judge.embed(drawn.images_BHWC), drawn.labels_B)


def _judged(rows_ND: NDArray[np.float32], identities_N: NDArray[np.int64]) -> dict[str, float | None]:
    """How separate the identities of the images are by the judge."""
    found = separation.of_images(rows_ND, identities_N)
    means = {kind: getattr(found, kind) for kind in ("intra", "inter", "nearest_other")}
    said = {f"{kind}_cosine": None if part is None else part.mean for kind, part in means.items()}
    return {**said, "equal_error_rate": found.equal_error_rate}


def _silent(line: str) -> None:
    """Two stages of two pieces at once would say nothing that can be read."""
