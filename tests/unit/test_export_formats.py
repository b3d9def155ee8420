"""Every format, read back by what the world reads it with, holds each stored image once under its class."""

import csv
import io
from pathlib import Path

import lmdb
import numpy as np
import pytest
from color_world import ColorGenerator, color_run, make_dataset
from insightface_reader import FaceDataset, read_record

from hyperface.dataset import Dataset, jpeg
from hyperface.dataset import recordio as records
from hyperface.dataset.export import FORMATS, Kind, export_run
from hyperface.errors import ConfigError
from hyperface.run import Run
from hyperface.storage import open_store


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Identities 40 to 45 with rejected images, one of them without any image, and two near-duplicates to leave out."""
    run = color_run(tmp_path_factory.mktemp("run") / "run", "packing.first_identity=40", "synthesis.max_attempts=1")
    make_dataset(run, ColorGenerator(miss_every=2))
    index = run.get_json("dataset/index.json")
    assert index["rejects"]
    there = {key for shard in Dataset.of(run) for key in shard.keys}
    run.put_json("dataset/index.json", {**index, "duplicates": sorted(there)[2:4] + emptied(there)})
    return run


def emptied(keys: set[str]) -> list[str]:
    """Every image of the identity that has the fewest, as if all were duplicates."""
    count = {key[:7]: sum(other[:7] == key[:7] for other in keys) for key in keys}
    identity = min(sorted(count), key=lambda i: (count[i], -int(i)))
    return sorted(key for key in keys if key[:7] == identity)


@pytest.fixture(scope="module")
def stored(run: Run) -> dict[str, bytes]:
    """{key: JPEG} of what an export must hold, by key."""
    duplicates = run.get_json("dataset/index.json")["duplicates"]
    found = {key: data for shard in Dataset.of(run) for key, data in zip(shard.keys, shard.jpegs, strict=True)}
    return {key: found[key] for key in sorted(found) if key not in duplicates}


@pytest.fixture(scope="module")
def exported(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    root = tmp_path_factory.mktemp("exported")
    for kind in FORMATS:
        export_run(run, kind, open_store(str(root / kind)), say=lambda line: None)
    return {kind: root / kind for kind in FORMATS}


def label_of(stored: dict[str, bytes]) -> dict[str, int]:
    """{key: class label}: identities that have an image, numbered from 0."""
    identities = sorted({key[:7] for key in stored})
    return {key: identities.index(key[:7]) for key in stored}


def test_the_world_of_these_tests_has_rejects_duplicates_and_an_identity_without_images(run: Run, stored):
    assert len({key[:7] for key in stored}) == 5
    index = run.get_json("dataset/index.json")
    assert len(stored) == index["images"] - len(index["duplicates"]) < index["planned_images"]


@pytest.mark.parametrize("kind", FORMATS)
def test_the_classes_are_numbered_from_zero_and_say_which_identity_they_are(exported, stored, kind: Kind):
    rows = list(csv.DictReader(io.StringIO((exported[kind] / "classes.csv").read_text())))
    assert [int(row["label"]) for row in rows] == list(range(5))
    images = [sum(key[:7] == f"{int(row['identity']):07d}" for key in stored) for row in rows]
    assert [int(row["images"]) for row in rows] == images
    assert sum(images) == len(stored)


@pytest.mark.parametrize("kind", FORMATS)
def test_what_was_left_out_is_counted(run: Run, exported, stored, kind: Kind):
    done = open_store(str(exported[kind])).read("export.json").decode()
    assert f'"duplicates_left_out": {len(run.get_json("dataset/index.json")["duplicates"])}' in done
    assert '"identities_without_images": 1' in done
    assert f'"images": {len(stored)}' in done


@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_of_the_making_is_left(exported, kind: Kind):
    assert not (exported[kind] / ".export").exists()


def test_an_image_folder_has_a_folder_per_class_with_the_stored_files(exported, stored):
    root = exported["imagefolder"]
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.jpg")}
    assert found == {f"{key[:7]}/{key}.jpg": data for key, data in stored.items()}
    folders = sorted(path.name for path in root.iterdir() if path.is_dir())  # as torchvision numbers the classes
    assert {key: folders.index(key[:7]) for key in stored} == label_of(stored)


def test_datasets_reads_the_image_folder_with_the_same_labels(exported, stored, tmp_path: Path):
    import datasets

    faces = datasets.load_dataset(
        "imagefolder", data_dir=str(exported["imagefolder"]), split="train", cache_dir=str(tmp_path)
    )
    faces = faces.cast_column("image", datasets.Image(decode=False))
    assert {Path(row["image"]["path"]).stem: row["label"] for row in faces} == label_of(stored)


def test_insightface_reads_every_image_under_its_label(exported, stored):
    faces = FaceDataset(exported["recordio"])
    assert [faces[i] for i in range(len(faces))] == [(data, label_of(stored)[key]) for key, data in stored.items()]


def test_the_records_of_the_classes_hold_their_ranges(exported, stored):
    faces = FaceDataset(exported["recordio"])
    labels = list(label_of(stored).values())
    wanted = [(labels.index(label) + 1, labels.index(label) + 1 + labels.count(label)) for label in range(5)]
    assert faces.class_ranges() == wanted
    assert faces.header0 == (len(stored) + 1, len(stored) + 1 + 5)


def test_every_record_carries_its_number_and_the_index_finds_all_that_a_scan_finds(exported):
    records_by_index = FaceDataset(exported["recordio"]).records
    assert [records_by_index.read(number)[1] for number in records_by_index.offsets] == list(records_by_index.offsets)
    with (exported["recordio"] / "train.rec").open("rb") as file:
        offsets = []
        while (at := file.tell()) >= 0 and read_record(file) is not None:
            offsets.append(at)
    assert offsets == list(records_by_index.offsets.values())


def test_the_property_file_says_classes_and_image_size(exported, stored):
    height, width = jpeg.decode(next(iter(stored.values()))).shape[:2]
    assert (exported["recordio"] / "property").read_text() == f"5,{height},{width}\n"


def test_cvlface_finds_the_list_it_would_otherwise_make(exported, stored):
    lines = (exported["recordio"] / "train.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines]
    labels = label_of(stored)
    assert rows == [[str(i + 1), f"{labels[key]}/{key}.jpg", str(labels[key])] for i, key in enumerate(stored)]


def test_lmdb_gives_every_image_by_its_key(exported, stored):
    with lmdb.open(str(exported["lmdb"]), readonly=True, lock=False) as environment, environment.begin() as transaction:
        assert {key.decode(): data for key, data in transaction.cursor()} == stored
    rows = csv.DictReader(io.StringIO((exported["lmdb"] / "labels.csv").read_text()))
    assert [(row["key"], int(row["label"])) for row in rows] == list(label_of(stored).items())


def test_datasets_reads_the_folder_made_for_it(exported, stored, tmp_path: Path):
    import datasets

    faces = datasets.load_dataset(str(exported["huggingface"]), split="train", cache_dir=str(tmp_path))
    assert isinstance(faces.features["image"], datasets.Image)
    assert sorted(faces["key"][:]) == list(stored)
    row = faces[3]
    assert (np.asarray(row["image"]) == jpeg.decode(stored[row["key"]])).all()
    assert row["label"] == label_of(stored)[row["key"]]
    assert row["identity"] == int(row["key"][:7])
    assert 0.9 <= row["cosine"] <= 1


def test_images_stay_in_their_global_random_order_for_datasets(run: Run, exported, stored, tmp_path: Path):
    import datasets

    faces = datasets.load_dataset(str(exported["huggingface"]), split="train", cache_dir=str(tmp_path))
    assert faces["key"][:] == [key for shard in Dataset.of(run) for key in shard.keys if key in stored]


MAGIC = records.MAGIC


PAYLOADS = [b"", b"a", b"abcd", MAGIC, MAGIC[:3], MAGIC * 3, b"x" + MAGIC, b"abcd" + MAGIC, MAGIC + b"abc"]
PAYLOADS += [b"ab" + MAGIC * 2, b"abcd" + MAGIC + b"efg" + MAGIC + b"h" + MAGIC, b"abc" + MAGIC + b"d" + MAGIC]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_payload_with_magic_words_comes_back_as_it_was(payload: bytes):
    data = records.framed(payload) + records.framed(b"next")
    file = io.BytesIO(data)
    assert (read_record(file), read_record(file), read_record(file)) == (payload, b"next", None)
    assert len(data) % 4 == 0


def test_a_magic_word_stands_only_where_a_record_or_its_part_begins():
    payload = b"abcd" + MAGIC + b"x" + MAGIC + b"efg" + MAGIC
    data = records.framed(payload)
    aligned = [at for at in range(0, len(data), 4) if data[at : at + 4] == MAGIC]
    assert aligned == [0, 12, 28]
    assert data.count(MAGIC) == 4  # the word at offset 9 of the payload is not aligned and stays in the second part


def test_more_records_than_float32_counts_are_refused():
    records.refuse_too_many(2**24 - 12, 10)
    with pytest.raises(ConfigError, match="exact only below 16777216"):
        records.refuse_too_many(2**24 - 11, 10)
    assert np.float32(2**24 - 1) == 2**24 - 1
