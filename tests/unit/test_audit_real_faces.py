"""The real faces that an audit looks at: who is who among them, and where their pictures are."""

import io
import shutil
import tarfile
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from audited_run import audited_run, auditor, put_faces, with_audit
from color_world import color_config
from numpy.typing import NDArray
from PIL import Image

from hyperface.audit import real_table
from hyperface.audit.auditor import audit_here
from hyperface.audit.real_faces import Faces, embed_chunk, rows_by
from hyperface.audit.summary import lines
from hyperface.faces import source
from hyperface.faces.embeddings import Embeddings
from hyperface.run.names import GALLERY
from hyperface.storage import open_store


def test_too_few_strangers_measure_no_false_accept_rate(tmp_path: Path) -> None:
    put_faces(tmp_path / "faces", 20)
    record = audit_here(auditor(audited_run(tmp_path / "run", tmp_path / "faces")))
    leak = record["leakage"]["gallery"]["judge"]
    assert leak["threshold"]["cosine"] is None
    assert leak["threshold"]["reason"] == "not measurable (190 impostors)"
    for key in ("pairs_over", "pairs_expected", "images_over", "share_over", "identities_over"):
        assert leak["images"][key] is None
    assert leak["control"]["found"] is None
    assert leak["control"]["kinds"]["shifted"]["right"] == 1
    assert record["networks"]["judge"]["at_calibrated"] is None
    note = "leakage of gallery over a threshold by the judge: not measurable (190 impostors)"
    assert note in record["not_measured"]


def test_faces_of_one_folder_are_one_person(tmp_path: Path) -> None:
    put_faces(tmp_path / "faces", 60, per_person=3)
    run = audited_run(tmp_path / "run", tmp_path / "faces")
    leak = audit_here(auditor(with_audit(run, false_accept_rate=1e-3)))["leakage"]["gallery"]["recognizer"]
    assert (leak["faces"], leak["people"]) == (60, 20)
    assert leak["real"]["genuine"]["count"] == 20 * 3
    assert leak["threshold"]["impostors"] == 60 * 59 // 2 - 60
    assert leak["real_centres"]["nearest"]["count"] == 30
    each = audit_here(auditor(with_audit(run, classes="each")))["leakage"]["gallery"]["recognizer"]
    assert (each["people"], each["real"]["genuine"], each["real_centres"]) == (60, None, None)


def test_people_are_folders_inside_an_archive_and_numbers_of_identities() -> None:
    keys = ["a/1.jpg", "a/2.jpg", "b/1.jpg", "lone.jpg", "other.jpg", "s0.tar/a/3.jpg", "s1.tar/9.jpg", "s1.tar/8.jpg"]
    assert real_table.people(keys, "folder").tolist() == [0, 0, 1, 2, 3, 0, 4, 5]
    assert real_table.people(keys, "each").tolist() == list(range(8))
    assert real_table.people([7, 7, 3], "folder").tolist() == [0, 0, 1]


def test_an_archive_is_no_person_however_its_name_ends() -> None:
    keys = [f"{shard}/{face}.jpg" for shard in ("a.tgz", "b.TAR", "c.tar.gz", "d.Parquet") for face in (1, 2)]
    assert real_table.people(keys, "folder").tolist() == list(range(8))
    assert real_table.people(["a.tar.gz/ada/1.jpg", "b.TGZ/ada/2.jpg", "eve/1.jpg"], "folder").tolist() == [0, 0, 1]


def test_rows_keep_their_names_when_they_are_put_in_the_order_of_their_people() -> None:
    keys = ["b/1.jpg", "a/1.jpg", "b/2.jpg", "a/2.jpg"]
    rows = np.eye(4, dtype=np.float32)
    table = real_table.real_table("t", keys, {"recognizer": rows}, "folder")
    assert table.people_G.tolist() == [0, 0, 1, 1]
    assert table.keys == ["b/1.jpg", "b/2.jpg", "a/1.jpg", "a/2.jpg"]
    assert table.rows["recognizer"].argmax(axis=1).tolist() == [0, 2, 1, 3]


def test_a_bare_table_has_the_people_that_its_keys_name(tmp_path: Path) -> None:
    put_faces(tmp_path / "faces", 60, per_person=3)
    run = audited_run(tmp_path / "run", tmp_path / "faces")
    path = str(tmp_path / "bare.parquet")
    Path(path).write_bytes(run.store.read(GALLERY))
    leaks = audit_here(auditor(with_audit(run, false_accept_rate=1e-3, against=[path])))["leakage"]
    as_run, bare = leaks["gallery"]["recognizer"], leaks[path]["recognizer"]
    assert bare["people"] == as_run["people"] == 20
    assert bare["threshold"]["cosine"] == as_run["threshold"]["cosine"]
    assert bare["top"] == as_run["top"]


