"""The audit without Ray: what it finds, that it would find a copy, what it cannot measure and what it refuses."""

import base64
import io
import re
import shutil
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audited_run import FACES, CopyingGenerator, audited_run, auditor, put_faces, with_audit
from color_world import ColorRecognizer, references
from finished_run import ColorJudge
from numpy.typing import NDArray
from PIL import Image

from hyperface.audit import separation
from hyperface.audit.auditor import audit_here
from hyperface.audit.machine import Machine
from hyperface.audit.summary import lines
from hyperface.errors import ConfigError, EmbeddingError, RunError
from hyperface.faces.embeddings import Embeddings, to_parquet
from hyperface.run import Run, existing_run
from hyperface.run.names import AUDIT, AUDIT_FACES, GALLERY, INDEX
from hyperface.run.provenance import provenance

IDENTITIES, IMAGES = 6, 30


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    put_faces(folder)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, faces: Path) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    audited_run(folder, faces)
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Run:
    shutil.copytree(whole, tmp_path / "run")
    return existing_run(str(tmp_path / "run"))


@dataclass(frozen=True)
class CountingRecognizer(ColorRecognizer):
    """Counts the pictures it is shown, and has no embedding for some."""

    shown: tuple[list[int], ...] = ([],)
    blind_to: int = 0
    """One picture in so many has no embedding; 0: none."""

    def embed(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        rows = super().embed(images_BHWC)
        if self.blind_to:
            rows[images_BHWC.sum((1, 2, 3)) % self.blind_to == 0] = np.nan
        self.shown[0].append(len(images_BHWC))
        return rows


def test_every_image_and_pair_is_measured_by_both_networks(run: Run) -> None:
    record = audit_here(auditor(run))
    for name, network in (("recognizer", ColorRecognizer()), ("judge", ColorJudge())):
        found = record["networks"][name]
        assert (found["images"], found["identities"]) == (IMAGES, IDENTITIES)
        assert found["intra"]["count"] == IDENTITIES * 10
        assert found["inter"]["count"] == IMAGES * (IMAGES - 1) // 2 - IDENTITIES * 10
        assert found["fingerprint"] == network.fingerprint
        assert found["equal_error"]["rate"] == 0
        assert found["at_calibrated"]["effective_identities"] <= IDENTITIES
        leak = record["leakage"]["gallery"][name]
        assert leak["images"]["pairs"]["count"] == IMAGES * FACES
        assert leak["threshold"]["impostors"] == FACES * (FACES - 1) // 2
        assert leak["real"]["nearest_other"]["count"] == FACES
    assert record["references"]["pairs"]["count"] == IDENTITIES * (IDENTITIES - 1) // 2
    assert run.get_json(AUDIT) == record
    assert sum(line.startswith("audit: ") for line in lines(record)) == 6


def test_the_last_lines_say_in_words_what_the_numbers_mean(run: Run) -> None:
    record = audit_here(auditor(run))
    network, leak = record["networks"]["judge"], record["leakage"]["gallery"]["judge"]
    strangers = leak["real"]["nearest_other"]["most"]

    def told(most: float, over: int) -> str:
        leak["as_near"], leak["images"]["nearest"]["most"] = None, most
        leak["images"] |= {"pairs_over": over, "share_over": over / IMAGES}
        return lines(record)[-1].removeprefix("audit: in words: near gallery, by the independent judge, ")

    assert told(strangers - 0.1, 0).startswith("none of this is more than strangers give; it is no proof")
    assert told(strangers + 0.1, 0).startswith("some of this is more than strangers give: look")
    assert told(strangers + 0.1, IMAGES).startswith("all of this is more than strangers give: look")
    leak["threshold"]["cosine"] = None
    assert told(strangers - 0.1, IMAGES) == "nobody can say without a threshold"
    apart = rf"by the independent judge, of {IDENTITIES} identities as many as \d can be told apart"
    assert re.fullmatch(f"audit: in words: {apart}", lines(record)[-2])
    network |= {"at_calibrated": None, "at_equal_error": None}
    assert "whether identities can be told apart is not known" in lines(record)[-2]
    del record["networks"]["judge"]
    assert lines(record)[-2].endswith("and nobody independent looked")
    record["leakage"] = {"\x1b[2Jtable": record["leakage"]["gallery"]}
    assert all(line.isprintable() for line in lines(record))


def test_the_audit_says_what_the_report_says_of_the_same_images(run: Run) -> None:
    record = audit_here(auditor(run))["networks"]["judge"]
    source = auditor(run).source
    rows = [(key, data) for shard in range(4) for key, data in zip(*_images(source, shard), strict=True)]
    rows.sort()
    embedded = ColorJudge().embed(np.stack([np.asarray(Image.open(io.BytesIO(data))) for _, data in rows]))
    found = separation.of_images(embedded, np.array([int(key[:7]) for key, _ in rows]))
    assert found.inter is not None
    assert found.to_centre is not None
    assert record["inter"]["histogram"] == found.inter.histogram
    assert record["to_centre"]["mean"] == pytest.approx(found.to_centre.mean, abs=1e-6)
    assert record["equal_error"]["cosine"] == found.threshold


def _images(source: Any, shard: int) -> tuple[list[str], list[bytes]]:
    images = source.read(shard)
    return images.keys, images.jpegs


def test_a_copied_picture_is_the_top_pair_and_is_shown_beside_its_original(tmp_path: Path, faces: Path) -> None:
    path = sorted(faces.iterdir())[77]
    copied = np.asarray(Image.open(path))
    generator = CopyingGenerator(copied_HWC=copied, for_d=references(IDENTITIES)[2])
    # Without the gate: it would refuse a copy that is far from its reference.
    run = audited_run(tmp_path / "run", faces, "synthesis.min_cosine=-1", generator=generator)
    record = audit_here(auditor(run))
    for name in ("recognizer", "judge"):
        leak = record["leakage"]["gallery"][name]
        top = leak["top"][0]
        assert (top["identity"], top["real"]) == (2, path.name)
        assert top["cosine"] > 0.98
        assert leak["images"]["images_over"] >= 5
        assert leak["images"]["identities_over"] >= 1
        assert len({pair["identity"] for pair in leak["top"]}) == len(leak["top"]) == IDENTITIES
        synthetic, real = run.get_json(AUDIT_FACES)["leakage"]["gallery"][name][0]["images"]
        shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(i["jpeg"]))), int) for i in (synthetic, real)]
        assert (synthetic["key"], real["key"]) == (top["synthetic"], path.name)
        assert np.abs(shown[0] - copied).mean() < 3
        assert np.abs(shown[1] - copied).mean() < 3


