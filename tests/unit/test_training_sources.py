"""Sources of a training: runs, an ImageFolder, RecordIO; and what it refuses."""

import dataclasses
import io
import os
import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from color_world import color_run, make_dataset

from hyperface.dataset import Dataset, index
from hyperface.dataset.commit import record
from hyperface.dataset.export import Kind, export_run
from hyperface.dataset.plan import marker_file
from hyperface.errors import ConfigError, RunError
from hyperface.run import Run
from hyperface.storage import open_store
from hyperface.training.images import Images
from hyperface.training.loader import image_size
from hyperface.training.sources import open_images


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = color_run(tmp_path_factory.mktemp("run") / "run", "synthesis.max_attempts=1")
    make_dataset(made)
    return made


def opened(run: Run, data: str = "") -> Images:
    return open_images(run, data)


def contents(images: Images, order: int = 0, begin: int = 0, end: int | None = None) -> list[tuple[int, bytes]]:
    stretch = images.stretch(order, begin, images.num_images if end is None else end)
    return [(item.label, item.read()) for item in stretch]


def test_a_run_gives_each_stored_image_once_under_its_class(run: Run):
    images, shards = opened(run), list(Dataset.of(run))
    stored = sorted((i, jpeg) for shard in shards for i, jpeg in zip(shard.identities, shard.jpegs, strict=True))
    identities = sorted({identity for identity, _ in stored})
    assert images.num_images == len(stored) < 30, "some images were rejected"
    assert images.num_classes == len(identities)
    assert sorted(contents(images)) == [(identities.index(i), jpeg) for i, jpeg in stored]


def test_orders_differ_and_any_stretch_is_a_part_of_its_order(run: Run):
    images = opened(run)
    whole = contents(images, order=5)
    assert whole == contents(images, order=5)
    assert whole != contents(images, order=6)
    assert [row for begin in range(0, 24, 4) for row in contents(images, 5, begin, begin + 4)] == whole[:24]


@pytest.mark.parametrize("kind", ["imagefolder", "recordio"])
def test_exports_give_the_same_labels_and_images(run: Run, kind: Kind, tmp_path: Path):
    export_run(run, kind, open_store(str(tmp_path / kind)))
    images = opened(run, str(tmp_path / kind))
    assert (images.num_images, images.num_classes) == (opened(run).num_images, opened(run).num_classes)
    assert sorted(contents(images)) == sorted(contents(opened(run)))
    assert contents(images, order=5) != contents(images, order=6)
    assert contents(images, 5, 3, 9) == contents(images, 5)[3:9]


def test_several_runs_are_one_dataset_with_classes_one_after_the_other(run: Run, tmp_path: Path):
    other = color_run(tmp_path / "other", "run.seed=1", "packing.first_identity=6", "packing.num_identities=4")
    make_dataset(other)
    both, first = opened(run, f"{run}, {other}"), opened(run)
    assert both.num_classes == first.num_classes + opened(other).num_classes
    assert both.num_images == first.num_images + opened(other).num_images
    assert {label for label, _ in contents(both)} == set(range(both.num_classes))
    assert both.fingerprint != first.fingerprint


def test_one_run_given_twice_is_refused_whatever_it_is_called(run: Run, tmp_path: Path):
    (tmp_path / "again").symlink_to(run.store.url)
    with pytest.raises(ConfigError, match=r"train.data: .* must name each run once: its identities would be two"):
        opened(run, f"{run},{tmp_path / 'again'}")


def test_a_fingerprint_tells_datasets_apart_and_stays_for_one(run: Run, tmp_path: Path):
    assert opened(run).fingerprint == opened(run).fingerprint
    for folder in ("a", "b"):
        (tmp_path / folder / "p").mkdir(parents=True)
        (tmp_path / folder / "q").mkdir()
        (tmp_path / folder / "p" / "1.png").write_bytes(b"one")
        (tmp_path / folder / "q" / "1.png").write_bytes(folder.encode() * (1 + (folder == "b")))
    assert opened(run, str(tmp_path / "a")).fingerprint != opened(run, str(tmp_path / "b")).fingerprint


