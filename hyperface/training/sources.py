"""Sources of the images of a training: runs of this product, an ImageFolder, or InsightFace's RecordIO."""

from collections import Counter
from collections.abc import Sequence

from hyperface.dataset.source import open_source
from hyperface.errors import ConfigError, RunError
from hyperface.faces.pictures import other_kind
from hyperface.run import Run, existing_run
from hyperface.run.names import CONFIG
from hyperface.storage import LocalStore, Store, open_store
from hyperface.training.images import Images
from hyperface.training.other_images import RECORD_INDEX, RECORDS, FolderImages, RecordImages
from hyperface.training.run_images import RunImages


def open_images(run: Run, data: str, key: str = "train.data") -> Images:
    """Open the images that a key of the configuration names; the run's own dataset where it is empty.

    Args:
        data: the key's value.
        key: name of the key, for messages.

    Raises:
        ConfigError: it names nothing that can be trained on, or a file of a folder is no picture.
        RunError: a run is not finished or damaged; there is one class only.
    """
    places = [place.strip() for place in data.split(",") if place.strip()]
    images = _opened(places, run, key)
    if images.num_classes < 2:
        raise RunError(f"{data or run}: holds {images.num_classes} identity; training needs at least 2")
    if isinstance(images, FolderImages):
        _refuse_empty(images, key)
    return images


def _refuse_empty(images: FolderImages, key: str) -> None:
    """Raise ConfigError for what cannot be a picture now, rather than hours into the training."""
    empty = [name for name, size in zip(images.names, images.sizes, strict=True) if not size]
    if empty:
        more = f", like {len(empty) - 1} others" if empty[1:] else ""
        rule = f"is empty, a pipe or a link to nothing{more}; restore it, or take it out"
        raise ConfigError(f"{key}: {images.store.uri(empty[0])}: {rule}")


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
    sizes, left_out = _sorted_out(store)
    if not sizes:
        kinds = f"a run, {RECORDS} with {RECORD_INDEX}, or folders of images (PERSON/IMAGE.jpg)"
        raise ConfigError(f"{key}: {store} holds nothing to train on; give {kinds}")
    return FolderImages(store, tuple(sizes), tuple(sizes.values()), left_out)


def _sorted_out(store: Store) -> tuple[dict[str, int], Counter[str]]:
    """Return (sizes of the pictures that lie in a folder of their class, how many other files there are of which
    kind)."""
    sizes, left_out = dict[str, int](), Counter[str]()
    for name, size in store.list_all().items():
        if kind := other_kind(name):
            left_out[kind] += 1
        elif "/" in name:
            sizes[name] = size
        else:
            left_out["beside the folders"] += 1
    return sizes, left_out
