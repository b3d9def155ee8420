"""The training of a run: from its images to a backbone, with checkpoints, records and a summary.

recognition/NAME/training.json            what decides the result
recognition/NAME/checkpoints/             see `hyperface/checkpoints.py`
recognition/NAME/backbone.safetensors     the last epoch's network
recognition/NAME/summary.json             last: what was trained, on what, how long

Two drivers that train the same at once take the same steps; the network and the summary of the first are kept.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any

from hyperface import config as configuration
from hyperface.models.trained import summary_file, to_bytes, weights_file
from hyperface.progress import Watch, unwatched
from hyperface.ranks import speaker
from hyperface.recognition import checkpoint
from hyperface.recognition.trainer import Training
from hyperface.run import RECOGNITION, Run, RunError, git_sha, to_json
from hyperface.training.images import Images
from hyperface.training.loader import Steps, image_size
from hyperface.training.place import Place
from hyperface.training.progress import Progress
from hyperface.training.sources import open_images


def is_done(run: Run) -> bool:
    return run.store.exists(summary_file(run.config.train.name))


def training_file(run: Run) -> str:
    return f"{RECOGNITION}/{run.config.train.name}/training.json"


def begin(run: Run) -> None:
    """Look at the images and record what decides the result, or compare it with what is recorded.

    What no checkpoint depends on yet binds nobody.

    Raises:
        ConfigError: a training of this name was begun with something else; names each key.
        RunError, ConfigError: as `open_images`; a batch is larger than the dataset.
    """
    config, images = run.config.train, open_images(run, run.config.train.data)
    wanted = described(run, images)
    if Steps(images.num_images, config.batch_size, config.streams).count < 1:
        rule = f"must not exceed the images of the dataset, {images.num_images}"
        raise RunError(f"train.batch_size: {rule}; it is {config.batch_size}")
    begun = is_done(run) or checkpoint.of(run).newest() >= 0
    what = "training (resume with what it was begun with, or choose another train.name)"
    run.bind(training_file(run), wanted, what, begun=begun)


def described(run: Run, images: Images) -> dict[str, Any]:
    """What decides the result: recipe and data."""
    told = {"fingerprint": images.fingerprint, "fingerprint_of": images.fingerprint_of}
    counted = {"images": images.num_images, "classes": images.num_classes, "image_size": image_size(images)}
    return {"train": configuration.without_knobs(run.config.train), "data": {**told, **counted}}


def train_rank(run: Run, place: Place, say: Callable[[str], None] | None = None, watch: Watch = unwatched) -> None:
    """One rank's part of the training, from the newest checkpoint; rank 0 writes the results. Every rank calls it,
    after `begin`.

    Args:
        say: told how far it is, on rank 0; None: standard output.
        watch: told every recorded step.

    Raises:
        RunError: the loss is no number any more, an image cannot be read, or the data is not what it was at `begin`.
        StorageError: something cannot be read or written; the newest checkpoint stays.
    """
    config, images = run.config.train, open_images(run, run.config.train.data)
    if json.loads(to_json(described(run, images))) != run.get_json(training_file(run)):
        raise RunError(f"{run.store.uri(training_file(run))}: is not of these images any more; run jobs.train again")
    training = Training(config, images, place, image_size(images))
    progress = Progress(training, speaker(place.rank, say), watch=watch)
    checkpoint.load(run, training, progress)
    where = f"{place.world} worker{'s' if place.world > 1 else ''} on {place.device.type}"
    progress.say(
        f"train: {images.num_images} images of {images.num_classes} identities, {training.last_step} steps of "
        f"{config.batch_size}, from step {training.step}, {where}"
    )
    if place.device.type == "cpu" and config.precision != "float32":
        progress.say("train: half precision is slow on most CPUs; there, train.precision=float32 is faster")
    saved = training.step
    for stepped in training.run():
        progress.add(stepped)
        if stepped.step % training.steps.count == 0 or stepped.step - saved >= config.checkpoint_every:
            checkpoint.save(run, training, progress)
            saved = stepped.step
    if place.rank == 0:
        write_results(run, training, progress)
        uri = run.store.uri(weights_file(config.name))
        progress.say(f"train: loss {progress.loss:.3f}, {training.seconds:.0f} s -> {uri}")


def write_results(run: Run, training: Training, progress: Progress) -> None:
    """The backbone, the steps' record, then the summary, which marks the training as done; then checkpoints go."""
    config = run.config.train
    architecture = {
        "backbone": config.backbone,
        "image_size": training.image_size,
        "embedding_dim": config.embedding_dim,
        "se": config.squeeze_excitation,
    }
    data = to_bytes(training.network, architecture)
    if not run.store.put_new(weights_file(config.name), data):
        data = run.store.read(weights_file(config.name))
    rows = [json.dumps(row, sort_keys=True) + "\n" for row in progress.history]
    run.store.put(steps_file(config.name), "".join(rows).encode())
    images_seen = training.step * config.batch_size
    summary = {
        **run.get_json(training_file(run)),
        "trained_on": config.data or str(run),
        "steps": training.step,
        "images_seen": images_seen,
        "loss": progress.history[-1]["loss"],
        "seconds": round(training.seconds, 2),
        "images_per_second": round(images_seen / training.seconds, 1),
        "workers": training.place.world,
        "device": training.place.device.type,
        "git_sha": git_sha(),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    run.store.put_new(summary_file(config.name), to_json(summary))
    checkpoint.of(run).clear()


def steps_file(name: str) -> str:
    """The recorded steps, one JSON object a line: {step, epoch, loss, learning_rate}."""
    return f"{RECOGNITION}/{name}/steps.jsonl"
