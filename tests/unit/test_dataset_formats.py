"""Shards as the world reads them, and as this product refuses them when they are damaged."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from color_world import DIM, SIZE, ColorGenerator, ColorRecognizer, color_run, make_dataset, references

from hyperface.config import load
from hyperface.dataset import Dataset, Sample, ShardImages, card, jpeg, parquet, verify, webdataset
from hyperface.dataset.schema import arrow_schema
from hyperface.run import Run


def sample(identity: int, image: int) -> Sample:
    drawn = ColorGenerator().generate(references(3)[[identity]], [image])
    data = jpeg.encode(drawn[0], 95)
    embedding = ColorRecognizer().embed(jpeg.decode(data)[None])[0]
    key = f"{identity:07d}-{image:04d}"
    return Sample(key, identity, image, data, 2**63 - 1 - image, image, 0.987654, embedding)


SAMPLES = [sample(2, 0), sample(0, 1), sample(1, 0)]
READERS = {
    "shard-000000.parquet": (parquet.to_bytes(SAMPLES, DIM), parquet.from_bytes),
    "shard-000000.tar": (webdataset.to_bytes(SAMPLES), webdataset.from_bytes),
}
BOTH = pytest.mark.parametrize("name", READERS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = color_run(tmp_path_factory.mktemp("finished") / "run")
    make_dataset(run)
    return run


@BOTH
def test_a_shard_is_read_back_as_it_was_written(name: str):
    data, from_bytes = READERS[name]
    assert from_bytes(data, name) == ShardImages(
        keys=["0000002-0000", "0000000-0001", "0000001-0000"],
        identities=[2, 0, 1],
        image_indices=[0, 1, 0],
        jpegs=[s.jpeg for s in SAMPLES],
        seeds=[2**63 - 1, 2**63 - 2, 2**63 - 1],
        cosines=[0.987654] * 3,
    )


def test_equal_samples_give_equal_bytes():
    assert parquet.to_bytes(SAMPLES, DIM) == READERS["shard-000000.parquet"][0]
    assert webdataset.to_bytes(SAMPLES) == READERS["shard-000000.tar"][0]


def test_a_shard_of_rejects_only_is_empty_and_readable():
    assert parquet.from_bytes(parquet.to_bytes([], DIM), "empty").keys == []
    assert webdataset.from_bytes(webdataset.to_bytes([]), "empty").keys == []


@BOTH
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_shard_is_refused_by_name(name: str, share: float):
    data, from_bytes = READERS[name]
    with pytest.raises(ValueError, match=f"{name}: .*whole|{name}: .*truncated"):
        from_bytes(data[: int(len(data) * share)], name)


@BOTH
@pytest.mark.parametrize("garbage", [b"\0", b"x" * 512, b"\0" * 10240])
def test_trailing_bytes_are_refused(name: str, garbage: bytes):
    data, from_bytes = READERS[name]
    with pytest.raises(ValueError, match=name):
        from_bytes(data + garbage, name)


@BOTH
def test_a_foreign_file_is_refused(name: str):
    with pytest.raises(ValueError, match=name):
        READERS[name][1](b"GIF89a" + b"hello" * 999, name)


def test_a_parquet_file_with_other_columns_or_missing_values_is_refused():
    table = pq.read_table(io.BytesIO(READERS["shard-000000.parquet"][0]))
    for damaged, rule in (
        (table.drop_columns(["seed"]), "columns of a shard"),
        (table.replace_schema_metadata(None), "columns of a shard"),
        (table.set_column(0, "key", pa.array(["a", None, "b"])), "missing values"),
        (table.set_column(0, "key", pa.array(["a", "b", "c"])), "path a.jpg"),
    ):
        sink = io.BytesIO()
        pq.write_table(damaged, sink)
        with pytest.raises(ValueError, match=f"odd.parquet: .*{rule}"):
            parquet.from_bytes(sink.getvalue(), "odd.parquet")


@pytest.mark.parametrize("text", [b"0000000-0001.jpg", b"image_index"])
def test_a_parquet_file_with_texts_that_are_no_utf8_is_refused_by_name(text: bytes):
    data = READERS["shard-000000.parquet"][0].replace(text, b"\xff" + text[1:])
    with pytest.raises(ValueError, match=r"^odd\.parquet: is not a whole Parquet file \([^\n]*utf-8"):
        parquet.from_bytes(data, "odd.parquet")


def rebuilt(change: dict[str, tuple[str, bytes] | None]) -> bytes:
    """The tar of SAMPLES with members replaced or left out, otherwise written as the product writes it."""
    members = []
    with tarfile.open(fileobj=io.BytesIO(READERS["shard-000000.tar"][0])) as archive:
        for info in archive:
            file = archive.extractfile(info)
            assert file is not None
            members.append(change.get(info.name, (info.name, file.read())))
    return webdataset._tar(member for member in members if member)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"0000000-0001.cls": None}, "jpg, cls and json"),
        ({"0000000-0001.cls": ("0000000-0001.cls", b"5")}, "one identity"),
        ({"0000000-0001.cls": ("0000000-0001.cls", b"five")}, "cannot be read"),
        ({"0000000-0001.json": ("0000000-0001.json", b"{}")}, "fields"),
        ({"0000000-0001.json": ("0000000-0001.json", b"{")}, "cannot be read"),
        ({"0000000-0001.json": ("other.json", b"{}")}, "in this order"),
    ],
)
def test_a_tar_with_wrong_members_is_refused(change: dict[str, tuple[str, bytes] | None], rule: str):
    with pytest.raises(ValueError, match=f"odd.tar: .*{rule}"):
        webdataset.from_bytes(rebuilt(change), "odd.tar")


def test_a_tar_of_another_time_or_owner_is_refused():
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for s in SAMPLES:
            for suffix, data in webdataset._members(s):
                info = tarfile.TarInfo(f"{s.key}.{suffix}")
                info.size, info.mtime = len(data), 1_700_000_000
                archive.addfile(info, io.BytesIO(data))
    with pytest.raises(ValueError, match="not a tar file of this product"):
        webdataset.from_bytes(sink.getvalue(), "odd.tar")


def test_the_arrow_schema_is_pinned():
    assert [f"{field.name}: {field.type}" for field in arrow_schema(4)] == [
        "key: string",
        "identity: int64",
        "image_index: int32",
        "image: struct<bytes: binary, path: string>",
        "seed: int64",
        "cosine: float",
        "embedding: fixed_size_list<item: float>[4]",
    ]


def test_an_image_that_is_cut_or_has_bytes_after_its_end_is_refused():
    data = SAMPLES[0].jpeg
    for damaged in (b"", data[:-20], data[: len(data) // 2], data + b"x", b"\x89PNG" + data):
        with pytest.raises(ValueError, match="JPEG"):
            jpeg.decode(damaged)


def test_datasets_reads_the_parquet_form_as_images(finished: Run, tmp_path: Path):
    import datasets

    faces = datasets.load_dataset(finished.store.uri("dataset"), split="train", cache_dir=str(tmp_path / "cache"))
    assert isinstance(faces.features["image"], datasets.Image)
    assert faces.features["embedding"].length == DIM
    shards = list(Dataset.of(finished))
    assert faces["key"][:] == [key for shard in shards for key in shard.keys]
    row = faces[3]
    assert row["image"].size == (SIZE, SIZE)
    assert (np.asarray(row["image"]) == jpeg.decode(shards[0].jpegs[3])).all()
    assert (row["identity"], row["image_index"]) == (shards[0].identities[3], shards[0].image_indices[3])
    embedded = ColorRecognizer().embed(np.asarray(row["image"])[None])[0]
    assert row["embedding"] == pytest.approx(embedded, abs=1e-6)


def test_datasets_reads_the_tar_form_through_the_data_card(tmp_path: Path):
    import datasets

    run = color_run(tmp_path / "run", "dataset.format=webdataset")
    make_dataset(run)
    faces = datasets.load_dataset(run.store.uri("dataset"), split="train", cache_dir=str(tmp_path / "cache"))
    shards = list(Dataset.of(run))
    assert faces["cls"][:] == [identity for shard in shards for identity in shard.identities]
    assert faces[0]["jpg"].size == (SIZE, SIZE)
    assert 'faces[0]["jpg"], faces[0]["cls"]' in run.store.read("dataset/README.md").decode()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_webdataset_reads_the_tar_form(finished: Run):
    import webdataset as wds

    urls = [finished.store.uri(name) for name in finished.store.list("dataset/webdataset")]
    rows = list(wds.WebDataset(urls, shardshuffle=False).decode("pil").to_tuple("__key__", "jpg", "cls", "json"))
    shards = list(Dataset.of(finished))
    assert [row[0] for row in rows] == [key for shard in shards for key in shard.keys]
    assert [row[2] for row in rows] == [identity for shard in shards for identity in shard.identities]
    _, image, label, described = rows[0]
    assert image.size == (SIZE, SIZE)
    assert described["identity"] == label
    assert described["seed"] == shards[0].seeds[0]
    assert described["cosine"] == shards[0].cosines[0]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")
def test_wids_reads_the_tar_form_by_number_through_its_index(finished: Run, tmp_path: Path):
    import wids

    faces = wids.ShardListDataset(finished.store.uri("dataset/wids.json"), cache_dir=str(tmp_path), keep=True)
    shards = list(Dataset.of(finished))
    keys = [key for shard in shards for key in shard.keys]
    assert len(faces) == len(keys)
    for number in (len(keys) - 1, 0, 9):
        row = faces[number]
        assert row["__key__"] == keys[number]
        assert row[".cls"] == int(keys[number][:7])
        assert row[".jpg"].size == (SIZE, SIZE)


def test_a_dataset_without_the_tar_form_has_no_index_for_wids(tmp_path: Path):
    run = color_run(tmp_path / "run", "dataset.format=parquet")
    make_dataset(run)
    assert not run.store.exists("dataset/wids.json")
    assert verify(run, deep=True) == []


def test_the_data_card_says_how_many_images_there_are_and_how_to_load_them(finished: Run):
    card = finished.store.read("dataset/README.md").decode()
    assert card.startswith("---\npretty_name:")
    assert "# Synthetic faces: 6 identities, 30 images" in card
    assert 'load_dataset("PATH/TO/dataset", split="train")' in card
    assert 'faces[0]["image"], faces[0]["identity"]' in card
    assert "shard-{000000..000003}.tar" in card


@pytest.mark.parametrize(("source", "promised"), [("toy", True), ("/some/photographs", False)])
def test_a_card_promises_nothing_of_faces_that_somebody_supplied(source: str, promised: bool):
    config = load(None, ["run.dir=x", f"embed.source={source}"])
    said = card.purpose(config) + card.limits(config)
    assert ("do not exist" in said, "by construction; nothing" in said, "may resemble" in said) == (
        promised,
        promised,
        not promised,
    )
