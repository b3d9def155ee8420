"""The folder of a training of a run, and the files that all trainings write there.

FOLDER/training.json     what decides the result
FOLDER/checkpoints/      see `hyperface/distributed/checkpoints.py`
FOLDER/steps.jsonl       the recorded steps, one JSON object a line: {step, epoch, loss, learning_rate} and its terms
FOLDER/summary.json      last: what was trained, on what, how long

FOLDER is recognition/NAME or generator/NAME, and the network is beside these. Two drivers that train the same at once
take the same steps; the network and the summary of the first are kept.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hyperface import config as configuration
from hyperface.config import TrainConfig, TrainGeneratorConfig
from hyperface.distributed.checkpoints import Checkpoints
from hyperface.errors import RunError
from hyperface.reading.json_text import from_json
from hyperface.run import Run
from hyperface.run.names import GENERATOR, NETWORKS, RECOGNITION
from hyperface.run.provenance import git_sha
from hyperface.run.records import to_json
from hyperface.training.images import Images
from hyperface.training.loader import Steps, image_size
from hyperface.training.progress import Progress
from hyperface.training.training import Training

Section = Literal["train", "train_generator"]
_NO_TERMS = ("step", "epoch", "loss", "learning_rate")
"""Numbers of a recorded step that are no terms of its loss."""


@dataclass(frozen=True)
class Folder:
    """The folder of the training that a section of the run's configuration asks for. The section is also the name of
    its job."""

    run: Run
    section: Section

    @property
    def config(self) -> TrainConfig | TrainGeneratorConfig:
        return self.run.config.train if self.section == "train" else self.run.config.train_generator

    @property
    def path(self) -> str:
        return f"{RECOGNITION if self.section == 'train' else GENERATOR}/{self.config.name}"

    @property
    def training(self) -> str:
        return f"{self.path}/training.json"

    @property
    def steps(self) -> str:
        return f"{self.path}/steps.jsonl"

    @property
    def summary(self) -> str:
        """Name of the summary; a training that has it is finished."""
        return f"{self.path}/summary.json"

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.run.store, f"{self.path}/checkpoints")

    @property
    def network(self) -> str:
        return f"{self.path}/{NETWORKS[self.section]}"

    def is_done(self) -> bool:
        """Return whether the training is finished. Raises RunError where it was, and its network is gone."""
        if not self.run.store.exists(self.summary):
            return False
        if not self.run.store.exists(self.network):
            fix = f"restore it, or train under another {self.section}.name"
            raise RunError(f"{self.run.store.uri(self.network)}: is missing although its summary is there; {fix}")
        return True

    def begin(self, images: Images, decided: Mapping[str, Mapping[str, Any]]) -> None:
        """Record what decides the result, or compare it with what is recorded. What no checkpoint depends on yet binds
        nobody.

        Args:
            decided: besides recipe and data.

        Raises:
            ConfigError: a training of this name was begun with something else; names each key.
            RunError: a batch is larger than the dataset.
        """
        described = self._described(images, decided)
        if Steps(images.num_images, self.config.batch_size, self.config.streams).count < 1:
            rule = f"must not exceed the images of the dataset, {images.num_images}"
            raise RunError(f"{self.section}.batch_size: {rule}; it is {self.config.batch_size}")
        begun = self.is_done() or self.checkpoints.newest() >= 0
        what = f"training (resume with what it was begun with, or choose another {self.section}.name)"
        self.run.bind(self.training, described, what, begun=begun)

    def check(self, images: Images, decided: Mapping[str, Mapping[str, Any]]) -> None:
        """Raise RunError unless the data is what it was at `begin`."""
        if from_json(to_json(self._described(images, decided))) != self.run.get_json(self.training):
            uri = self.run.store.uri(self.training)
            raise RunError(f"{uri}: is not of these images any more; run jobs.{self.section} again")

    def _described(self, images: Images, decided: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        described = {"fingerprint": images.fingerprint, "fingerprint_of": images.fingerprint_of}
        counted = {"images": images.num_images, "classes": images.num_classes, "image_size": image_size(images)}
        return {self.section: configuration.without_knobs(self.config), "data": {**described, **counted}, **decided}

    def finish(self, training: Training, progress: Progress) -> None:
        """Write network, steps' record and then the summary, which marks the training as done; then checkpoints go."""
        store, last = self.run.store, progress.history[-1]
        network, described = training.result()
        if not store.put_new(self.network, network):
            network = store.read(self.network)
        rows = [json.dumps(row, sort_keys=True) + "\n" for row in progress.history]
        store.put(self.steps, "".join(rows).encode())
        images_seen = training.step * self.config.batch_size
        summary = {
            **self.run.get_json(self.training),
            "trained_on": self.config.data or str(self.run),
            "steps": training.step,
            "images_seen": images_seen,
            "loss": last["loss"],
            "terms": {name: value for name, value in last.items() if name not in _NO_TERMS},
            "seconds": round(training.seconds, 2),
            "images_per_second": round(images_seen / training.seconds, 1),
            "workers": training.place.world,
            "device": training.place.device.type,
            "git_sha": git_sha(),
            "sha256": hashlib.sha256(network).hexdigest(),
            **described,
        }
        store.put_new(self.summary, to_json(summary))
        self.checkpoints.clear()
