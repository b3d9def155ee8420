"""The training of a run: from its images to a backbone. Its folder is that of every training
(hyperface/training/folder.py); the last epoch's network is recognition/NAME/backbone.safetensors.
"""

from collections.abc import Callable

from hyperface.distributed.place import Place
from hyperface.distributed.ranks import speaker
from hyperface.models.trained import to_bytes, weights_file
from hyperface.progress.points import Watch, unwatched
from hyperface.run import Run
from hyperface.training.folder import Folder, Section
from hyperface.training.loader import image_size
from hyperface.training.progress import Progress
from hyperface.training.recognizer import checkpoint
from hyperface.training.recognizer.trainer import Training
from hyperface.training.sources import open_images
from hyperface.training.underway import take_steps

SECTION: Section = "train"


def begin(run: Run) -> None:
    """Look at the images and record what decides the result, or compare it with what is recorded.

    What no checkpoint depends on yet binds nobody.

    Raises:
        ConfigError: a training of this name was begun with something else; names each key.
        RunError, ConfigError: as `open_images`; a batch is larger than the dataset.
    """
    Folder(run, SECTION).begin(open_images(run, run.config.train.data), {})


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
    Folder(run, SECTION).check(images, {})
    training = Training(config, images, place, image_size(images))
    progress = Progress(training, speaker(place.rank, say), watch=watch)
    checkpoint.load(run, training, progress)
    where = f"{place.world} worker{'s' if place.world > 1 else ''} on {place.device.type}"
    progress.say(
        f"train: {images.num_images} images of {images.num_classes} identities{images.left_out}, "
        f"{training.last_step} steps of {config.batch_size}, from step {training.step}, {where}"
    )
    if place.device.type == "cpu" and config.precision != "float32":
        progress.say("train: half precision is slow on most CPUs; there, train.precision=float32 is faster")
    take_steps(training, progress.add, config.checkpoint_every, lambda: checkpoint.save(run, training, progress))
    if place.rank == 0:
        write_results(run, training, progress)
        uri = run.store.uri(weights_file(config.name))
        progress.say(f"train: loss {progress.loss:.3f}, {training.seconds:.0f} s -> {uri}")


def write_results(run: Run, training: Training, progress: Progress) -> None:
    config = run.config.train
    architecture = {
        "backbone": config.backbone,
        "image_size": training.image_size,
        "embedding_dim": config.embedding_dim,
        "se": config.squeeze_excitation,
    }
    Folder(run, SECTION).finish(to_bytes(training.network, architecture), training, progress)
