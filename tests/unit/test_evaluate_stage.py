"""One evaluation of a run: which model, which sets, what is recorded, what is refused."""

import hashlib
import io
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from color_world import ColorRecognizer, color_config
from numpy.typing import NDArray
from PIL import Image
from sklearn.model_selection import KFold
from test_arcface import SIZE, tiny_model

from hyperface import config as configuration
from hyperface.config import EvaluateConfig
from hyperface.errors import ConfigError, ModelError, RunError
from hyperface.models.loading import Evaluated, load_evaluated
from hyperface.models.protocols import Preprocessing
from hyperface.models.toy.recognizer import load_judge, load_recognizer
from hyperface.run import Run, open_run
from hyperface.run.names import VERIFICATION
from hyperface.run.provenance import provenance
from hyperface.storage import open_store
from hyperface.verification.pair_set import PairSet
from hyperface.verification.stage import evaluate_run, verify_on, wanted_sets


@dataclass(frozen=True)
class Colors(ColorRecognizer):
    """The recogniser of the small world, before it brings its rows to norm 1."""

    preprocessing: Preprocessing = Preprocessing()

    def features(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        return (images_BHWC.reshape(-1, 2, 8, 2, 8, 3).mean((2, 4)).reshape(-1, 12) - 128).astype(np.float32)


def described(fingerprint: str = "0e" * 32) -> dict[str, Any]:
    return {"kind": "onnx", "fingerprint": fingerprint, "preprocessing": {"color_order": "RGB"}}


MODEL = Evaluated(Colors(), "tested", described())


def put_bin(path: Path, pairs: int = 30, size: int = 16, seed: int = 0) -> NDArray[np.uint8]:
    """A file of InsightFace's form: one person's two images have nearly the same colours. Returns the images."""
    rng, images = np.random.default_rng(seed), []
    same = rng.random(pairs) < 0.5
    for genuine in same:
        one, other = rng.integers(0, 200, (2, 2, 2, 3))
        other = np.clip(one + rng.integers(0, 55, (2, 2, 3)), 0, 255) if genuine else other
        images += [colours.repeat(size // 2, 0).repeat(size // 2, 1).astype(np.uint8) for colours in (one, other)]
    path.write_bytes(pickle.dumps(([png(image) for image in images], same.tolist())))
    return np.stack(images)


def png(image_HWC: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image_HWC).save(file, "PNG")
    return file.getvalue()


def color_run(tmp_path: Path, *overrides: str) -> Run:
    return open_run(color_config(tmp_path / "run", *overrides))


def evaluate(run: Run, model: Evaluated = MODEL) -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    return evaluate_run(run, model, said.append), said


def test_a_file_is_verified_as_the_published_protocol_has_it(tmp_path: Path) -> None:
    images = put_bin(tmp_path / "faces.bin", pairs=47)
    record, said = evaluate(color_run(tmp_path, f"evaluate.benchmarks=[{tmp_path}/faces.bin]", "evaluate.batch_size=7"))
    found = record["sets"]["faces"]
    rows = Colors().features(images).astype(float) + Colors().features(images[:, :, ::-1])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    distance = np.square(rows[::2] - rows[1::2]).sum(1)
    same = np.array(pickle.loads((tmp_path / "faces.bin").read_bytes())[1])
    accuracies = []
    for train, test in KFold(10).split(same):
        tried = [np.mean((distance[train] < t) == same[train]) for t in np.arange(0, 4, 0.01)]
        accuracies.append(np.mean((distance[test] < np.arange(0, 4, 0.01)[np.argmax(tried)]) == same[test]))
    assert found["accuracy"] == pytest.approx(np.mean(accuracies), abs=1e-9)
    assert found["accuracy_std"] == pytest.approx(np.std(accuracies), abs=1e-9)
    assert (found["pairs"], found["genuine"], found["images"]) == (47, int(same.sum()), 94)
    assert found["source"].endswith("/faces.bin")
    assert f"{found['accuracy']:.4f} +- {found['accuracy_std']:.4f}" in said[1]
    assert "1e-6" not in said[1]


def test_the_record_says_whose_numbers_they_are_and_is_json(tmp_path: Path) -> None:
    put_bin(tmp_path / "faces.bin")
    run = color_run(tmp_path, f"evaluate.benchmarks=[{tmp_path}/faces.bin]")
    record, _ = evaluate(run)
    assert record["model"] == described()
    assert json.loads(run.store.read(f"{VERIFICATION}/tested.json")) == record


def test_each_set_says_what_measured_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        put_bin(tmp_path / f"{name}.bin")
        monkeypatch.setenv("HYPERFACE_GIT_SHA", f"sha of {name}")
        record, _ = evaluate(color_run(tmp_path, f"evaluate.benchmarks=[{tmp_path}/{name}.bin]"))
    found = {name: measured["provenance"] for name, measured in record["sets"].items()}
    assert {name: made_by["git_sha"] for name, made_by in found.items()} == {"one": "sha of one", "two": "sha of two"}
    assert found["two"] == provenance(color_config(tmp_path / "run"))


def test_what_another_job_recorded_meanwhile_is_kept(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        put_bin(tmp_path / f"{name}.bin")
    run = color_run(tmp_path, f"evaluate.benchmarks=[{tmp_path}/one.bin,{tmp_path}/three.bin]")
    other = Run(run.store, color_config(run.config.run.dir, f"evaluate.benchmarks=[{tmp_path}/two.bin]"))

    def say(line: str) -> None:
        if line.startswith("one "):
            evaluate(other)

    evaluate_run(run, MODEL, say)
    assert set(run.get_json(f"{VERIFICATION}/tested.json")["sets"]) == {"one", "two", "three"}


@pytest.mark.parametrize(("size", "wanted"), [(64, ["toy"]), (112, None)])
def test_without_a_word_the_toy_sets_are_meant_where_they_fit(size: int, wanted: list[str] | None) -> None:
    assert wanted_sets(EvaluateConfig(benchmarks=["lfw.bin"]), size) == ["lfw.bin"]
    assert wanted_sets(EvaluateConfig(ijb=["IJBC"]), size) == []
    if wanted is None:
        with pytest.raises(ConfigError, match="the recogniser takes 112x112; name a set"):
            wanted_sets(EvaluateConfig(), size)
    else:
        assert wanted_sets(EvaluateConfig(), size) == wanted


def test_sets_stay_in_the_record_of_the_same_model_and_of_no_other(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("two", 2)):
        put_bin(tmp_path / f"{name}.bin", seed=seed)
    store, config = color_run(tmp_path).store, color_config(tmp_path / "run")
    first, second = (
        Run(store, color_config(config.run.dir, f"evaluate.benchmarks=[{tmp_path}/{name}.bin]"))
        for name in ("one", "two")
    )
    once = evaluate(first)[0]["sets"]["one"]
    assert evaluate(second)[0]["sets"]["one"] == once
    put_bin(tmp_path / "one.bin", seed=3)
    assert evaluate(first)[0]["sets"]["one"] != once
    assert set(evaluate(first)[0]["sets"]) == {"one", "two"}
    assert set(evaluate(second, Evaluated(Colors(), "tested", described("1f" * 32)))[0]["sets"]) == {"two"}


def test_other_preprocessing_is_another_model(tmp_path: Path) -> None:
    put_bin(tmp_path / "one.bin")
    put_bin(tmp_path / "two.bin")
    run = color_run(tmp_path, f"evaluate.benchmarks=[{tmp_path}/one.bin]")
    evaluate(run)
    other = {**described(), "preprocessing": {"color_order": "BGR"}}
    run = Run(run.store, color_config(run.config.run.dir, f"evaluate.benchmarks=[{tmp_path}/two.bin]"))
    assert set(evaluate(run, Evaluated(Colors(), "tested", other))[0]["sets"]) == {"two"}


def test_a_record_that_is_none_is_not_written_over(tmp_path: Path) -> None:
    put_bin(tmp_path / "one.bin")
    run = color_run(tmp_path, f"evaluate.benchmarks=[{tmp_path}/one.bin]")
    whole = {"model": described(), "sets": [["one"]]}
    for content in (b"{", b"\xff\xfe", b"[]", json.dumps(whole).encode()):
        run.store.put(f"{VERIFICATION}/tested.json", content)
        with pytest.raises(RunError, match=r"tested\.json: (is no JSON object|sets must be of type dict)"):
            evaluate(run)
        assert run.store.read(f"{VERIFICATION}/tested.json") == content


@pytest.mark.parametrize(
    ("files", "benchmarks", "named"),
    [
        (
            ["a/lfw.bin", "b/lfw.bin"],
            "[a/lfw.bin,b/lfw.bin]",
            "a/lfw.bin and .*b/lfw.bin would both be recorded as 'lfw'",
        ),
        (["lfw.bin", "lfw.txt"], "[lfw.bin,lfw.txt]", "would both be recorded as 'lfw'"),
        ([], "[toy]", "the toy sets have 64x64 pixels, and the recogniser takes 16x16"),
        (
            [],
            "[]",
            "is empty, as is evaluate.ijb, and the toy sets have 64x64 pixels, and the recogniser takes 16x16; name a",
        ),
        ([], "[lfw.bin]", "does not exist"),
    ],
)
def test_sets_that_cannot_be_meant_are_bad_input(tmp_path: Path, files: list[str], benchmarks: str, named: str) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        put_bin(tmp_path / file)
    full = benchmarks.replace("[", f"[{tmp_path}/").replace(",", f",{tmp_path}/") if "lfw" in benchmarks else benchmarks
    with pytest.raises(ConfigError, match=f"evaluate.benchmarks: .*{named}"):
        evaluate(color_run(tmp_path, f"evaluate.benchmarks={full}"))


def test_a_file_named_like_a_toy_set_is_refused_beside_them(tmp_path: Path) -> None:
    put_bin(tmp_path / "hard.bin", size=64)
    run = color_run(tmp_path, f"evaluate.benchmarks=[toy,{tmp_path}/hard.bin]")
    with pytest.raises(ConfigError, match="would both be recorded as 'hard'"):
        evaluate(run, Evaluated(load_judge(), "judge", described()))


def test_images_of_another_size_are_refused_with_both_sizes_and_not_resized(tmp_path: Path) -> None:
    put_bin(tmp_path / "faces.bin", size=32)
    run = color_run(tmp_path, f"evaluate.benchmarks=[{tmp_path}/faces.bin]")
    with pytest.raises(RunError, match="images of 32x32 pixels, and the recogniser takes 16x16"):
        evaluate(run)


def test_what_was_measured_before_a_broken_set_is_kept(tmp_path: Path) -> None:
    put_bin(tmp_path / "good.bin")
    (tmp_path / "bad.bin").write_bytes(pickle.dumps(([b"\xff\xd8 no", b"\xff\xd8 no"], [True])))
    run = color_run(tmp_path, f"evaluate.benchmarks=[{tmp_path}/good.bin,{tmp_path}/bad.bin]")
    with pytest.raises(RunError, match=r"bad\.bin: image 0"):
        evaluate(run)
    record = run.get_json(f"{VERIFICATION}/tested.json")
    assert set(record["sets"]) == {"good"}
    assert record["asked"]["sets"] == ["good", "bad"]
    assert record["asked"]["keys"]["evaluate.benchmarks"] == run.config.evaluate.benchmarks


def test_what_was_asked_for_is_recorded_before_the_first_set_is_measured(tmp_path: Path) -> None:
    (tmp_path / "bad.bin").write_bytes(pickle.dumps(([b"\xff\xd8 no", b"\xff\xd8 no"], [True])))
    run = color_run(tmp_path, f"evaluate.benchmarks=[{tmp_path}/bad.bin]")
    with pytest.raises(RunError, match=r"bad\.bin: image 0"):
        evaluate(run)
    record = run.get_json(f"{VERIFICATION}/tested.json")
    assert (record["sets"], record["asked"]["sets"]) == ({}, ["bad"])


def test_an_image_without_embedding_is_named(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Blind(Colors):
        def features(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
            rows = super().features(images_BHWC)
            return np.where(images_BHWC.mean((1, 2, 3))[:, None] == 0, 0, rows).astype(np.float32)

    images = np.full((4, 16, 16, 3), 9, np.uint8)
    images[2] = 0
    pairs = PairSet("x", "a set", images, np.array([0, 1]), np.array([2, 3]), np.array([True, False]))
    with pytest.raises(RunError, match="a set: image 2: the recogniser has no embedding"):
        verify_on(pairs, Blind(), 2)


def test_without_impostors_the_record_says_so_instead_of_a_number(tmp_path: Path) -> None:
    images = [png(np.full((16, 16, 3), shade, np.uint8)) for shade in (9, 10, 200, 201)]
    (tmp_path / "same.bin").write_bytes(pickle.dumps((images, [True, True])))
    record, said = evaluate(color_run(tmp_path, f"evaluate.benchmarks=[{tmp_path}/same.bin]"))
    assert record["sets"]["same"]["accuracy"] is None
    assert record["sets"]["same"]["tar_at_far"]["1e-1"]["reason"] == "not measurable (0 impostors)"
    assert "not measurable (0 impostors)" in said[1]


def onnx_config(tmp_path: Path, *overrides: str) -> configuration.Config:
    path, sha256 = tiny_model(tmp_path / "m.onnx")
    return color_config(
        tmp_path / "run", "evaluate.model=onnx", f"evaluate.path={path}", f"evaluate.sha256={sha256}", *overrides
    )


def test_an_onnx_file_is_named_by_its_hash_and_recorded_with_its_preprocessing(tmp_path: Path) -> None:
    config = onnx_config(tmp_path, "evaluate.color_order=BGR", "evaluate.pixel_std=128")
    model = load_evaluated(config, open_store(str(tmp_path)))
    sha256 = hashlib.sha256((tmp_path / "m.onnx").read_bytes()).hexdigest()
    assert model.label == f"onnx-{sha256[:12]}-bgr-127.5-128"
    assert model.described == {
        "kind": "onnx",
        "fingerprint": sha256,
        "embedding_dim": 6,
        "image_size": SIZE,
        "preprocessing": {"color_order": "BGR", "mean": 127.5, "std": 128.0},
    }
    red = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    red[..., 0] = 250
    usual = load_evaluated(onnx_config(tmp_path), open_store(str(tmp_path)))
    assert usual.label == f"onnx-{sha256[:12]}"
    plain = usual.recognizer
    assert not np.allclose(model.recognizer.embed(red), plain.embed(red))
    assert np.allclose(model.recognizer.features(red), plain.features(red[..., ::-1]) * 127.5 / 128, atol=1e-4)


def test_another_onnx_file_than_expected_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"evaluate\.sha256"):
        load_evaluated(onnx_config(tmp_path, f"evaluate.sha256={'0' * 64}"), open_store(str(tmp_path)))


def test_the_runs_own_recogniser_and_judge_can_be_evaluated(tmp_path: Path) -> None:
    for kind, network in (("recognizer", load_recognizer()), ("judge", load_judge())):
        config = configuration.load(None, [f"run.dir={tmp_path}", f"evaluate.model={kind}"])
        model = load_evaluated(config, open_store(str(tmp_path)))
        assert (model.label, model.described["fingerprint"]) == (kind, network.fingerprint)
    config = configuration.load(None, [f"run.dir={tmp_path}", "evaluate.model=judge", "judge.kind=none"])
    with pytest.raises(ConfigError, match="this run has no judge"):
        load_evaluated(config, open_store(str(tmp_path)))


def test_a_training_that_is_not_finished_or_named_like_another_model_is_refused(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    with pytest.raises(RunError, match=r"jobs\.train"):
        load_evaluated(configuration.load(None, [f"run.dir={tmp_path}"]), store)
    for name in ("judge", "recognizer", "onnx-1"):
        with pytest.raises(ConfigError, match=f"train.name names the record of another model .*it is '{name}'"):
            configuration.load(None, [f"run.dir={tmp_path}", f"train.name={name}"])
