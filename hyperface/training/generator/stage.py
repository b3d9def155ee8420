"""The training of a generator of a run: from images to weights. Its folder is that of every training
(hyperface/training/folder.py); the network after the last step is generator/NAME/generator.safetensors.
"""

from collections.abc import Callable
from typing import Any, TypedDict

from hyperface.distributed.place import Place
from hyperface.errors import ConfigError
from hyperface.models.teacher import Teacher, load_teacher
from hyperface.models.vec2face_network import sized
from hyperface.progress.meter import Watch, unwatched
from hyperface.run import Run
from hyperface.training import loop
from hyperface.training.folder import Folder, Section
from hyperface.training.generator.trainer import LOSS, GeneratorTraining
from hyperface.training.images import Images
from hyperface.training.loader import image_size
from hyperface.training.sources import open_images

SECTION: Section = "train_generator"


def begin(run: Run, place: Place) -> None:
    """Look at images and recogniser and record what decides the result, or compare it with what is recorded.

    What no checkpoint depends on yet binds nobody.

    Args:
        place: place of the driver, where the recogniser is tried.

    Raises:
        ConfigError: a training of this name was begun with something else; names each key. Or the recogniser has no
            gradient where the loss wants one, or takes images of another size.
        RunError, ConfigError: as `open_images`; a batch is larger than the dataset.
        ModelError: the recogniser's file is missing, damaged or another.
    """
    images, teacher = _images(run), load_teacher(run.config, run.store, place.device)
    Folder(run, SECTION).begin(images, decided(run, images, teacher))


def decided(run: Run, images: Images, teacher: Teacher) -> dict[str, Any]:
    """Return what decides the result besides recipe and data: recogniser and loss. Raises ConfigError unless it
    fits."""
    size, recognizer, config = image_size(images), teacher.recognizer, run.config.train_generator
    if recognizer.image_size != size:
        rule = f"images have {size} pixels, the recogniser takes {recognizer.image_size}"
        raise ConfigError(f"{SECTION}.data: {rule}; give images that fit, or another {SECTION}.recognizer")
    try:
        sized(config.size, recognizer.embedding_dim, size)
    except ValueError as error:
        raise ConfigError(f"{SECTION}.size: {error}") from error
    seen = {"fingerprint": recognizer.fingerprint, "embedding_dim": recognizer.embedding_dim}
    return {"recognizer": seen, "objective": {"version": LOSS}}


def _images(run: Run) -> Images:
    return open_images(run, run.config.train_generator.data, f"{SECTION}.data")


def train_rank(run: Run, place: Place, say: Callable[[str], None] | None = None, watch: Watch = unwatched) -> None:
    """One rank's part of the training, from the newest checkpoint; rank 0 writes the results. Every rank calls it,
    after `begin`.

    Args:
        say: called with each line of progress, on rank 0; None: standard output.
        watch: called with every recorded step.

    Raises:
        RunError: the loss is no number any more, an image cannot be read, or the data is not what it was at `begin`.
        StorageError: something cannot be read or written; the newest checkpoint stays.
    """
    config, images = run.config.train_generator, _images(run)
    teacher = load_teacher(run.config, run.store, place.device)
    folder = Folder(run, SECTION)
    folder.check(images, decided(run, images, teacher))
    loop.train(folder, GeneratorTraining(config, images, place, image_size(images), teacher), say, watch)


class _Size(TypedDict):
    size: str


class _Summary(TypedDict):
    train_generator: _Size
    sha256: str


def how_to_use(run: Run) -> str:
    """Return the keys by which another run draws with what was trained."""
    folder = Folder(run, SECTION)
    summary, uri = run.shaped(folder.summary, _Summary), run.store.uri(folder.network)
    keys = f"vec2face.size={summary['train_generator']['size']} vec2face.path={uri} vec2face.sha256={summary['sha256']}"
    return f"{SECTION}: use it with synthesis.generator=vec2face {keys}"
