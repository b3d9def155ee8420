"""The training of a run: from its images to a backbone, with checkpoints, records and a summary.

recognition/NAME/training.json            what decides the result, before the first step
recognition/NAME/checkpoints/             see `hyperface/checkpoints.py`
recognition/NAME/backbone.safetensors     the last epoch's network
recognition/NAME/summary.json             last: what was trained, on what, how long
"""

import hashlib
import math
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from hyperface import config as configuration
from hyperface.models.trained import summary_file, to_bytes, weights_file
from hyperface.recognition import checkpoint
from hyperface.recognition.images import Images
from hyperface.recognition.loader import image_size
from hyperface.recognition.sources import open_images
from hyperface.recognition.trainer import Place, Stepped, Training
from hyperface.run import RECOGNITION, Run, RunError, git_sha

PROGRESS_SECONDS = 5.0
RECORDED = 200
"""About so many steps of a training are recorded."""
LOOKED_AT = 20
"""Steps between looks at the loss, for each of which the device is waited for."""


def is_done(run: Run) -> bool:
    return run.store.exists(summary_file(run.config.train.name))


def begin(run: Run) -> None:
    """Look at the images and record what decides the result, or compare it with what is recorded.

    Raises:
        ConfigError: a training of this name was begun with something else; names each key.
        RunError, ConfigError: as `open_images`.
    """
    images = open_images(run, run.config.train)
    name, what = run.config.train.name, "training (resume with what it was begun with, or choose another train.name)"
    run.bind(f"{RECOGNITION}/{name}/training.json", described(run, images), what)


def described(run: Run, images: Images) -> dict[str, Any]:
    """What decides the result: recipe and data."""
    data = {"fingerprint": images.fingerprint, "images": images.num_images, "classes": images.num_classes}
    return {
        "train": configuration.without_knobs(run.config.train),
        "data": {**data, "image_size": image_size(images)},
    }


def train_rank(run: Run, place: Place, say: Callable[[str], None] | None = None) -> None:
    """One rank's part of the training, from the newest checkpoint; rank 0 writes the results. Every rank calls it.

    Args:
        say: told how far it is, on rank 0; None: standard output.

    Raises:
        RunError: the loss is no number any more, or an image cannot be read.
        StorageError: something cannot be read or written; the newest checkpoint stays.
    """
    images = open_images(run, run.config.train)
    training = Training(run.config.train, images, place, image_size(images))
    history = checkpoint.load(run, training)
    say = (say or _say) if place.rank == 0 else _be_silent
    where = f"{place.world} worker{'s' if place.world > 1 else ''} on {place.device.type}"
    say(
        f"train: {images.num_images} images of {images.num_classes} identities, {training.last_step} steps of "
        f"{run.config.train.batch_size}, from step {training.step}, {where}"
    )
    if place.device.type == "cpu" and run.config.train.precision != "float32":
        say("train: half precision is slow on most CPUs; there, train.precision=float32 is faster")
    progress = _Progress(training, history, say)
    saved = training.step
    for stepped in training.run():
        progress.add(stepped)
        whole_epoch = stepped.step % training.steps.count == 0
        if whole_epoch or stepped.step - saved >= run.config.train.checkpoint_every:
            checkpoint.save(run, training, history)
            saved = stepped.step
    if place.rank == 0:
        write_results(run, training, history, images)
        uri = run.store.uri(weights_file(run.config.train.name))
        say(f"train: loss {progress.loss:.3f}, {training.seconds:.0f} s -> {uri}")


class _Progress:
    """Looks at the loss now and then: records it, says it, and stops when it is no number."""

    def __init__(self, training: Training, history: list[dict[str, float]], say: Callable[[str], None]) -> None:
        self.training, self.history, self.say = training, history, say
        self.loss = history[-1]["loss"] if history else math.nan
        self._unseen: list[Tensor] = []
        self._every = max(1, training.last_step // RECORDED)
        self._began_at, self._began = training.step, time.monotonic()
        self._said = self._began

    def add(self, stepped: Stepped) -> None:
        """A step was taken.

        Raises:
            RunError: the loss is no number any more.
        """
        self._unseen.append(stepped.loss)
        recorded = stepped.step % self._every == 0 or stepped.step == self.training.last_step
        if not recorded and len(self._unseen) < LOOKED_AT:
            return
        self.loss, self._unseen = float(torch.stack(self._unseen).mean()), []
        if not math.isfinite(self.loss):
            fix = "lower train.learning_rate, raise train.warmup_epochs, or set train.clip_norm"
            raise RunError(f"train: the loss is {self.loss} before step {stepped.step}; {fix}")
        if recorded:
            epoch = round(stepped.step / self.training.steps.count, 3)
            row = {"step": stepped.step, "epoch": epoch, "loss": round(self.loss, 5)}
            self.history.append({**row, "learning_rate": stepped.learning_rate})
        if time.monotonic() - self._said > PROGRESS_SECONDS:
            self._said = time.monotonic()
            self.say(self._line(stepped.step))

    def _line(self, step: int) -> str:
        training, config = self.training, self.training.config
        rate = (step - self._began_at) / (time.monotonic() - self._began)
        eta = timedelta(seconds=round((training.last_step - step) / rate))
        speed = f"{rate * config.batch_size:,.0f} images/s, ETA {eta}"
        return f"train: epoch {step / training.steps.count:.1f}/{config.epochs} loss {self.loss:.3f}, {speed}"


def write_results(run: Run, training: Training, history: list[dict[str, float]], images: Images) -> None:
    """The backbone, the steps' record, then the summary, which marks the training as done; then checkpoints go."""
    config = run.config.train
    architecture = {
        "backbone": config.backbone,
        "image_size": training.image_size,
        "embedding_dim": config.embedding_dim,
        "se": config.squeeze_excitation,
    }
    data = to_bytes(training.network, architecture)
    run.store.put(weights_file(config.name), data)
    recorded = {row["name"] for row in run.records("recognition")}
    if config.name not in recorded:
        run.record("recognition", [{"name": config.name, **row} for row in history])
    images_seen = training.step * config.batch_size
    summary = {
        **described(run, images),
        "steps": training.step,
        "images_seen": images_seen,
        "loss": history[-1]["loss"],
        "seconds": round(training.seconds, 2),
        "images_per_second": round(images_seen / training.seconds, 1),
        "workers": training.place.world,
        "device": training.place.device.type,
        "git_sha": git_sha(),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    run.put_json(summary_file(config.name), summary)
    checkpoint.of(run).clear()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")  # Ray Train's own `print` would say it twice
    sys.stdout.flush()


def _be_silent(line: str) -> None:
    pass
