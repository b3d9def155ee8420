"""Verification finds every kind of damage and names the file."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from color_world import DIM, ColorGenerator, color_run, make_dataset

from hyperface.dataset import Dataset, card, jpeg, parquet, verify, webdataset
from hyperface.dataset.commit import record
from hyperface.dataset.marker import Marker, Quarantine
from hyperface.dataset.schema import Sample
from hyperface.run import Run, existing_run
from hyperface.run.names import REFERENCES

PARQUET, TAR = "dataset/parquet/shard-000001.parquet", "dataset/webdataset/shard-000001.tar"
DONE = "dataset/_done/shard-000001.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "run"
    make_dataset(color_run(path), ColorGenerator(miss_every=2))
    return path


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Run:
    shutil.copytree(whole, tmp_path / "run")
    return existing_run(str(tmp_path / "run"))


def test_a_whole_dataset_with_rejects_has_no_problems(run: Run):
    assert run.get_json("dataset/index.json")["rejects"]
    assert verify(run, deep=False) == []
    assert verify(run, deep=True) == []


def test_the_index_accounts_for_every_planned_image(run: Run):
    index = run.get_json("dataset/index.json")
    assert index["images"] + len(index["rejects"]) == index["planned_images"] == 30
    assert index["images"] == sum(len(shard.keys) for shard in Dataset.of(run))
    assert sum(index["shortfall"].values()) == len(index["rejects"])
    assert index["draws"] == 30 + index["redraws"]
    for reject in index["rejects"]:
        assert reject["attempts"] == 3
        assert f"{reject['identity']:07d}" in index["shortfall"]


def cut(name: str) -> Callable[[Run], None]:
    return lambda run: run.store.put(name, run.store.read(name)[:-7])


def flip(name: str) -> Callable[[Run], None]:
    def damage(run: Run) -> None:
        data = bytearray(run.store.read(name))
        data[len(data) // 3] ^= 1
        run.store.put(name, bytes(data))

    return damage


def edit(name: str, old: str, new: str) -> Callable[[Run], None]:
    def damage(run: Run) -> None:
        text = run.store.read(name).decode()
        assert old in text
        run.store.put(name, text.replace(old, new, 1).encode())

    return damage


def remove(name: str) -> Callable[[Run], None]:
    return lambda run: run.store.delete(name)


SHALLOW = {
    "missing marker": (remove(DONE), "shard-000001.json: is missing: the shard is not done"),
    "missing parquet": (remove(PARQUET), "shard-000001.parquet: is missing although"),
    "missing tar": (remove(TAR), "shard-000001.tar: is missing although"),
    "cut parquet": (cut(PARQUET), "shard-000001.parquet: must have the"),
    "cut tar": (cut(TAR), "shard-000001.tar: must have the"),
    "cut marker": (cut(DONE), "shard-000001.json: is not a shard's done marker"),
    "marker of another shard": (edit(DONE, '"shard": 1', '"shard": 2'), "must describe shard 1"),
    "marker of another run": (edit(DONE, '"fingerprint": "', '"fingerprint": "00'), "another configuration"),
    "lost rows": (edit(DONE, '"rows": ', '"rows": 1'), "must account for 8 images"),
    "strange file": (lambda run: run.store.put("dataset/parquet/shard-000099.parquet", b""), "no file of this dataset"),
    "no index": (remove("dataset/index.json"), "index.json: is missing"),
    "no card": (remove("dataset/README.md"), "README.md: is missing"),
    "other index": (edit("dataset/index.json", '"images": ', '"images": 1'), "does not say what the markers say"),
    "no fingerprint": (remove("dataset/fingerprint.json"), "fingerprint.json: is missing"),
    "cut fingerprint": (cut("dataset/fingerprint.json"), "fingerprint.json: cannot be read"),
}


@pytest.mark.parametrize("damage", SHALLOW)
def test_damage_that_a_listing_shows_is_named(run: Run, damage: str):
    cause, problem = SHALLOW[damage]
    cause(run)
    (found,) = verify(run, deep=False)
    assert problem in found
    assert found.startswith(run.store.uri("dataset"))


def test_every_damaged_shard_is_named(run: Run):
    for name in (PARQUET, TAR.replace("1.", "3."), DONE.replace("1.", "0.")):
        cut(name)(run)
    assert [line.split(": ")[0].rpartition("/")[2] for line in verify(run, deep=False)] == [
        "shard-000000.json",
        "shard-000001.parquet",
        "shard-000003.tar",
    ]


@pytest.mark.parametrize("name", [PARQUET, TAR])
def test_a_flipped_bit_is_found_by_a_deep_look_only(run: Run, name: str):
    flip(name)(run)
    assert verify(run, deep=False) == []
    found = verify(run, deep=True)
    assert any(f"{name}: must have the SHA-256" in line for line in found)


def forge(run: Run, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Write shard 1 again with other content, and a marker and an index that believe it."""
    store, images = run.store, list(Dataset.of(run))[1]
    fields = ("key", "identity", "image_index", "jpeg", "seed", "cosine")
    columns = (images.keys, images.identities, images.image_indices, images.jpegs, images.seeds, images.cosines)
    rows = [dict(zip(fields, row, strict=True)) for row in zip(*columns, strict=True)]
    change(rows)
    samples = [Sample(**row, attempt=0, embedding_d=np.zeros(DIM, np.float32)) for row in rows]
    files = [(PARQUET, parquet.to_bytes(samples, DIM)), (TAR, webdataset.to_bytes(samples))]
    for name, data in files:
        store.put(name, data)
    marker = Marker.from_bytes(store.read(DONE), DONE)
    store.put(DONE, replace(marker, files=tuple(record(*file) for file in files)).to_bytes())
    index = run.get_json("dataset/index.json")
    index["shards"][1]["files"] = [asdict(record(*file)) for file in files]
    index["bytes"] = sum(file["bytes"] for shard in index["shards"] for file in shard["files"])
    run.put_json("dataset/index.json", index)
    store.put("dataset/README.md", card.text(run.config, index, run.get_json("dataset/fingerprint.json")).encode())
    store.put("dataset/wids.json", webdataset.wids_bytes(index))


