"""The toy world's readers of attributes, and gradients through its generators."""

import numpy as np
import pytest
import torch

from hyperface.models.pixels import to_signal
from hyperface.models.protocols import Decoder, DifferentiableRecognizer
from hyperface.models.toy.attributes import RANGES, load_attributes
from hyperface.models.toy.diffusion_generator import ToyDiffusionGenerator
from hyperface.models.toy.faces import HELD_OUT_SEED, render_faces
from hyperface.models.toy.recognizer import load_recognizer
from hyperface.models.toy.render_generator import ToyRenderGenerator
from hyperface.models.toy.train_attributes import HELD_OUT_ANGLES_SEED, angle_errors, render_angles
from hyperface.synthesis.attribute_control import Settings, steer
from hyperface.synthesis.quality import sharpness

GENERATORS = {"render": ToyRenderGenerator, "diffusion": lambda: ToyDiffusionGenerator(steps=2, guidance=1.5)}


def references(count: int) -> np.ndarray:
    means = load_recognizer().embed(render_faces(count, 3, HELD_OUT_SEED).images_BHWC).reshape(count, 3, -1).mean(1)
    return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)


def test_yaw_and_light_are_read_within_a_few_degrees_from_faces_never_seen():
    errors = angle_errors(load_attributes().network, *render_angles(96, HELD_OUT_ANGLES_SEED))
    assert errors["yaw_error"] < 2.5
    assert errors["light_error"] < 5.0


def test_a_mirrored_face_looks_the_other_way():
    images, _ = render_angles(32, HELD_OUT_ANGLES_SEED)
    values, mirrored = (load_attributes().values(to_signal(seen)).detach() for seen in (images, images[:, :, ::-1]))
    assert (values[:, :2] + mirrored[:, :2]).abs().mean() < 3.0
    torch.testing.assert_close(values[:, 2], mirrored[:, 2])


def test_sharpness_is_the_root_of_what_the_gate_looks_at():
    images = render_faces(4, 2, HELD_OUT_SEED).images_BHWC
    column = list(RANGES).index("sharpness")
    found = load_attributes().values(to_signal(images))[:, column].square().tolist()
    assert found == pytest.approx([sharpness(image) for image in images], rel=1e-3)


def test_images_are_taken_to_where_the_networks_are():
    images = torch.zeros(2, 3, 64, 64)  # on the CPU; the networks on a device that computes shapes only
    attributes, recognizer = load_attributes(), load_recognizer()
    attributes.network.to("meta")
    recognizer.network.to("meta")
    for found, shape in ((attributes.values(images), (2, 3)), (recognizer.features_of(images), (2, 128))):
        assert (found.device.type, found.shape) == ("meta", shape)


@pytest.mark.parametrize("kind", GENERATORS)
def test_what_is_decoded_is_what_is_generated(kind: str):
    generator, rows, seeds = GENERATORS[kind](), references(3), [5, 6, 7]
    assert isinstance(generator, Decoder)
    with torch.no_grad():
        decoded = generator.decode(torch.from_numpy(rows), seeds)
    assert (decoded.abs() <= 1).all()
    difference = (decoded - to_signal(generator.generate(rows, seeds))).abs() * 127.5
    assert difference.mean() < 1.0  # rounding, and the grain of the renderer's sensor
    assert difference.max() < 6.0


@pytest.mark.parametrize("kind", GENERATORS)
def test_the_gradient_of_a_picture_is_its_slope(kind: str):
    generator, look = GENERATORS[kind](), load_recognizer()
    assert isinstance(look, DifferentiableRecognizer)
    rows = torch.from_numpy(references(2))

    def cosine(at: torch.Tensor) -> torch.Tensor:
        return torch.cosine_similarity(look.features_of(generator.decode(at, [5, 6])), rows.flip(0))

    at = rows.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cosine(at).sum(), at)
    along = torch.nn.functional.normalize(gradient)
    with torch.no_grad():
        slope = (cosine(rows + 3e-3 * along) - cosine(rows - 3e-3 * along)) / 6e-3
    torch.testing.assert_close(slope, (gradient * along).sum(1), rtol=0.1, atol=0.01)


def test_a_diffused_head_turns_when_its_embedding_is_steered():
    generator, look, reader = ToyDiffusionGenerator(steps=2, guidance=1.0), load_recognizer(), load_attributes()
    rows, seeds, targets = torch.from_numpy(references(2)), [1, 2], torch.tensor([[10.0], [-10.0]])
    found = steer(
        rows, seeds, rows, targets, [RANGES["yaw"]], generator.decode, look.features_of,
        lambda images: reader.values(images)[:, :1], Settings(steps=10),
    )  # fmt: skip

    def misses(at: torch.Tensor) -> np.ndarray:
        seen = to_signal(generator.generate(at.numpy(), seeds))
        return (reader.values(seen).detach()[:, :1] - targets).abs()[:, 0].numpy()

    assert (misses(found.rows_Bd) < 0.6 * misses(rows)).all()
    images = generator.generate(found.rows_Bd.numpy(), seeds)
    assert (look.embed(images) * rows.numpy()).sum(1).min() > 0.6
