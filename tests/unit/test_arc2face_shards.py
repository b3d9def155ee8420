"""A whole way from a configuration to a verified dataset with Arc2Face, an aligner and an ONNX recogniser, in one
process."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hyperface import config as configuration
from hyperface.dataset import Dataset, index, jpeg
from hyperface.dataset.verify import verify
from hyperface.errors import ConfigError
from hyperface.faces.embeddings import Embeddings, to_parquet
from hyperface.models.alignment import LandmarkAligner, TemplateAligner
from hyperface.models.loading import load_models
from hyperface.models.protocols import Models
from hyperface.run import Run, open_run
from hyperface.run.names import REFERENCES
from hyperface.synthesis.shards import read_references, shard_maker
from tests.color_world import hashes
from tests.unit import marker_detector, tiny_arc2face

SIZE, IDENTITIES, IMAGES = 32, 3, 4


def recognizer(path: Path) -> tuple[str, str]:
    """Averages of 8 x 8 patches, a random map to 512 numbers; (path, SHA-256)."""
    weight = np.random.default_rng(0).standard_normal((512, 48)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("AveragePool", ["faces"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
            helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
            helper.make_node("Gemm", ["flat", "weight"], ["embedding"], transB=1),
        ],
        "recognizer",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return str(path), hashlib.sha256(path.read_bytes()).hexdigest()


def configured(folder: Path, run: str, *overrides: str) -> Run:
    """A run with packed references of random directions."""
    folder.mkdir(exist_ok=True)
    arc2face = tiny_arc2face.make(folder / "weights")
    path, sha256 = recognizer(folder / "recognizer.onnx")
    given = [f"run.dir={folder / run}", "synthesis.generator=arc2face", "synthesis.alignment=template"]
    given += [f"arc2face.path={arc2face.path}", f"arc2face.base_path={arc2face.base_path}"]
    given += ["arc2face.precision=float32", "synthesis.diffusion_steps=2", "embed.source=faces"]
    given += ["recognizer.kind=onnx", f"recognizer.path={path}", f"recognizer.sha256={sha256}"]
    given += [f"packing.num_identities={IDENTITIES}", f"synthesis.images_per_identity={IMAGES}"]
    given += ["synthesis.images_per_shard=5", "synthesis.batch_size=3", "synthesis.min_cosine=-1"]
    opened = open_run(configuration.load(None, [*given, *overrides]))
    rows = np.random.default_rng(1).standard_normal((IDENTITIES, 512)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    opened.store.put_new(REFERENCES, to_parquet("identity", Embeddings(list(range(IDENTITIES)), rows)))
    return opened


def synthesize(run: Run, models: Models) -> list[dict[str, object]]:
    """All shards and the index; the statistics of each shard."""
    maker = shard_maker(run, read_references(run), models)
    rows = [maker.make(shard) for shard in range(maker.dataset.plan.num_shards)]
    index.write(maker.dataset, maker.dataset.survey().markers)
    return rows


def test_a_dataset_is_drawn_aligned_embedded_and_verified(tmp_path):
    run = configured(tmp_path, "run")
    models = load_models(run.config)
    assert isinstance(models.aligner, TemplateAligner)
    assert (models.generator.image_size, models.aligner.image_size, models.recognizer.image_size) == (64, SIZE, SIZE)
    synthesize(run, models)
    assert verify(run, deep=True) == []
    shards = list(Dataset.of(run))
    assert sum(len(shard.keys) for shard in shards) == IDENTITIES * IMAGES
    crop = jpeg.decode(shards[0].jpegs[0])
    assert crop.shape == (SIZE, SIZE, 3)
    assert crop.std() > 5


def test_another_run_of_the_configuration_has_the_same_bytes(tmp_path):
    first, second = configured(tmp_path, "first"), configured(tmp_path, "second")
    for run in (first, second):
        synthesize(run, load_models(run.config))
    assert hashes(first) == hashes(second)


def test_other_weights_are_refused_by_a_dataset_that_was_begun(tmp_path):
    run = configured(tmp_path / "a", "run")
    synthesize(run, load_models(run.config))
    unet = Path(run.config.arc2face.path, "arc2face/diffusion_pytorch_model.safetensors")
    data = bytearray(unet.read_bytes())
    data[-1] ^= 1
    unet.write_bytes(data)
    with pytest.raises(ConfigError, match="generator"):
        shard_maker(run, read_references(run), load_models(run.config))


def with_landmarks(folder: Path, sight: float) -> Run:
    path, sha256 = marker_detector.make(folder / "detector.onnx", sight=sight)
    detector = [f"synthesis.detector_path={path}", f"synthesis.detector_sha256={sha256}"]
    return configured(folder, "run", "synthesis.alignment=landmarks", "synthesis.max_attempts=2", *detector)


def test_a_dataset_is_aligned_by_the_landmarks_of_the_detector(tmp_path):
    run = with_landmarks(tmp_path, 1.0)  # sees faces in the reddish corners of what random weights paint
    models = load_models(run.config)
    assert isinstance(models.aligner, LandmarkAligner)
    rows = synthesize(run, models)
    assert sum(row["rows"] for row in rows) == IDENTITIES * IMAGES
    assert verify(run, deep=True) == []


def test_a_picture_without_a_face_is_refused_and_counted(tmp_path):
    run = with_landmarks(tmp_path, 0.0)
    rows = synthesize(run, load_models(run.config))
    assert [row["refused"] for row in rows] == [{"no_face": 10}, {"no_face": 10}, {"no_face": 4}]
    assert verify(run, deep=True) == []
