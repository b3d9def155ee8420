"""Random small datasets through every format and back: nothing is lost, doubled, relabelled or out of order."""

import csv
import io
from pathlib import Path

import lmdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from color_world import ColorGenerator, color_run, make_dataset
from insightface_reader import FaceDataset

from hyperface.dataset import Dataset
from hyperface.dataset.classes import classes
from hyperface.dataset.export import FORMATS, export_run
from hyperface.dataset.export.grouping import batches, gather, write_spill
from hyperface.errors import RunError
from hyperface.run import Run
from hyperface.storage import open_store


def random_run(random: np.random.Generator, folder: Path) -> Run:
    """A finished run whose numbers, rejects, formats and duplicates are drawn."""
    identities, images = (int(number) for number in random.integers((2, 1), 8))
    overrides = [f"packing.num_identities={identities}", f"synthesis.images_per_identity={images}"]
    overrides += [f"synthesis.images_per_shard={random.integers(1, 12)}", f"run.seed={random.integers(1000)}"]
    overrides += [f"packing.first_identity={random.integers(0, 9_999_990)}", "synthesis.max_attempts=1"]
    overrides += [f"dataset.format={random.choice(['webdataset', 'parquet', 'both'])}"]
    run = color_run(folder, *overrides)
    make_dataset(run, ColorGenerator(miss_every=int(random.choice([0, 2, 4]))))
    keys = np.array([key for shard in Dataset.of(run) for key in shard.keys])
    doubled = keys[random.random(len(keys)) < random.choice([0, 0.3])]
    run.put_json("dataset/index.json", {**run.get_json("dataset/index.json"), "duplicates": sorted(doubled.tolist())})
    return run


def wanted(run: Run) -> dict[str, bytes]:
    doubled = run.get_json("dataset/index.json")["duplicates"]
    found = {key: data for shard in Dataset.of(run) for key, data in zip(shard.keys, shard.jpegs, strict=True)}
    return {key: found[key] for key in sorted(found) if key not in doubled}


@pytest.mark.parametrize("seed", range(12))
def test_any_dataset_comes_back_from_every_format_as_it_went_in(tmp_path: Path, seed: int):
    random = np.random.default_rng(seed)
    run = random_run(random, tmp_path / "run")
    images = wanted(run)
    for kind in FORMATS:
        if images:
            export_run(run, kind, open_store(str(tmp_path / kind)), lambda line: None, int(random.integers(1, 20_000)))
        else:
            with pytest.raises(RunError, match="holds no image to export"):
                export_run(run, kind, open_store(str(tmp_path / kind)))
    if not images:
        return
    table = csv.DictReader(io.StringIO((tmp_path / "imagefolder/classes.csv").read_text()))
    label_of = {f"{int(row['identity']):07d}": int(row["label"]) for row in table}
    labels = [label_of[key[:7]] for key in images]
    assert sorted(set(labels)) == list(range(len(label_of)))
    paths = (tmp_path / "imagefolder").rglob("*.jpg")
    assert {f"{path.parent.name}/{path.stem}": path.read_bytes() for path in paths} == {
        f"{key[:7]}/{key}": data for key, data in images.items()
    }
    faces = FaceDataset(tmp_path / "recordio")
    assert [faces[i] for i in range(len(faces))] == list(zip(images.values(), labels, strict=True))
    assert [end - begin for begin, end in faces.class_ranges()] == np.bincount(labels).tolist()
    with lmdb.open(str(tmp_path / "lmdb"), readonly=True, lock=False) as environment, environment.begin() as reading:
        assert [(key.decode(), data) for key, data in reading.cursor()] == list(images.items())
    rows = [
        row for path in sorted((tmp_path / "huggingface/data").iterdir()) for row in pq.read_table(path).to_pylist()
    ]
    assert {row["key"]: (row["image"]["bytes"], row["label"]) for row in rows} == {
        key: (data, label) for (key, data), label in zip(images.items(), labels, strict=True)
    }


@pytest.mark.parametrize("seed", range(20))
def test_labels_and_positions_are_those_of_the_sorted_images(seed: int):
    random = np.random.default_rng(seed)
    first, identities, per_identity = (int(n) for n in random.integers((0, 1, 1), (100, 9, 9)))
    planned = [(first + i, j) for i in range(identities) for j in range(per_identity)]
    there = [place for place in planned if random.random() < random.choice([0.2, 0.8, 1])]
    found = classes(first, identities, per_identity, [place for place in planned if place not in there])
    if not there:
        assert found.num_images == 0
        return
    identities_R, images_R = np.array(there).T
    numbered = sorted(set(identities_R.tolist()))
    assert found.positions(identities_R, images_R).tolist() == list(range(len(there)))
    assert found.labels(identities_R).tolist() == [numbered.index(i) for i in identities_R]
    assert found.identities_C.tolist() == numbered
    assert found.without_images == identities - len(numbered)
    assert [key for _, key in found.rows()] == [f"{i:07d}-{j:04d}" for i, j in there]
    assert found.starts_C.tolist() == [identities_R.tolist().index(identity) for identity in numbered]


@pytest.mark.parametrize("budget", [1, 50, 300, 10_000])
@pytest.mark.parametrize("shards", [1, 7])
def test_the_sort_gives_every_image_at_its_position(tmp_path: Path, budget: int, shards: int):
    random = np.random.default_rng(budget + shards)
    images = [random.bytes(int(size)) for size in random.integers(0, 40, 100)]
    dealt = np.array_split(random.permutation(100), shards)
    paths = [tmp_path / str(shard) for shard in range(shards)]
    for path, positions in zip(paths, dealt, strict=True):
        write_spill(path, positions.tolist(), [images[position] for position in positions])
    assert list(gather(paths, 100, budget)) == list(enumerate(images))
    with pytest.raises(ValueError, match="must each be in one spill"):
        list(gather(paths, 101, budget))


def test_shards_are_batched_up_to_the_budget_and_a_larger_one_is_alone():
    assert batches([5, 5, 5, 20, 1, 9, 1], 10) == [range(2), range(2, 3), range(3, 4), range(4, 6), range(6, 7)]
    assert batches([], 10) == []
