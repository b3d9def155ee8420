"""Arc2Face on one GPU, where there is one: half precision draws what a CPU draws, and no step waits for the device."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hyperface.models import latent_diffusion
from hyperface.models.arc2face import Arc2FaceGenerator
from tests.unit import tiny_arc2face

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

STEPS, SEEDS = 8, [1, 2, 3, 2**63 - 1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


def embeddings(count: int) -> np.ndarray:
    rows = np.random.default_rng(0).standard_normal((count, 512)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a.astype(float) - b.astype(float))


@pytest.mark.parametrize(("precision", "levels"), [("float32", 1.0), ("float16", 2.0), ("bfloat16", 5.0)])
def test_pictures_are_those_of_a_cpu(folder, precision, levels):
    config = tiny_arc2face.make(folder)
    on_cpu = Arc2FaceGenerator(config, STEPS, device="cpu").generate(embeddings(4), SEEDS)
    on_gpu = Arc2FaceGenerator(replace(config, precision=precision), STEPS).generate(embeddings(4), SEEDS)
    assert differences(on_gpu, on_cpu).mean() < levels


@pytest.mark.parametrize("fast", [False, True])
def test_a_picture_does_not_depend_on_its_batch(folder, fast):
    tiny_arc2face.make(folder)
    tiny_arc2face.make_lora(folder / "lora.safetensors", folder)
    config = replace(
        tiny_arc2face.make(folder), precision="float16", fast=fast, lora_path=str(folder / "lora.safetensors")
    )
    generator, rows = Arc2FaceGenerator(config, 4), embeddings(4)
    together = generator.generate(rows, SEEDS)
    for i, seed in enumerate(SEEDS):
        # Kernels differ with the batch and round half precision differently.
        assert differences(together[i], generator.generate(rows[[i]], [seed])[0]).mean() < 1


@pytest.mark.parametrize("fast", [False, True])
def test_no_step_waits_for_the_device(folder, fast):
    tiny_arc2face.make(folder)
    tiny_arc2face.make_lora(folder / "lora.safetensors", folder)
    config = replace(
        tiny_arc2face.make(folder), precision="float16", fast=fast, lora_path=str(folder / "lora.safetensors")
    )
    generator = Arc2FaceGenerator(config, 4)
    generator.generate(embeddings(4), SEEDS)
    network, calls = generator._unet, []

    def watched(module: object, arguments: object) -> None:
        calls.append(1)
        torch.cuda.set_sync_debug_mode("error")

    hook = network.register_forward_pre_hook(watched)
    try:
        with torch.inference_mode():
            prompts = generator._project(torch.from_numpy(embeddings(4)))
            latent_diffusion.denoise(
                network, generator._solver, 4, generator._guidance, prompts, generator._project.nothing_1LK, SEEDS
            )
    finally:
        torch.cuda.set_sync_debug_mode("default")
        hook.remove()
    assert len(calls) == 4


def test_the_text_encoder_leaves_the_device_after_the_projection(folder):
    generator = Arc2FaceGenerator(replace(tiny_arc2face.make(folder), precision="float16"), STEPS)
    weights = generator._project._weights.values()
    assert {tensor.device.type for tensor in weights} == {"cpu"}
    before = torch.cuda.memory_allocated()
    with torch.inference_mode():
        prompts = generator._project(torch.from_numpy(embeddings(4)))
    assert torch.cuda.memory_allocated() - before <= prompts.numel() * prompts.element_size() + 2**16