def test_an_archive_is_embedded_without_holding_its_pictures(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    rng, colours = np.random.default_rng(0), dict[str, NDArray[np.uint8]]()
    with tarfile.open(tmp_path / "shards/a.tar", "w") as archive:
        for i in range(400):
            wrong, colour = i % 10 == 5, rng.integers(0, 256, 3)
            image = np.full((320, 320, 3) if wrong else (64, 64, 3), colour, np.uint8)
            if i == 9:
                put_picture(archive, "9.png", image[:32])  # of two with one name it has the one that can be used
            put_picture(archive, f"{i}.png", image)
            if i == 7:
                put_picture(archive, "7.png", 255 - image)  # of two with one name the gallery has the first
            if not wrong:
                colours[f"a.tar/{i}.png"] = image[0, 0]
    config = color_config(tmp_path / "run", f"embed.source={tmp_path / 'shards'}")
    chunks = tuple(source.plan_chunks(config.embed, config.storage))
    names = [f"a.tar/{i}.png" for i in range(400)]
    faces = Faces("t", Embeddings(list(names), np.zeros((400, 3), np.float32)), config, chunks, "", "ab" * 32)
    store = open_store(str(tmp_path / "run"))
    tracemalloc.start()
    try:
        assert embed_chunk(faces, 0, [MeanColour()], store) == 360
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4.5e6, "all its pictures take 5 MB, and those of another size 12 MB"
    rows = rows_by(faces, MeanColour(), store)
    for name, row in zip(names, rows, strict=True):
        assert np.array_equal(row, colours[name]) if name in colours else np.isnan(row).all()


def put_picture(archive: tarfile.TarFile, name: str, image: NDArray[np.uint8]) -> None:
    sink = io.BytesIO()
    Image.fromarray(image).save(sink, "PNG")
    member = tarfile.TarInfo(name)
    member.size = len(sink.getvalue())
    archive.addfile(member, io.BytesIO(sink.getvalue()))


@dataclass(frozen=True)
class MeanColour:
    embedding_dim: int = 3
    image_size: int = 64
    fingerprint: str = "6c" * 32

    def embed(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        return images_BHWC.mean((1, 2), dtype=np.float32)


def test_a_table_whose_faces_all_count_as_people_is_noted_and_one_of_folders_is_not(tmp_path: Path) -> None:
    put_faces(tmp_path / "flat", 60)
    put_faces(tmp_path / "folders", 60, per_person=3)
    told = "each of its 60 faces counts as a person of its own; if it holds several pictures of a person, the threshold"
    for name, noted in (("flat", True), ("folders", False)):
        run = audited_run(tmp_path / f"run-{name}", tmp_path / name)
        record = audit_here(auditor(with_audit(run, false_accept_rate=1e-3)))
        assert record["notes"] == ([f"gallery: {told} is too high (audit.classes)"] if noted else [])
        assert sum(line.startswith("  note: ") for line in lines(record)) == noted


def test_folders_that_are_no_people_are_noted(tmp_path: Path) -> None:
    for i, path in enumerate(put_faces(tmp_path / "flat", 60)):  # as FFHQ lies on disk: so many strangers in a folder
        (tmp_path / f"faces/{i // 10}").mkdir(parents=True, exist_ok=True)
        path.rename(tmp_path / f"faces/{i // 10}/{path.name}")
    run = audited_run(tmp_path / "run", tmp_path / "faces")
    notes = audit_here(auditor(with_audit(run, false_accept_rate=1e-3)))["notes"]
    assert len(notes) == 2
    for note, name in zip(notes, ("recognizer", "judge"), strict=True):
        assert note.startswith(f"gallery by the {name}: ")
        assert "% of the pairs of faces of one person are below the threshold: its folders seem to be no" in note


def test_a_gallery_whose_pictures_are_gone_is_still_compared(tmp_path: Path) -> None:
    put_faces(tmp_path / "faces")
    run = audited_run(tmp_path / "run", tmp_path / "faces")
    shutil.rmtree(tmp_path / "faces")
    record = audit_here(auditor(run))
    assert list(record["leakage"]["gallery"]) == ["recognizer"]
    assert any("positive control of gallery" in n and "pictures are not there" in n for n in record["not_measured"])


def test_pictures_that_come_back_are_measured(tmp_path: Path) -> None:
    put_faces(tmp_path / "faces")
    run = audited_run(tmp_path / "run", tmp_path / "faces")
    (tmp_path / "faces").rename(tmp_path / "away")
    assert list(audit_here(auditor(run))["leakage"]["gallery"]) == ["recognizer"]
    (tmp_path / "away").rename(tmp_path / "faces")
    record = audit_here(auditor(run))
    assert list(record["leakage"]["gallery"]) == ["recognizer", "judge"]
    assert not any("pictures are not there" in note for note in record["not_measured"])


def test_faces_that_the_judge_has_no_embedding_for_are_counted(tmp_path: Path) -> None:
    paths = put_faces(tmp_path / "faces", 40)
    run = audited_run(tmp_path / "run", tmp_path / "faces")
    for path in paths[5:12]:
        path.unlink()
    record = audit_here(auditor(run))
    assert "7 of 40 faces of gallery have no embedding by the judge" in record["not_measured"]
    leaks = record["leakage"]["gallery"]
    assert [leaks[name]["without_embedding"] for name in ("recognizer", "judge")] == [0, 7]
    assert (leaks["judge"]["faces"], leaks["judge"]["people"]) == (33, 33)
