"""The export of a run: which format goes through which steps, what is held in memory, and what is said at the end."""

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from hyperface.dataset import recordio
from hyperface.dataset.classes import Classes
from hyperface.dataset.export import grouping, huggingface, imagefolder, lmdb, publish
from hyperface.dataset.export.destination import STATE, Destination
from hyperface.dataset.schema import ShardImages
from hyperface.dataset.source import Source, open_source
from hyperface.errors import ConfigError, RunError
from hyperface.progress import logs
from hyperface.progress.logs import Line
from hyperface.progress.meter import Meter
from hyperface.run import Run
from hyperface.run.names import DATASET
from hyperface.storage import LocalStore, Store

Kind = Literal["imagefolder", "recordio", "lmdb", "huggingface"]
FORMATS: tuple[Kind, ...] = get_args(Kind)
ON_DISK: tuple[Kind, ...] = ("recordio", "lmdb")
"""Formats that are written at several places of one file."""
LAYOUT: dict[Kind, int] = {"imagefolder": 1, "recordio": 1, "lmdb": 1, "huggingface": 2}
"""Versions of the layouts, raised when the same run begins to give other bytes."""
BUDGET = 128 * 2**20
"""Bytes of images that the sorting of RecordIO holds at a time, and that a kill can cost any format."""


@dataclass(frozen=True)
class Export:
    """An export that is being made."""

    source: Source
    classes: Classes
    destination: Destination
    say: Callable[[str], None]
    budget: int


def export_run(
    run: Run, kind: Kind, store: Store, say: Callable[[str], None] = logs.say, budget: int = BUDGET
) -> dict[str, Any]:
    """Put a finished run into `store` in a format, and return the content of `export.json`. Again: goes on, or finds
    all done.

    Memory: a shard as it is read (its file and its images), the markers of the run and 8 bytes per image that is not
    exported; for recordio also `budget` bytes of images.

    Raises:
        ConfigError: the format cannot go there, the destination holds something else, too many images for RecordIO.
        RunError: the run is not finished or not whole; names the file, the rule and what to run.
        StorageError: the destination cannot be written.
    """
    _refuse_place(run, kind, store)
    source = open_source(run)
    classes = source.classes
    if classes.num_images == 0:
        raise RunError(f"{run}: holds no image to export")
    if kind == "recordio":
        recordio.refuse_too_many(classes.num_images, len(classes.identities_C))
    described = {"format": kind, "layout": LAYOUT[kind], "source": {"index.json": source.index_sha256}}
    destination = Destination(store, described, budget)
    done = destination.finished()
    if done is None:
        with destination.begun():
            export = Export(source, classes, destination, say, budget)
            STEPS[kind](export)
            destination.put("classes.csv", classes.table())
            summary = _summary(export, kind)
            if kind == "huggingface":
                for name, data in publish.files(source, summary).items():
                    destination.put(name, data)
            done = destination.finish(summary)
    else:
        if kind == "huggingface":
            _describe_again(source, done, destination)
        destination.clean()
    notes = publish.notes(source) if kind == "huggingface" else ()
    say("\n".join([f"{store}: {_in_words(done)}", *notes]))
    return done


def _describe_again(source: Source, done: Mapping[str, Any], destination: Destination) -> None:
    """Write what describes a whole export where it says something else than what is known now."""
    made = publish.files(source, done)
    changed = {name: data for name, data in made.items() if not destination.store.holds(name, data)}
    if not changed:
        return
    with destination.begun():
        for name, data in changed.items():
            destination.put(name, data)


def _refuse_place(run: Run, kind: Kind, store: Store) -> None:
    if kind in ON_DISK and not isinstance(store, LocalStore):
        others = ", ".join(other for other in FORMATS if other not in ON_DISK)
        raise ConfigError(f"{store}: {kind} is written on a local disk; give a directory and copy it, or use {others}")
    place, dataset = store.url, run.store.uri(DATASET)
    if isinstance(store, LocalStore):  # a link leads elsewhere than its name says
        place, dataset = os.path.realpath(place), os.path.realpath(dataset)
    if f"{place}/".startswith(f"{dataset}/"):
        raise ConfigError(f"{store}: lies in the dataset that is exported; give another directory")