def relabel(run: Run, shard: int, row: int, label: int) -> str:
    """Give a stored image another label, with marker and index that fit; the key of the image."""
    dataset = Dataset.of(run)
    markers = dataset.survey().markers
    name = markers[shard].files[0].name
    table = pq.read_table(io.BytesIO(run.store.read(name)))
    labels = table["identity"].to_pylist()
    labels[row] = label
    changed = table.set_column(1, "identity", pa.array(labels, pa.int64())).cast(table.schema)
    sink = io.BytesIO()
    pq.write_table(changed, sink)
    run.store.put(name, sink.getvalue())
    markers[shard] = dataclasses.replace(markers[shard], files=(record(name, sink.getvalue()),))
    run.store.put(marker_file(shard), markers[shard].to_bytes())
    index.write(dataset, markers)
    return str(table["key"][row])


def test_labels_beyond_the_identities_are_refused_with_file_and_key(tmp_path: Path):
    made = color_run(tmp_path / "run", "dataset.format=parquet")
    make_dataset(made)
    key = relabel(made, shard=0, row=3, label=77)
    with pytest.raises(RunError, match=rf"shard-000000.parquet: {key} has the label 77, which is no identity of this"):
        contents(opened(made))


def test_a_damaged_shard_is_named(run: Run, tmp_path: Path):
    made = color_run(tmp_path / "run")
    make_dataset(made)
    name = "dataset/parquet/shard-000001.parquet"
    made.store.put(name, made.store.read(name)[:-1] + b"x")
    with pytest.raises(RunError, match=r"shard-000001.parquet: must have the SHA-256"):
        contents(opened(made))


def test_an_unfinished_run_is_refused(tmp_path: Path):
    with pytest.raises(RunError, match="the dataset is not finished"):
        opened(color_run(tmp_path / "run"))


def test_one_identity_is_refused(run: Run, tmp_path: Path):
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "1.png").write_bytes(b"")
    with pytest.raises(RunError, match="holds 1 identity; training needs at least 2"):
        opened(run, str(tmp_path))


def test_a_folder_without_images_and_mixed_places_are_refused(run: Run, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"train.data: .* holds nothing to train on; give a run, train.rec"):
        opened(run, str(tmp_path))
    with pytest.raises(ConfigError, match=r"several places in train.data must all be runs"):
        opened(run, f"{run},{tmp_path}")


