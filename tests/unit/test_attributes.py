"""Spread of attributes and separation within groups: counted by hand, read from tables and from a model."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from audited_run import FACES, audited_run, auditor, put_faces
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from hyperface.audit import attributes
from hyperface.audit.attributes import Attributes, Centred, Column, read_labels, spread
from hyperface.audit.auditor import audit_here
from hyperface.audit.summary import lines
from hyperface.audit.traits import by_toy
from hyperface.config import StorageConfig
from hyperface.dataset import jpeg
from hyperface.dataset.classes import Classes, classes
from hyperface.errors import ConfigError, ModelError
from hyperface.models.attribute_model import AttributeModel
from hyperface.models.toy import renderer
from hyperface.models.toy.recognizer import load_recognizer


def six() -> Classes:
    """Identities 3 to 8 with two images each; 5 has one, 8 has none."""
    return classes(3, 6, 2, [(5, 1), (8, 0), (8, 1)])


def table(folder: Path, text: str) -> str:
    path = folder / "labels.csv"
    path.write_text(text)
    return str(path)


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def mean_colours(path: Path) -> tuple[str, str]:
    """A model of 16 x 16 pictures to the means of red, green and blue, in [-1, 1]; (path, SHA-256)."""
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["faces"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["means"], axis=1),
        ],
        "colours",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["N", 3, 16, 16])],
        [helper.make_tensor_value_info("means", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return str(path), hashlib.sha256(path.read_bytes()).hexdigest()


def test_numbers_and_texts_are_told_apart_and_gaps_are_left_out(tmp_path: Path) -> None:
    found = read_labels(
        table(tmp_path, "age,identity,sex\n30,3,f\n,4,f\n50,5,m\n40,7,\n9,99,m\n"), StorageConfig(), six()
    )
    record = spread(found, {})
    age, sex = record["columns"]["age"]["dataset"], record["columns"]["sex"]["dataset"]
    assert (age["count"], age["mean"], age["range"]) == (3, 40, [30, 50])
    assert sum(age["histogram"]) == 3
    assert (sex["count"], sex["counts"]) == (3, {"f": 2, "m": 1})
    assert sex["evenness"] == pytest.approx(-(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3)) / np.log(2))
    assert found.notes == [
        f"attributes: {tmp_path}/labels.csv has 4 of 5 identities",
        f"attributes: 1 rows of {tmp_path}/labels.csv name no identity of this dataset",
    ]


def test_labels_may_name_images(tmp_path: Path) -> None:
    text = "key,glasses\n0000003-0000,yes\n0000003-0001,no\n0000005-0000,no\n0000005-0001,no\n0000009-0000,no\n"
    found = read_labels(table(tmp_path, text), StorageConfig(), six())
    assert found.unit == "image"
    assert found.columns[0].values == ["yes", "no", "no"]
    assert found.columns[0].identities.tolist() == [3, 3, 5]
    assert found.notes == [
        f"attributes: {tmp_path}/labels.csv has 3 of 9 images",
        f"attributes: 2 rows of {tmp_path}/labels.csv name no key of this dataset",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must begin with a header"),
        ("name,age\na,3\n", "must begin with a header"),
        ("identity,key,age\n3,0000003-0000,3\n", "must begin with a header"),
        ("identity,age,age\n3,4,5\n", "must begin with a header"),
        ("identity,age\n3\n", "line 2: must have 2 values"),
        ("identity,age\n3,4,5\n", "line 2: must have 2 values"),
        ("identity,age\n3,1\nx,2\n", "line 3: identity must look like 12; it is 'x'"),
        ("key,age\n3-1,1\n", "line 2: key must look like 0000012-0003"),
        ("identity,age\n3,1\n3,2\n", "line 3: identity 3 is there twice"),
        ("identity,age\n8,1\n", "names no identity of this dataset"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=r"audit\.labels: .*labels\.csv") as caught:
        read_labels(table(tmp_path, text), StorageConfig(), six())
    assert words in str(caught.value)


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no file; correct the path"):
        read_labels(str(tmp_path / "none.csv"), StorageConfig(), six())


def test_a_narrow_and_shifted_dataset_shows_beside_the_gallery() -> None:
    random = np.random.default_rng(0)
    wide, narrow = random.normal(0, 1, 4000), random.normal(0.5, 0.25, 4000)
    column = Column("age", narrow, np.arange(4000))
    found = spread(Attributes("test", "identity", [column], {"age": wide}, []), {})["columns"]["age"]
    assert found["std_ratio"] == pytest.approx(0.25, abs=0.02)
    assert found["mean_shift"] == pytest.approx(0.5, abs=0.03)
    assert found["dataset"]["range"] == found["gallery"]["range"]
    assert sum(found["gallery"]["histogram"]) == 4000


def test_a_group_that_is_crowded_shows_beside_all() -> None:
    random = np.random.default_rng(1)
    apart, crowded = random.standard_normal((60, 64)), 4 + random.standard_normal((20, 64))
    centred = Centred(np.arange(100, 180), unit(np.concatenate([apart, crowded])), threshold=0.6)
    labels = Column("place", ["open"] * 60 + ["crowd"] * 19 + [""], np.arange(100, 180))
    found = spread(Attributes("test", "identity", [labels], {}, []), {"judge": centred})["groups"]["place"]["judge"]
    assert found["all"]["identities"] == 80
    assert found["groups"]["open"]["identities"] == 60
    assert found["groups"]["open"]["near_another"] == 0
    assert found["groups"]["crowd"]["pairs"]["count"] == 19 * 18 // 2
    assert found["groups"]["crowd"]["near_another"] == 1
    assert found["groups"]["crowd"]["pairs"]["mean"] > 0.8 > found["all"]["pairs"]["mean"]


def test_all_identities_are_compared_once_however_many_attributes_group_them() -> None:
    identities, random = np.arange(12), np.random.default_rng(2)
    centred = Centred(identities, unit(random.standard_normal((12, 8))), threshold=0.5)
    columns = [Column(name, list(values), identities) for name, values in (("sex", "fm" * 6), ("hair", "abc" * 4))]
    found = spread(Attributes("test", "identity", columns, {}, []), {"recognizer": centred, "judge": centred})["groups"]
    for network in ("recognizer", "judge"):
        assert found["sex"][network]["all"] is found["hair"][network]["all"]
    assert found["sex"]["judge"]["all"]["pairs"]["count"] == 66


def test_numbers_are_grouped_by_thirds_of_the_means_of_identities() -> None:
    values, identities = np.array([0, 2, 10, 12, 20, 22, np.nan]), np.array([1, 1, 2, 2, 3, 3, 4])
    groups = attributes._grouped(Column("age", values, identities))
    assert {name: members.tolist() for name, members in groups.items()} == {"low": [1], "middle": [2], "high": [3]}


def test_an_identity_of_two_labels_is_in_no_group() -> None:
    groups = attributes._grouped(Column("glasses", ["yes", "no", "no"], np.array([1, 1, 2])))
    assert {name: members.tolist() for name, members in groups.items()} == {"no": [2]}


def test_the_toy_reader_knows_the_traits_that_were_drawn() -> None:
    traits = renderer.sample_identities(32, seed=987_654)
    recognizer = load_recognizer()
    views = [
        recognizer.embed(renderer.render(traits, renderer.sample_nuisance(range(v * 32, v * 32 + 32), 0.5), range(32)))
        for v in range(3)
    ]
    found = by_toy(np.arange(32), unit(np.sum(views, axis=0)), None)
    assert [column.name for column in found.columns] == list(renderer.IDENTITY_TRAITS)
    skin = next(column for column in found.columns if column.name == "skin_light")
    assert np.corrcoef(skin.values, traits[:, renderer.IDENTITY_TRAITS.index("skin_light")])[0, 1] > 0.9


def test_a_model_of_attributes_reads_images_and_the_gallery(tmp_path: Path) -> None:
    put_faces(tmp_path / "faces")
    path, sha256 = mean_colours(tmp_path / "colours.onnx")
    run = audited_run(tmp_path / "run", tmp_path / "faces")
    config = replace(run.config.audit, attribute_names=["red", "green", "blue"], attributes="onnx")
    run = replace(run, config=replace(run.config, audit=config))
    looking = replace(auditor(run), attribute_model=AttributeModel(path, sha256, config.attribute_names))
    record = audit_here(looking)
    drawn = np.stack([jpeg.decode(data) for shard in range(4) for data in looking.source.read(shard).jpegs])
    real = np.stack([np.asarray(Image.open(path)) for path in (tmp_path / "faces").iterdir()])
    for channel, name in enumerate(config.attribute_names):
        column = record["attributes"]["columns"][name]
        assert (column["dataset"]["count"], column["gallery"]["count"]) == (30, FACES)
        for images, found in ((drawn, column["dataset"]), (real, column["gallery"])):
            means = images[..., channel].mean((1, 2)) / 127.5 - 1
            assert (found["mean"], found["std"]) == pytest.approx((means.mean(), means.std()), abs=1e-4)
    assert set(record["attributes"]["groups"]) == {"red", "green", "blue"}
    assert "3 attributes by a model of attributes" in " ".join(lines(record))


def test_a_model_with_another_number_of_numbers_is_refused(tmp_path: Path) -> None:
    path, sha256 = mean_colours(tmp_path / "colours.onnx")
    with pytest.raises(ModelError, match=r"it is \[1, 3\], and audit\.attribute_names has 2 names \(age, yaw\)"):
        AttributeModel(path, sha256, ["age", "yaw"])
    with pytest.raises(ModelError, match=r"set audit\.attribute_sha256"):
        AttributeModel(path, "0" * 64, ["red", "green", "blue"])


def test_labels_of_a_run_are_part_of_what_was_asked(tmp_path: Path) -> None:
    put_faces(tmp_path / "faces")
    run = audited_run(tmp_path / "run", tmp_path / "faces")
    path = table(tmp_path, "identity,sex\n" + "".join(f"{i},{'fm'[i % 2]}\n" for i in range(6)))
    run = replace(run, config=replace(run.config, audit=replace(run.config.audit, attributes="labels", labels=path)))
    first = audit_here(auditor(run))
    assert first["attributes"]["columns"]["sex"]["dataset"]["evenness"] == pytest.approx(1)
    assert set(first["attributes"]["groups"]["sex"]) == {"recognizer", "judge"}
    table(tmp_path, "identity,sex\n" + "".join(f"{i},f\n" for i in range(6)))
    assert audit_here(auditor(run))["attributes"]["columns"]["sex"]["dataset"]["evenness"] == 0


def test_without_a_reader_the_audit_says_so(tmp_path: Path) -> None:
    put_faces(tmp_path / "faces", 5)
    record = audit_here(auditor(audited_run(tmp_path / "run", tmp_path / "faces")))
    assert record["attributes"] is None
    assert any(note.startswith("attributes: nobody knows any") for note in record["not_measured"])