def test_an_honest_generator_has_no_more_alike_pairs_than_strangers_have(run: Run) -> None:
    leak = audit_here(auditor(run))["leakage"]["gallery"]["recognizer"]
    assert leak["images"]["nearest"]["most"] < 0.98
    assert leak["images"]["pairs_over"] <= 10 * max(1, leak["images"]["pairs_expected"])


def test_planted_copies_are_found_and_those_that_are_not_are_counted(run: Run) -> None:
    control = audit_here(auditor(with_audit(run, controls=20)))["leakage"]["gallery"]["recognizer"]["control"]
    assert (control["faces"], control["copies"]) == (20, 40)
    assert control["kinds"]["shifted"]["found"] == control["kinds"]["shifted"]["right"] == 1
    # A mirrored picture of this world spells another embedding: its recogniser cannot find it, and the audit says so.
    assert control["kinds"]["mirrored"]["right"] < 0.5
    assert control["found"] == pytest.approx((1 + control["kinds"]["mirrored"]["found"]) / 2)


def test_equal_inputs_are_audited_once_and_other_settings_again(run: Run) -> None:
    looking = CountingRecognizer()
    first = audit_here(auditor(run, looking))
    seen = len(looking.shown[0])
    assert audit_here(auditor(run, looking)) == first
    assert len(looking.shown[0]) == seen
    other = audit_here(auditor(with_audit(run, false_accept_rate=1e-3), looking))
    assert other["leakage"]["gallery"]["recognizer"]["threshold"]["false_accept_rate"] == 1e-3
    assert sum(looking.shown[0][seen:]) == 100, "only the planted copies are embedded again"


def test_an_audit_says_what_made_it_and_is_not_made_again_by_other_code(run: Run) -> None:
    found = audit_here(auditor(run))
    assert found["provenance"] == provenance(run.config)
    elsewhere = {**found, "provenance": {**found["provenance"], "git_sha": "0a" * 20}}
    run.put_json(AUDIT, elsewhere)
    assert audit_here(auditor(run)) == elsewhere


