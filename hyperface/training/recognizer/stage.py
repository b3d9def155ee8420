"""The training of a run: from its images to a backbone. Its folder is that of every training
(hyperface/training/folder.py); the last epoch's network is recognition/NAME/backbone.safetensors.
"""

from collections.abc import Callable

from hyperface.distributed.place import Place
from hyperface.progress.meter import Watch, unwatched
from hyperface.run import Run
from hyperface.training import loop
from hyperface.training.folder import Folder, Section
from hyperface.training.loader import image_size
from hyperface.training.recognizer.trainer import RecognizerTraining
from hyperface.training.sources import open_images

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
        say: called with each line of progress, on rank 0; None: standard output.
        watch: called with every recorded step.

    Raises:
        RunError: the loss is no number any more, an image cannot be read, or the data is not what it was at `begin`.
        StorageError: something cannot be read or written; the newest checkpoint stays.
    """
    images, folder = open_images(run, run.config.train.data), Folder(run, SECTION)
    folder.check(images, {})
    loop.train(folder, RecognizerTraining(run.config.train, images, place, image_size(images)), say, watch)
