"""Both shipped generators: determinism, independence of batches, identity and sharpness on people never trained on."""

from functools import partial

import numpy as np
import pytest

from hyperface.models.toy.diffusion_generator import ToyDiffusionGenerator
from hyperface.models.toy.faces import HELD_OUT_SEED, render_faces
from hyperface.models.toy.measure import laplacian_variance
from hyperface.models.toy.recognizer import load_judge, load_recognizer
from hyperface.models.toy.render_generator import ToyRenderGenerator

PEOPLE = 24
FAST = {"render": ToyRenderGenerator, "diffusion": partial(ToyDiffusionGenerator, steps=2, guidance=1.0)}


@pytest.fixture(scope="module")
def renders() -> np.ndarray:
    return render_faces(PEOPLE, 4, HELD_OUT_SEED).images_BHWC


@pytest.fixture(scope="module")
def references(renders) -> np.ndarray:
    means = load_recognizer().embed(renders).reshape(PEOPLE, 4, -1).mean(axis=1)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def judged(images: np.ndarray, renders: np.ndarray) -> float:
    judge = load_judge()
    truth = judge.embed(renders).reshape(PEOPLE, 4, -1)
    return float(np.einsum("pd,pkd->pk", judge.embed(images), truth).mean())


def test_rendered_faces_keep_the_identity_they_were_asked_for(renders, references):
    images = ToyRenderGenerator().generate(references, range(PEOPLE))
    assert (load_recognizer().embed(images) * references).sum(axis=1).mean() > 0.85
    assert judged(images, renders) > 0.75


def test_diffused_faces_keep_the_identity_they_were_asked_for_and_are_sharp(renders, references):
    images = ToyDiffusionGenerator(steps=6, guidance=1.0).generate(references, range(PEOPLE))
    assert (load_recognizer().embed(images) * references).sum(axis=1).mean() > 0.8
    assert judged(images, renders) > 0.7
    assert laplacian_variance(images).mean() > 0.45 * laplacian_variance(renders).mean()


def test_a_stranger_is_not_recognised_in_a_diffused_face(references):
    images = ToyDiffusionGenerator(steps=2, guidance=1.0).generate(references[:12], range(12))
    found = load_recognizer().embed(images)
    own = (found * references[:12]).sum(axis=1).mean()
    strange = (found * references[12:]).sum(axis=1).mean()
    assert own > strange + 0.4


@pytest.mark.parametrize("kind", FAST)
def test_an_image_depends_on_its_embedding_and_seed_alone(kind, references):
    generator = FAST[kind]()
    seeds = [3, 2**62, 5, 9, 11, 3]
    together = generator.generate(references[:6], seeds)
    assert together.shape == (6, 64, 64, 3)
    assert together.dtype == np.uint8
    assert np.array_equal(together, generator.generate(references[:6], seeds))
    for row in (0, 1, 5):
        alone = generator.generate(references[row : row + 1], seeds[row : row + 1])[0]
        assert np.abs(together[row].astype(int) - alone).max() <= 1
        assert (together[row] != alone).mean() < 0.01
    other_seed = generator.generate(references[:1], [4])[0]
    assert np.abs(together[0].astype(int) - other_seed).mean() > 3.0


@pytest.mark.parametrize("kind", FAST)
def test_conditions_of_another_shape_are_refused(kind):
    generator = FAST[kind]()
    with pytest.raises(ValueError, match="expected embeddings"):
        generator.generate(np.zeros((2, 512), dtype=np.float32), [1, 2])


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="steps must be"):
        ToyDiffusionGenerator(steps=0)