def test_a_killed_audit_embeds_only_what_is_left(run: Run) -> None:
    looking = CountingRecognizer()
    begun = auditor(run, looking)
    pieces = begun.pieces()
    assert [piece.table for piece in pieces] == [-1] * 4 + [0] * 2
    for piece in (pieces[1], pieces[4]):
        begun.embed(piece)
    assert auditor(run).pieces() == [pieces[0], pieces[2], pieces[3], pieces[5]]
    audit_here(auditor(run))
    assert auditor(run).pieces() == []


def test_who_listens_hears_what_is_compared(run: Run) -> None:
    said = list[str]()
    audit_here(auditor(run), Machine(say=said.append, seconds=0))
    compared = list(dict.fromkeys(text.split(":")[0] for text in said))
    assert compared == [
        "gallery by the recognizer",
        "gallery by the judge",
        "images by the recognizer",
        "images by the judge",
        "identities by the recognizer",
        "images and gallery by the recognizer",
        "identities by the judge",
        "images and gallery by the judge",
        "references",
    ]


def test_embeddings_of_another_dataset_are_made_again(run: Run) -> None:
    audit_here(auditor(run))
    index = run.get_json(INDEX)
    run.store.put(INDEX, run.store.read(INDEX).rstrip() + b"\n\n")
    assert run.get_json(INDEX) == index
    assert [piece.table for piece in auditor(run).pieces()] == [-1] * 4


def test_images_without_an_embedding_are_left_out_and_named(run: Run) -> None:
    record = audit_here(auditor(run, CountingRecognizer(blind_to=7)))
    found = record["networks"]["recognizer"]
    blind = found["without_embedding"]
    assert 0 < blind["count"] == len(blind["keys"]) < IMAGES
    assert found["images"] == IMAGES - blind["count"]
    assert any("no embedding (NaN)" in note for note in record["not_measured"])
    with pytest.raises(RunError, match="the recognizer gives no embedding"):
        audit_here(auditor(with_audit(run, controls=0), CountingRecognizer(blind_to=1, fingerprint="5a" * 32)))


def test_one_identity_is_not_measurable_and_no_error(tmp_path: Path, faces: Path) -> None:
    black = CopyingGenerator(for_d=references(2)[1])  # which the gate refuses: the second identity has no image
    run = audited_run(tmp_path / "run", faces, "packing.num_identities=2", generator=black)
    record = audit_here(auditor(run))
    found = record["networks"]["recognizer"]
    assert found["equal_error"] == {"rate": None, "cosine": None}
    assert (found["inter"], found["at_calibrated"], found["nearest_centre"]) == (None, None, None)
    assert "separation by the recognizer: not measurable (0 impostors): there is one identity" in record["not_measured"]
    assert "EER not measurable" in lines(record)[0]


