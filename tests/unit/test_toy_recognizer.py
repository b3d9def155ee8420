"""The shipped recogniser and judge: unit rows, independence of batches, accuracy on identities they never saw."""

import shutil

import numpy as np
import pytest

from hyperface.models.toy.faces import HELD_OUT_SEED, FaceSet, render_faces
from hyperface.models.toy.measure import describe_recognizer, verification_accuracy
from hyperface.models.toy.recognizer import ToyRecognizer, load_judge, load_recognizer
from hyperface.models.toy.weights import SHA256, SHIPPED


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    return render_faces(60, 4, HELD_OUT_SEED)


@pytest.mark.parametrize("load", [load_recognizer, load_judge])
def test_embeddings_are_unit_rows_that_do_not_depend_on_the_batch(load, faces):
    network: ToyRecognizer = load()
    together = network.embed(faces.images_BHWC[:37])
    alone = network.embed(faces.images_BHWC[20:21])
    assert together.shape == (37, network.embedding_dim)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(together[20], alone[0], atol=1e-5)
    assert np.array_equal(together, network.embed(faces.images_BHWC[:37]))


def test_features_have_norms_of_their_own_and_the_directions_of_the_embeddings(faces):
    network = load_recognizer()
    features = network.features(faces.images_BHWC[:9])
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    assert np.ptp(norms) > 0.01
    np.testing.assert_allclose(network.embed(faces.images_BHWC[:9]), features / norms, atol=1e-6)


@pytest.mark.parametrize("load", [load_recognizer, load_judge])
def test_unseen_identities_are_told_apart(load, faces):
    numbers = describe_recognizer(load().embed(faces.images_BHWC).reshape(60, 4, -1))
    assert numbers["accuracy"] > 0.96
    assert numbers["same_cosine"] > 0.75
    assert numbers["different_cosine_p95"] < 0.6


def test_recognizer_and_judge_see_differently(faces):
    first, second = load_recognizer(), load_judge()
    assert first.fingerprint != second.fingerprint
    assert first.fingerprint == SHA256["recognizer"]
    cosines = (first.embed(faces.images_BHWC[:16]) * second.embed(faces.images_BHWC[:16])).sum(axis=1)
    assert np.abs(cosines).mean() < 0.5


def test_a_replaced_weights_file_is_refused_by_name(tmp_path):
    shutil.copy(SHIPPED / "judge.safetensors", tmp_path / "recognizer.safetensors")
    with pytest.raises(ValueError, match=r"recognizer\.safetensors: SHA-256 is .* expected .* train anew"):
        load_recognizer(tmp_path)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="resize"):
        load_recognizer().embed(np.zeros((1, 32, 32, 3), dtype=np.uint8))


def test_verification_accuracy_is_one_for_separated_and_a_half_for_equal_cosines():
    rng = np.random.default_rng(0)
    near, far = rng.uniform(0.6, 0.9, 2000).astype(np.float32), rng.uniform(-0.2, 0.4, 2000).astype(np.float32)
    near_again = rng.uniform(0.6, 0.9, 2000).astype(np.float32)
    assert verification_accuracy(near, far) == 1.0
    assert abs(verification_accuracy(near, near_again) - 0.5) < 0.05
