"""A dataset grows by a second run, whose identities begin where those of the first end; the first is left alone."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from color_world import ColorGenerator, color_config, color_run, make_dataset, put_references, references
from finished_run import finished_run, write_color_report

from hyperface.dataset import Dataset, verify
from hyperface.errors import EmbeddingError
from hyperface.faces.embeddings import Embeddings, to_parquet
from hyperface.report.measure import sampled_identities
from hyperface.run import Run, open_run
from hyperface.run.names import FACES, GALLERY, INDEX, PACKING_SUMMARY, REPORT, SEPARATION
from hyperface.synthesis.shards import read_references


def digests(folder: Path) -> dict[Path, str]:
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def part(folder: Path, first: Run) -> Run:
    """Six more identities, packed away from those of the first part: here by hand."""
    run = open_run(color_config(folder, "packing.first_identity=6", "packing.steps=12", "run.seed=3"))
    put_references(run.store, references(6, seed=2), first=6)
    run.store.put(GALLERY, first.store.read(GALLERY))
    summary = first.get_json(PACKING_SUMMARY)
    run.put_json(PACKING_SUMMARY, {key: summary[key] for key in summary if key != "references_sha256"})
    make_dataset(run, ColorGenerator(miss_every=3))
    return run


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """(first part, second part), both with a report."""
    folder = tmp_path_factory.mktemp("grown")
    first = finished_run(folder / "first")
    write_color_report(first)
    before = digests(folder / "first")
    second = part(folder / "second", first)
    write_color_report(second)
    assert digests(folder / "first") == before
    return first, second


def files(runs: tuple[Run, Run], kind: str) -> list[str]:
    return [run.store.uri(name) for run in runs for name in run.store.list(f"dataset/{kind}")]


def test_both_parts_are_whole_and_share_no_key_identity_or_seed(grown: tuple[Run, Run]):
    keys, identities, seeds = [], [], []
    for run in grown:
        assert verify(run, deep=True) == []
        shards = list(Dataset.of(run))
        keys.append({key for shard in shards for key in shard.keys})
        identities.append({identity for shard in shards for identity in shard.identities})
        seeds.append({seed for shard in shards for seed in shard.seeds})
    assert identities == [set(range(6)), set(range(6, 12))]
    assert not keys[0] & keys[1]
    assert not seeds[0] & seeds[1]


def test_the_second_part_draws_what_a_run_of_all_identities_would_have_drawn(grown: tuple[Run, Run], tmp_path: Path):
    whole = open_run(color_config(tmp_path, "packing.num_identities=12", "run.seed=3"))
    both = [read_references(run).vectors_Nd for run in grown]
    put_references(whole.store, np.concatenate(both))
    make_dataset(whole, ColorGenerator(miss_every=3))
    drawn = {key: jpeg for shard in Dataset.of(whole) for key, jpeg in zip(shard.keys, shard.jpegs, strict=True)}
    rows = [row for shard in Dataset.of(grown[1]) for row in zip(shard.keys, shard.jpegs, strict=True)]
    assert len(rows) > 20
    assert all(drawn[key] == jpeg for key, jpeg in rows)


def test_datasets_reads_both_parts_as_one(grown: tuple[Run, Run], tmp_path: Path):
    import datasets

    shards = files(grown, "parquet")
    faces = datasets.load_dataset("parquet", data_files=shards, split="train", cache_dir=str(tmp_path / "cache"))
    assert sorted(set(faces["identity"])) == list(range(12))
    assert len(set(faces["key"])) == len(faces) == sum(run.get_json(INDEX)["images"] for run in grown)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_webdataset_reads_both_parts_as_one(grown: tuple[Run, Run]):
    import webdataset as wds

    rows = list(wds.WebDataset(files(grown, "webdataset"), shardshuffle=False).to_tuple("__key__", "cls"))
    assert sorted({int(label) for _, label in rows}) == list(range(12))
    assert len({key for key, _ in rows}) == len(rows) == sum(run.get_json(INDEX)["images"] for run in grown)


def test_index_and_card_say_which_identities_a_part_holds(grown: tuple[Run, Run]):
    first, second = grown
    cards = [" ".join(run.store.read("dataset/README.md").decode().split()) for run in grown]
    assert [run.get_json(INDEX)["first_identity"] for run in grown] == [0, 6]
    assert "adds the identities 6 to 11 to a dataset that holds the identities below 6" in cards[1]
    assert "below" not in cards[0].partition("## Loading")[0]
    assert second.get_json(INDEX)["rejects"], "rejects are part of what is checked"
    assert all(6 <= int(identity) <= 11 for identity in second.get_json(INDEX)["shortfall"])
    assert not first.get_json(INDEX)["rejects"]


def test_the_report_measures_and_shows_the_identities_of_its_part(grown: tuple[Run, Run]):
    _, second = grown
    index, found = second.get_json(INDEX), second.get_json(SEPARATION)
    assert sampled_identities(second) == list(range(6, 12))
    assert found["images"]["count"] == index["images"]
    assert found["images"]["to_reference"]["mean"] == pytest.approx(index["mean_cosine"], abs=1e-4)
    assert {row["identity"] for row in second.get_json(FACES)["grid"]} <= set(range(6, 12))
    page = second.store.read(REPORT).decode()
    assert "<b>Identity 6</b>" in page
    assert "<b>Identity 5</b>" not in page
    assert "6 to 11" in page


def test_references_numbered_from_elsewhere_are_refused_with_the_numbers(tmp_path: Path):
    run = color_run(tmp_path, "packing.first_identity=6")
    put_references(run.store, references(6))
    with pytest.raises(
        EmbeddingError, match=r"must hold the identities 6 to 11 in order .*first_identity=6.*, 0 to 5;"
    ):
        read_references(run)
    gap = Embeddings([6, 7, 8, 9, 10, 12], references(6))
    run.store.put("packing/references.parquet", to_parquet("identity", gap))
    with pytest.raises(EmbeddingError, match=r"it has 6 rows, 6 to 12; run the pack job again"):
        read_references(run)