def _summary(export: Export, kind: Kind) -> dict[str, Any]:
    classes, store = export.classes, export.destination.store
    if kind == "imagefolder":  # millions of files: not listed
        files = {"classes.csv": store.size("classes.csv")}
    else:
        made_anew = publish.NAMES if kind == "huggingface" else ()
        files = {n: size for n, size in store.list().items() if n not in made_anew and not n.startswith(f"{STATE}/")}
    return {
        **(_published(export) if kind == "huggingface" else {}),
        "images": classes.num_images,
        "classes": len(classes.identities_C),
        "identities_without_images": classes.without_images,
        "duplicates_left_out": len(export.source.duplicates),
        "fingerprint": export.source.fingerprint,
        "files": files,
    }


def _published(export: Export) -> dict[str, Any]:
    shards = export.source.plan.num_shards
    data = {huggingface.file_name(n, shards): export.destination.note(_part(n)) for n in range(shards)}
    table = hashlib.sha256(export.classes.table()).hexdigest()
    return {"sha256": {**data, "classes.csv": table}, "date": datetime.now(UTC).date().isoformat()}


def _in_words(done: dict[str, Any]) -> str:
    parts = [f"{done['images']:,} images of {done['classes']:,} classes as {done['format']}"]
    if done["duplicates_left_out"]:
        parts.append(f"{done['duplicates_left_out']:,} near-duplicates left out")
    if done["identities_without_images"]:
        parts.append(f"{done['identities_without_images']:,} identities have no image and are no class")
    return "; ".join(parts)


def _part(shard: int) -> str:
    return f"shard-{shard:06d}"


def _meter(export: Export, what: str, done: int = 0) -> Meter:
    plan = export.source.plan
    return Meter(what, plan.num_shards, "shards", done=done, worth=(plan.images_per_shard, "images"), say=export.say)


def _each(export: Export, what: str, write: Callable[[int, ShardImages], str]) -> None:
    """Write every shard that has no mark, and mark it with what `write` says of it."""
    shards = export.source.plan.num_shards
    marked = export.destination.marked()
    todo = [shard for shard in range(shards) if _part(shard) not in marked]
    before = shards - len(todo)
    if before:
        export.say(Line(what, f"goes on after {before} of {shards} shards"))
    with _meter(export, what, before) as meter:
        for done, shard in enumerate(todo, start=before + 1):
            images = export.source.read(shard)
            export.destination.mark(_part(shard), write(shard, images))
            meter.reach(done)


def _imagefolder(export: Export) -> None:
    def write(shard: int, images: ShardImages) -> str:
        for name, data in imagefolder.files(images):
            export.destination.put(name, data)
        return ""

    _each(export, "imagefolder", write)


def _huggingface(export: Export) -> None:
    def write(shard: int, images: ShardImages) -> str:
        labels = export.classes.labels(np.array(images.identities, np.int64)).tolist()
        data = huggingface.to_bytes(images, labels)
        export.destination.put(huggingface.file_name(shard, export.source.plan.num_shards), data)
        return hashlib.sha256(data).hexdigest()

    _each(export, "huggingface", write)