def test_a_bare_table_is_compared_by_the_recogniser_and_its_threshold_is_the_gallerys(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", references(30, seed=5))
    path = str(tmp_path / "few.npy")
    record = audit_here(auditor(with_audit(run, against=[path])))
    assert list(record["leakage"][path]) == ["recognizer"]
    leak = record["leakage"][path]["recognizer"]
    assert leak["threshold"] == record["leakage"]["gallery"]["recognizer"]["threshold"]
    assert leak["control"] == {"faces": 0, "reason": "not run: it is a bare table, without pictures"}
    notes = " ".join(record["not_measured"])
    assert f"a threshold of {path} by the recognizer: it has too few pairs of people (435)" in notes
    assert f"leakage of {path} by the judge: it is a bare table, without pictures" in notes
    pictures = [pair["images"][1]["jpeg"] for pair in run.get_json(AUDIT_FACES)["leakage"][path]["recognizer"]]
    assert pictures == [None] * IDENTITIES


def test_who_only_embeds_needs_no_table(run: Run) -> None:
    told = tuple(faces.without_rows() for faces in auditor(run).faces)
    assert [faces.table.vectors_ND.size for faces in told] == [0]
    table = run.store.read(GALLERY)
    run.store.delete(GALLERY)
    embedding = replace(auditor(run), told=told)
    for piece in embedding.pieces():
        embedding.embed(piece)
    run.store.put(GALLERY, table)
    assert auditor(run).pieces() == []
    assert auditor(run).measure()["leakage"]["gallery"]["judge"]["without_embedding"] == 0


def test_another_run_of_jobs_embed_is_compared_with_its_pictures_from_an_archive(run: Run, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards" / "train-0.tar", "w") as archive:
        for path in put_faces(tmp_path / "loose", 150, seed=23):
            archive.add(path, path.name)
    other = audited_run(tmp_path / "other", tmp_path / "shards", images=False)
    record = audit_here(auditor(with_audit(run, against=[str(other)])))["leakage"][str(other)]
    assert set(record) == {"recognizer", "judge"}
    assert record["judge"]["people"] == 150, "an archive is no person"
    assert record["judge"]["control"]["kinds"]["shifted"]["right"] >= 0.8
    first = run.get_json(AUDIT_FACES)["leakage"][str(other)]["judge"][0]["images"][1]
    assert first["key"].startswith("train-0.tar/")
    assert first["jpeg"]


def test_an_audit_that_lost_a_part_or_is_of_another_version_is_measured_again(run: Run) -> None:
    first, looking = audit_here(auditor(run)), CountingRecognizer(shown=([],))
    older = {**first, "asked": {**first["asked"], "version": 1}}
    damages = [
        lambda: run.store.delete(AUDIT_FACES),
        lambda: run.store.put(AUDIT, b"{"),
        lambda: run.store.put(AUDIT, b"\xff"),
        lambda: run.store.put(AUDIT, b"[]"),
        lambda: run.put_json(AUDIT, older),
    ]
    for damage in damages:
        damage()
        assert audit_here(auditor(run, looking)) == first
        assert run.get_json(AUDIT) == first
        assert run.get_json(AUDIT_FACES)["leakage"]["gallery"]
    assert sum(looking.shown[0]) == len(damages) * 100, "only the planted copies are embedded again"


def test_rows_of_another_dimension_are_refused_by_name(run: Run, tmp_path: Path) -> None:
    rows = np.eye(10, dtype=np.float32)
    (tmp_path / "theirs.parquet").write_bytes(to_parquet("key", Embeddings([str(i) for i in range(10)], rows)))
    path = str(tmp_path / "theirs.parquet")
    with pytest.raises(EmbeddingError, match=r"theirs.parquet: holds rows of 10 numbers, and the recogniser gives 12"):
        audit_here(auditor(with_audit(run, against=[path])))


def test_what_cannot_be_compared_is_refused_with_its_key(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", references(3))
    twice = [str(tmp_path / "few.npy")] * 2
    for against, words in (
        ([str(tmp_path / "none.npy")], "audit.against: .*none.npy does not exist"),
        ([str(tmp_path / "nowhere")], "audit.against: .*holds no run"),
        (twice, "must name each table once"),
    ):
        with pytest.raises(ConfigError, match=words):
            audit_here(auditor(with_audit(run, against=against)))


def test_a_run_of_another_recogniser_is_refused(run: Run, tmp_path: Path, faces: Path) -> None:
    foreign = ("recognizer.kind=onnx", "recognizer.path=r50.onnx", f"recognizer.sha256={'ab' * 32}")
    other = audited_run(tmp_path / "other", faces, *foreign, images=False)
    with pytest.raises(ConfigError, match=r"was embedded by another recogniser \(onnx abababababab\)"):
        audit_here(auditor(with_audit(run, against=[str(other)])))


def test_a_judge_of_another_image_size_is_refused_with_both_sizes(run: Run) -> None:
    with pytest.raises(RunError, match="holds images of 16x16 pixels, and the network takes 32x32"):
        audit_here(auditor(run, judge=ColorJudge(image_size=32)))


def test_a_file_of_embeddings_that_was_cut_is_named(run: Run) -> None:
    whole = auditor(run)
    for piece in whole.pieces():
        whole.embed(piece)
    name = "evaluation/embeddings/0e0e0e0e0e0e/shard-000002.npy"
    run.store.put(name, run.store.read(name)[:-50])
    with pytest.raises(RunError, match=r"shard-000002.npy: is not a readable .npy file; delete it"):
        auditor(run).measure()


def test_an_unfinished_dataset_is_refused_with_the_next_step(tmp_path: Path, faces: Path) -> None:
    with pytest.raises(RunError, match=r"the dataset is not finished; run `python -m jobs\.pipeline"):
        auditor(audited_run(tmp_path / "run", faces, images=False))
