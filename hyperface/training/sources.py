"""Where the images of a training come from: runs of this product, an ImageFolder, or InsightFace's RecordIO."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from hyperface.config import ConfigError
from hyperface.dataset.source import open_source
from hyperface.pictures import SUFFIXES
from hyperface.run import CONFIG, Run, RunError, existing_run
from hyperface.storage import LocalStore, Store, open_store
from hyperface.training.images import Images
from hyperface.training.other_images import RECORD_INDEX, RECORDS, FolderImages, RecordImages
from hyperface.training.run_images import RunImages


def open_images(run: Run, data: str, key: str = "train.data") -> Images:
    """What a key of the configuration names; the run's own dataset where it is empty.

    Args:
        data: the key's value.
        key: its name, for messages.

    Raises:
        ConfigError: it names nothing that can be trained on.
        RunError: a run is not finished or damaged; there is one class only.
    """
    places = [place.strip() for place in data.split(",") if place.strip()]
    images = _opened(places, run, key)
    if images.num_classes < 2:
        raise RunError(f"{data or run}: holds {images.num_classes} identity; training needs at least 2")
    return images


def _opened(places: Sequence[str], run: Run, key: str) -> Images:
    storage = run.config.storage
    if not places:
        return RunImages((open_source(run),))
    stores = [open_store(place, storage) for place in places]
    if all(store.exists(CONFIG) for store in stores):
        parts = tuple(open_source(existing_run(place, storage)) for place in places)
        if len({part.index_sha256 for part in parts}) < len(parts):
            raise ConfigError(f"{key}: {', '.join(places)}: must name each run once: its identities would be two")
        return RunImages(parts)
    if len(places) > 1:
        kinds = f"several places in {key} must all be runs"
        raise ConfigError(f"{key}: {', '.join(places)}: {kinds}; merge folders into one, or train on one")
    return _of_others(stores[0], key)


def _of_others(store: Store, key: str) -> Images:
    if store.exists(RECORDS) and store.exists(RECORD_INDEX):
        if not isinstance(store, LocalStore):
            raise ConfigError(f"{key}: {store}: records are read one by one; copy {RECORDS} to a local disk")
        return RecordImages(store)
    names = [name for name in store.list() if PurePosixPath(name).suffix.lower() in SUFFIXES and "/" in name]
    if not names:
        kinds = f"a run, {RECORDS} with {RECORD_INDEX}, or folders of images (PERSON/IMAGE.jpg)"
        raise ConfigError(f"{key}: {store} holds nothing to train on; give {kinds}")
    return FolderImages(store, tuple(names))
