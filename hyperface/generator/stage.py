"""The training of a generator of a run: from images to weights, with checkpoints, records and a summary.

generator/NAME/training.json             what decides the result
generator/NAME/checkpoints/              see `hyperface/checkpoints.py`
generator/NAME/generator.safetensors     the network after the last step
generator/NAME/steps.jsonl               the loss and its terms
generator/NAME/summary.json              last: what was trained, on what, how long

Two drivers that train the same at once take the same steps; the network and the summary of the first are kept.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any

from hyperface import config as configuration
from hyperface.config import ConfigError
from hyperface.generator import checkpoint
from hyperface.generator.trainer import Training
from hyperface.models.teacher import Teacher, load_teacher
from hyperface.models.vec2face import summary_of, to_bytes
from hyperface.models.vec2face_network import sized
from hyperface.progress import Watch, unwatched
from hyperface.ranks import speaker
from hyperface.run import GENERATOR, Run, RunError, git_sha, to_json
from hyperface.training.images import Images
from hyperface.training.loader import Steps, image_size
from hyperface.training.place import Place
from hyperface.training.progress import Progress
from hyperface.training.sources import open_images

SECTION = "train_generator"
_NO_TERMS = ("step", "epoch", "loss", "learning_rate")
"""What a recorded step tells besides the terms of its loss."""


def training_file(name: str) -> str:
    return f"{GENERATOR}/{name}/training.json"


def weights_file(name: str) -> str:
    return f"{GENERATOR}/{name}/generator.safetensors"


def steps_file(name: str) -> str:
    """The recorded steps, one JSON object a line: {step, epoch, loss, learning_rate} and the terms of the loss."""
    return f"{GENERATOR}/{name}/steps.jsonl"


def summary_file(name: str) -> str:
    """Written last: a training that has it is finished."""
    return f"{GENERATOR}/{name}/summary.json"


def is_done(run: Run) -> bool:
    return run.store.exists(summary_file(run.config.train_generator.name))


def begin(run: Run, place: Place) -> None:
    """Look at images and recogniser and record what decides the result, or compare it with what is recorded.

    What no checkpoint depends on yet binds nobody.

    Args:
        place: of the driver, where the recogniser is tried.

    Raises:
        ConfigError: a training of this name was begun with something else; names each key. Or the recogniser has no
            gradient where the loss wants one, or takes images of another size.
        RunError, ConfigError: as `open_images`; a batch is larger than the dataset.
        ModelError: the recogniser's file is missing, damaged or another.
    """
    config, images = run.config.train_generator, _images(run)
    teacher = load_teacher(run.config, run.store, place.device)
    wanted = described(run, images, teacher)
    if Steps(images.num_images, config.batch_size, config.streams).count < 1:
        rule = f"must not exceed the images of the dataset, {images.num_images}"
        raise RunError(f"{SECTION}.batch_size: {rule}; it is {config.batch_size}")
    begun = is_done(run) or checkpoint.of(run).newest() >= 0
    what = f"training (resume with what it was begun with, or choose another {SECTION}.name)"
    run.bind(training_file(config.name), wanted, what, begun=begun)


def described(run: Run, images: Images, teacher: Teacher) -> dict[str, Any]:
    """What decides the result: recipe, recogniser and data. Raises ConfigError for images of another size."""
    size, recognizer, config = image_size(images), teacher.recognizer, run.config.train_generator
    if recognizer.image_size != size:
        rule = f"images have {size} pixels, the recogniser takes {recognizer.image_size}"
        raise ConfigError(f"{SECTION}.data: {rule}; give images that fit, or another {SECTION}.recognizer")
    try:
        sized(config.size, recognizer.embedding_dim, size)
    except ValueError as error:
        raise ConfigError(f"{SECTION}.size: {error}") from error
    told = {"fingerprint": images.fingerprint, "fingerprint_of": images.fingerprint_of}
    counted = {"images": images.num_images, "classes": images.num_classes, "image_size": size}
    seen = {"fingerprint": recognizer.fingerprint, "embedding_dim": recognizer.embedding_dim}
    return {SECTION: configuration.without_knobs(config), "recognizer": seen, "data": {**told, **counted}}


def _images(run: Run) -> Images:
    return open_images(run, run.config.train_generator.data, f"{SECTION}.data")


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
    config, images = run.config.train_generator, _images(run)
    teacher = load_teacher(run.config, run.store, place.device)
    if json.loads(to_json(described(run, images, teacher))) != run.get_json(training_file(config.name)):
        uri = run.store.uri(training_file(config.name))
        raise RunError(f"{uri}: is not of these images any more; run jobs.train_generator again")
    training = Training(config, images, place, image_size(images), teacher)
    progress = Progress(training, speaker(place.rank, say), SECTION, watch)
    checkpoint.load(run, training, progress)
    if not training.norm:
        training.measure_norm()
    where = f"{place.world} worker{'s' if place.world > 1 else ''} on {place.device.type}"
    progress.say(
        f"{SECTION}: {images.num_images} images of {images.num_classes} identities, {training.last_step} steps of "
        f"{config.batch_size}, from step {training.step}, {where}"
    )
    saved = training.step
    for stepped in training.run():
        progress.add(stepped)
        if stepped.step == training.last_step or stepped.step - saved >= config.checkpoint_every:
            checkpoint.save(run, training, progress)
            saved = stepped.step
    if place.rank == 0:
        write_results(run, training, progress)
        _say_how_to_use(run, progress)


def write_results(run: Run, training: Training, progress: Progress) -> None:
    """The network, the steps' record, then the summary, which marks the training as done; then checkpoints go."""
    config = run.config.train_generator
    data, last = to_bytes(training.network, training.made()), progress.history[-1]
    if not run.store.put_new(weights_file(config.name), data):
        data = run.store.read(weights_file(config.name))
    rows = [json.dumps(row, sort_keys=True) + "\n" for row in progress.history]
    run.store.put(steps_file(config.name), "".join(rows).encode())
    images_seen = training.step * config.batch_size
    summary = {
        **run.get_json(training_file(config.name)),
        "trained_on": config.data or str(run),
        "network": summary_of(training.network),
        "norm": training.norm,
        "steps": training.step,
        "images_seen": images_seen,
        "loss": last["loss"],
        "terms": {name: value for name, value in last.items() if name not in _NO_TERMS},
        "seconds": round(training.seconds, 2),
        "images_per_second": round(images_seen / training.seconds, 1),
        "workers": training.place.world,
        "device": training.place.device.type,
        "git_sha": git_sha(),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    run.store.put_new(summary_file(config.name), to_json(summary))
    checkpoint.of(run).clear()


def _say_how_to_use(run: Run, progress: Progress) -> None:
    name = run.config.train_generator.name
    summary, uri = run.get_json(summary_file(name)), run.store.uri(weights_file(name))
    progress.say(f"{SECTION}: loss {summary['loss']:.3f}, {summary['seconds']:.0f} s -> {uri}")
    keys = f"vec2face.size={summary[SECTION]['size']} vec2face.path={uri} vec2face.sha256={summary['sha256']}"
    progress.say(f"{SECTION}: use it with synthesis.generator=vec2face {keys}")