def _lmdb(export: Export) -> None:
    destination, source = export.destination, export.source
    assert destination.folder is not None
    making, made = destination.scratch / "lmdb", destination.folder / "data.mdb"
    if not made.exists():  # it is moved when it is whole
        stored = sum(file.bytes for file in source.files)
        making.mkdir(exist_ok=True)
        with lmdb.opened(making, stored, export.classes.num_images) as environment:

            def write(shard: int, images: ShardImages) -> str:
                lmdb.write(environment, images)
                destination.wrote(sum(len(jpeg) for jpeg in images.jpegs))
                return ""

            _each(export, "lmdb", write)
            if (there := lmdb.count(environment)) != export.classes.num_images:
                advice = f"empty {destination.store} and export again"
                raise RunError(f"{making}: must hold {export.classes.num_images} images; it holds {there}; {advice}")
        (making / "data.mdb").replace(made)
    with destination.writing("labels.csv") as path, path.open("w") as file:
        file.write("key,label\n")
        file.writelines(f"{key},{label}\n" for label, key in export.classes.rows())


def _recordio(export: Export) -> None:
    source, destination = export.source, export.destination
    sizes = [file.bytes for file in source.files]
    marked, spills = destination.marked(), []
    with _meter(export, "recordio: sorting") as meter:
        for shards in grouping.batches(sizes, export.budget):
            name = f"spill-{shards.start:06d}-{shards.stop:06d}"
            spills.append(destination.scratch / name)
            if name in marked:
                meter.reach(shards.stop)
                continue
            positions: list[int] = []
            jpegs: list[bytes] = []
            for shard in shards:
                images = source.read(shard)
                numbers = np.array(images.identities, np.int64), np.array(images.image_indices, np.int64)
                positions += export.classes.positions(*numbers).tolist()
                jpegs += images.jpegs
                meter.reach(shard + 1)
            with destination.writing(f"{STATE}/{name}") as path:
                grouping.write_spill(path, positions, jpegs)
            destination.mark(name)
    export.say(Line("recordio", "writing train.rec"))
    _write_records(export, grouping.gather(spills, export.classes.num_images, export.budget))


def _write_records(export: Export, jpegs: Iterator[tuple[int, bytes]]) -> None:
    """Write record 0, images, ranges of classes; the offset of each in the index; a line per image, which CVLface
    reads."""
    classes, destination = export.classes, export.destination
    count, num_classes = classes.num_images, len(classes.identities_C)
    size: tuple[int, int] | None = None
    with (
        destination.writing("train.tsv") as tsv_path,
        destination.writing("train.idx") as idx_path,
        destination.writing("train.rec") as rec_path,
        tsv_path.open("w") as tsv,
        idx_path.open("w") as idx,
        rec_path.open("wb") as rec,
    ):

        def write(number: int, record: bytes) -> None:
            idx.write(f"{number}\t{rec.tell()}\n")
            rec.write(record)

        write(0, recordio.labelled(0, [count + 1, count + 1 + num_classes]))
        for (position, jpeg), (label, key) in zip(jpegs, classes.rows(), strict=True):
            size = _same_size(export, key, jpeg, size)
            write(position + 1, recordio.image(position + 1, label, jpeg))
            tsv.write(f"{position + 1}\t{label}/{key}.jpg\t{label}\n")
        ends_C = np.append(classes.starts_C[1:], count)
        for label, (begin, end) in enumerate(zip(classes.starts_C, ends_C, strict=True)):
            write(count + 1 + label, recordio.labelled(count + 1 + label, [int(begin) + 1, int(end) + 1]))
    assert size is not None
    destination.put("property", recordio.property_file(num_classes, *size))


def _same_size(export: Export, key: str, jpeg: bytes, expected: tuple[int, int] | None) -> tuple[int, int]:
    """Return (height, width) of an image, read from its header; raises RunError when images differ."""
    try:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            size = image.height, image.width
    except OSError as error:
        raise RunError(f"{export.source.run}: image of {key} is not a JPEG ({error})") from error
    if expected not in (None, size):
        raise RunError(f"{export.source.run}: images must have one size; {key} has {size}, others have {expected}")
    return size


STEPS: dict[Kind, Callable[[Export], None]] = {
    "imagefolder": _imagefolder,
    "recordio": _recordio,
    "lmdb": _lmdb,
    "huggingface": _huggingface,
}