@pytest.mark.parametrize("name", ["dataset/README.md", "dataset/wids.json", "dataset/index.json"])
def test_a_card_or_index_that_says_something_else_is_named(run: Run, name: str):
    run.store.put(name, b"{}")
    assert verify(run, deep=False) == [
        f"{run.store.uri(name)}: does not say what the markers say; run the synthesize job again"
    ]


def test_a_marker_with_fewer_hashes_than_rows_is_damaged(run: Run):
    marker = Marker.from_bytes(run.store.read(DONE), DONE)
    run.store.put(DONE, replace(marker, hashes="00" * 8).to_bytes())
    assert any(line.startswith(run.store.uri(DONE)) and "hashes must be 16" in line for line in verify(run, deep=False))


def relabel(rows: list[dict[str, Any]]) -> None:
    rows[0]["identity"] += 1


def reseed(rows: list[dict[str, Any]]) -> None:
    rows[0]["seed"] += 1


def lower(rows: list[dict[str, Any]]) -> None:
    rows[0]["cosine"] = 0.2


def repeat(rows: list[dict[str, Any]]) -> None:
    rows[1] = rows[0]


def swap(rows: list[dict[str, Any]]) -> None:
    rows[0], rows[1] = rows[1], rows[0]


def rename(rows: list[dict[str, Any]]) -> None:
    rows[0]["key"] = "0000099-0000"


def drop(rows: list[dict[str, Any]]) -> None:
    del rows[0]


def blur(rows: list[dict[str, Any]]) -> None:
    rows[0]["jpeg"] = rows[0]["jpeg"][:-9]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (relabel, "must be labelled"),
        (reseed, "a seed that is not of this run"),
        (lower, "a cosine outside 0.9 to 1"),
        (repeat, "keys must be unique; repeated"),
        (swap, "must hold its keys in the order of the plan"),
        (rename, "strange ['0000099-0000']"),
        (drop, "rows of its marker"),
        (blur, "is not a whole JPEG"),
    ],
)
def test_wrong_content_behind_a_right_hash_is_named(
    run: Run, change: Callable[[list[dict[str, Any]]], None], problem: str
):
    forge(run, change)
    assert verify(run, deep=False) == []
    found = verify(run, deep=True)
    for name in (PARQUET, TAR):
        assert any(problem in line for line in found if line.startswith(run.store.uri(name))), found


def test_reading_a_damaged_dataset_names_the_file(run: Run):
    cut(PARQUET)(run)
    with pytest.raises(ValueError, match=r"shard-000001.parquet: must have the"):
        list(Dataset.of(run))


def test_stored_images_decode_to_the_generators_size(run: Run):
    assert all(jpeg.decode(data).shape == (16, 16, 3) for shard in Dataset.of(run) for data in shard.jpegs)


def test_lost_or_other_references_are_named(run: Run):
    whole = run.store.read(REFERENCES)
    run.store.put(REFERENCES, whole + b"x")
    assert any("is not the file that the images were drawn from" in problem for problem in verify(run, deep=False))
    run.store.delete(REFERENCES)
    assert any(f"{REFERENCES}: is missing" in problem for problem in verify(run, deep=False))


def test_a_quarantined_shard_is_named_with_the_way_out_and_a_note_that_is_out_of_date_too(run: Run):
    note = "dataset/_quarantine/shard-000001.json"
    run.store.put(note, Quarantine(1, 3, "its actor died", "2026-01-02T03:04:05+00:00").to_bytes())
    (settled,) = verify(run, deep=False)
    assert settled.startswith(f"{run.store.uri(note)}: is out of date, the shard is done")
    for name in (DONE, PARQUET, TAR):
        run.store.delete(name)
    (problem,) = verify(run, deep=True)
    assert "shard 1 is quarantined: begun 3 times, last on 2026-01-02T03:04:05+00:00: its actor died" in problem
    assert problem.endswith("take it up again with synthesis.retry_quarantined=true")
    run.store.put(note, b"{}")
    (problem,) = verify(run, deep=False)
    assert f"{note}: is no note about a quarantined shard" in problem


def test_of_many_shards_that_are_not_done_one_line_says_how_many(tmp_path: Path):
    run = color_run(tmp_path / "run", "synthesis.images_per_shard=1")
    run.put_json("dataset/fingerprint.json", {REFERENCES: "0" * 64})
    found = [problem for problem in verify(run, deep=False) if "not done" in problem]
    total = Dataset.of(run).plan.num_shards
    assert total > 20
    assert found == [
        f"{run.store.uri('dataset/_done')}: {total} of {total} shards are not done, 0 the first of them; "
        f"run `python -m jobs.pipeline {run}`, which goes on"
    ]