def test_a_folder_of_others_accounts_for_every_file(run: Run, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    faces = tmp_path / "faces"
    for name in (
        *("ada/1.jpg", "ada/2.JFIF", "ada/3.tif", "bob/1.gif", "notes.txt", "ada/labels.csv", "ada/more.txt"),
        *(".ipynb_checkpoints/1.jpg", "ada/.Trash-1000/1.jpg", "ada/@eaDir/1.jpg", "bob/._1.gif", "cover.jpg"),
    ):
        (faces / name).parent.mkdir(parents=True, exist_ok=True)
        (faces / name).write_bytes(name.encode())
    elsewhere.mkdir()
    (elsewhere / "1.png").write_bytes(b"cyd")
    (faces / "cyd").symlink_to(elsewhere)
    images = opened(run, str(faces))
    assert (images.num_images, images.num_classes) == (5, 3)
    assert sorted(data for _, data in contents(images))[-1] == b"cyd"
    assert images.left_out == " (8 files left out: hidden 4, .txt 2, .csv 1, beside the folders 1)"


def test_a_name_that_is_no_utf8_is_an_image_like_others(run: Run, tmp_path: Path):
    for person in (b"ada", b"bob\xff"):
        (tmp_path / os.fsdecode(person)).mkdir()
        (tmp_path / os.fsdecode(person) / "1.jpg").write_bytes(person)
    images = opened(run, str(tmp_path))
    assert len(images.fingerprint) == 64
    assert sorted(contents(images)) == [(0, b"ada"), (1, b"bob\xff")]


@pytest.mark.parametrize("what", ["empty", "pipe", "link"])
def test_a_picture_that_cannot_be_one_is_said_before_the_training(run: Run, tmp_path: Path, what: str):
    for person in "ab":
        (tmp_path / person).mkdir()
        (tmp_path / person / "1.jpg").write_bytes(b"1")
    bad = tmp_path / "a" / "2.jpg"
    if what == "empty":
        bad.touch()
    elif what == "pipe":
        os.mkfifo(bad)
    else:
        bad.symlink_to("/not/mounted/2.jpg")
    with pytest.raises(ConfigError, match=rf"train.data: {bad}: is empty, a pipe or a link to nothing; restore it"):
        opened(run, str(tmp_path))


def test_an_image_that_goes_during_the_training_is_named(run: Run, tmp_path: Path):
    for person in "ab":
        (tmp_path / person).mkdir()
        (tmp_path / person / "1.jpg").write_bytes(b"1")
    images = opened(run, str(tmp_path))
    for person in "ab":
        (tmp_path / person / "1.jpg").unlink()
    with pytest.raises(RunError, match=rf"{tmp_path}/./1.jpg: is gone; restore it"):
        image_size(images)


def recordio_folder(run: Run, folder: Path) -> Path:
    export_run(run, "recordio", open_store(str(folder)))
    return folder


def test_a_record_with_a_broken_frame_or_a_label_that_is_no_class_is_named(run: Run, tmp_path: Path):
    folder = recordio_folder(run, tmp_path / "records")
    offsets = dict(line.split("\t") for line in (folder / "train.idx").read_text().splitlines())
    data = bytearray((folder / "train.rec").read_bytes())
    at = int(offsets["4"])
    for label in (1.5, -1.0, float("nan"), float("inf")):
        data[at + 12 : at + 16] = struct.pack("<f", label)
        (folder / "train.rec").write_bytes(data)
        with pytest.raises(RunError, match=f"record 4 has the label {label}, which is no class"):
            opened(run, str(folder))
    data[at : at + 4] = b"xxxx"
    (folder / "train.rec").write_bytes(data)
    with pytest.raises(RunError, match="record 4 cannot be read"):
        opened(run, str(folder))


def test_records_whose_labels_have_a_gap_are_refused(run: Run, tmp_path: Path):
    folder = recordio_folder(run, tmp_path / "records")
    data = bytearray((folder / "train.rec").read_bytes())
    for line in (folder / "train.idx").read_text().splitlines()[1:]:
        at = int(line.split("\t")[1])
        if struct.unpack("<I", data[at + 8 : at + 12])[0] == 0 and struct.unpack("<f", data[at + 12 : at + 16])[0] == 2:
            data[at + 12 : at + 16] = struct.pack("<f", 99)
    (folder / "train.rec").write_bytes(data)
    with pytest.raises(RunError, match="labels must be 0 to classes - 1 without gaps"):
        opened(run, str(folder))


def test_records_are_not_read_from_a_bucket(run: Run, s3_bucket: str, s3_endpoint: str):
    storage = dataclasses.replace(run.config.storage, endpoint_url=s3_endpoint)
    store = open_store(f"s3://{s3_bucket}/records", storage)
    store.put("train.rec", b"")
    store.put("train.idx", b"")
    there = dataclasses.replace(run, config=dataclasses.replace(run.config, storage=storage))
    with pytest.raises(ConfigError, match=r"copy train.rec to a local disk"):
        opened(there, str(store))


def test_a_run_and_an_image_folder_are_read_from_a_bucket(run: Run, s3_bucket: str, s3_endpoint: str):
    made = color_run(f"s3://{s3_bucket}/run", f"storage.endpoint_url={s3_endpoint}", "synthesis.max_attempts=1")
    make_dataset(made)
    assert sorted(contents(opened(made))) == sorted(contents(opened(run)))
    export_run(made, "imagefolder", open_store(f"s3://{s3_bucket}/folder", made.config.storage))
    assert sorted(contents(opened(made, f"s3://{s3_bucket}/folder"))) == sorted(contents(opened(run)))
