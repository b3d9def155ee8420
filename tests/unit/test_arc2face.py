"""Arc2Face on tiny networks of the published layout, against the arithmetic written out plainly."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, LCMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from hyperface.config import Arc2FaceConfig
from hyperface.errors import ModelError
from hyperface.models import latent_diffusion
from hyperface.models.arc2face import Arc2FaceGenerator
from tests.unit import tiny_arc2face

STEPS = 5


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Arc2FaceConfig:
    return tiny_arc2face.make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def generator(config: Arc2FaceConfig) -> Arc2FaceGenerator:
    return Arc2FaceGenerator(config, STEPS)


def embeddings(count: int) -> np.ndarray:
    rows = np.random.default_rng(0).standard_normal((count, 512)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def prompts_by_hand(config: Arc2FaceConfig, rows_BD: np.ndarray) -> tuple[Tensor, Tensor]:
    """(for each row, for the empty prompt): the embedding of the word "id" is replaced in a table of our own."""
    tokenizer = CLIPTokenizer.from_pretrained(f"{config.base_path}/tokenizer", model_max_length=77)
    encoder = CLIPTextModel.from_pretrained(f"{config.path}/encoder").eval()
    answers, table = [], encoder.get_input_embeddings()
    ids = tokenizer("photo of a id person", padding="max_length", return_tensors="pt").input_ids
    [number] = tokenizer.encode("id", add_special_tokens=False)
    assert ids[0].tolist().index(number) == 4
    kept = table.weight[number].clone()
    for row_D in rows_BD:
        table.weight.data[number] = torch.cat([torch.from_numpy(row_D), torch.zeros(256)])
        answers.append(encoder(ids).last_hidden_state)
    table.weight.data[number] = kept
    empty = tokenizer("", padding="max_length", return_tensors="pt").input_ids
    return torch.cat(answers), encoder(empty).last_hidden_state


@torch.no_grad()
def picture_by_hand(
    config: Arc2FaceConfig, row_D: np.ndarray, seed: int, solver: object, steps: int, guidance: float
) -> np.ndarray:
    """One image, as diffusers' pipeline draws it, one network call at a time."""
    unet = UNet2DConditionModel.from_pretrained(f"{config.path}/arc2face").eval()
    vae = AutoencoderKL.from_pretrained(f"{config.base_path}/vae").eval()
    prompt, nothing = prompts_by_hand(config, row_D[None])
    random = torch.Generator().manual_seed(seed)
    latents = torch.randn((1, 4, 8, 8), generator=random)
    solver.set_timesteps(steps)
    for time in solver.timesteps:
        conditioned, plain = unet(latents, time, prompt).sample, unet(latents, time, nothing).sample
        noise = plain + guidance * (conditioned - plain)
        latents = solver.step(noise, time, latents, generator=random).prev_sample
    signal = vae.decode(latents / vae.config.scaling_factor).sample[0]
    return ((signal / 2 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)


def largest_difference(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_a_picture_is_what_the_published_arithmetic_gives(config, generator):
    rows, seeds = embeddings(2), [11, 2**63 - 1]
    drawn = generator.generate(rows, seeds)
    assert drawn.shape == (2, 64, 64, 3)
    assert drawn.std() > 5
    solver = DPMSolverMultistepScheduler.from_config(tiny_arc2face.SCHEDULER)
    for row, seed, picture in zip(rows, seeds, drawn, strict=True):
        assert largest_difference(picture, picture_by_hand(config, row, seed, solver, STEPS, 3.0)) <= 1


def test_prompts_are_projected_for_a_batch_at_once_and_the_hook_is_gone(config, generator):
    rows = embeddings(3)
    with torch.inference_mode():
        prompts = generator._project(torch.from_numpy(rows))
    expected, nothing = prompts_by_hand(config, rows)
    torch.testing.assert_close(prompts, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(generator._project.nothing_1LK, nothing, atol=1e-5, rtol=1e-5)
    assert not generator._project._encoder.get_input_embeddings()._forward_hooks


def test_a_picture_does_not_depend_on_its_batch(generator):
    rows, seeds = embeddings(4), [5, 6, 7, 8]
    together = generator.generate(rows, seeds)
    for i in range(4):
        assert largest_difference(together[i], generator.generate(rows[[i]], [seeds[i]])[0]) <= 1
    assert largest_difference(together[0], generator.generate(rows[[0]], [9])[0]) > 1
    assert largest_difference(together[0], generator.generate(rows[[1]], [5])[0]) > 1


def test_an_empty_batch_gives_no_picture(generator):
    assert generator.generate(embeddings(0), []).shape == (0, 64, 64, 3)


def test_a_picture_whose_latents_are_not_finite_is_black_and_the_others_are_whole(generator):
    rows, seeds = embeddings(3), [1, 2, 3]
    whole = generator.generate(rows, seeds)

    def spoil(module: object, arguments: object, output: Sequence[Tensor]) -> Sequence[Tensor]:
        output[0][[1, 4], 0, 3, 3] = torch.nan  # the second picture, in both halves of the guided batch
        return output

    hook = generator._unet.register_forward_hook(spoil)
    drawn = generator.generate(rows, seeds)
    hook.remove()
    assert (drawn[1] == 0).all()
    assert largest_difference(drawn[[0, 2]], whole[[0, 2]]) <= 1


def test_latents_that_are_not_finite_are_black_even_where_the_decoder_makes_a_picture_of_them(tmp_path):
    config = replace(
        tiny_arc2face.make(tmp_path), decoder="tiny", decoder_path=tiny_arc2face.make_tiny_decoder(tmp_path)
    )
    decoder = Arc2FaceGenerator(config, STEPS)._autoencoder
    latents = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    latents[1, 2, 0, 0] = torch.inf  # a tiny decoder begins by squeezing its input between -3 and 3
    with torch.no_grad():
        assert torch.isfinite(latent_diffusion.decode(decoder, latents, 2)).all()
        drawn = latent_diffusion.paint(decoder, latents, 2)
    assert (drawn[1] == 0).all()
    assert drawn[0].std() > 5


def test_a_picture_that_overflows_half_precision_in_the_decoder_is_decoded_again_in_float32(generator):
    wide = generator._autoencoder
    latents = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    narrow, _ = AutoencoderKL.from_config(wide.config), wide.config
    narrow.load_state_dict(wide.state_dict())
    # Values far above 65504 pass through here; a group norm brings them back before the end.
    for network in (narrow, wide):
        network.decoder.conv_in.weight.data *= 1e5
    expected = latent_diffusion.paint(wide, latents, 1)
    drawn = latent_diffusion.paint(narrow.half(), latents, 1)
    wide.decoder.conv_in.weight.data /= 1e5
    assert expected.std() > 5
    assert largest_difference(drawn, expected) <= 2


def test_embeddings_of_another_dimension_are_refused(generator):
    with pytest.raises(ValueError, match=r"expected embeddings \[B, 512\]"):
        generator.generate(embeddings(2)[:, :128], [1, 2])


def test_guidance_one_means_none(config):
    row = embeddings(1)
    drawn = Arc2FaceGenerator(config, STEPS, 1.0).generate(row, [3])[0]
    solver = DPMSolverMultistepScheduler.from_config(tiny_arc2face.SCHEDULER)
    assert largest_difference(drawn, picture_by_hand(config, row[0], 3, solver, STEPS, 1.0)) <= 1


def test_fast_takes_four_consistency_steps_with_the_adapter_merged_in(config, tmp_path):
    tiny_arc2face.make_lora(tmp_path / "lora.safetensors", Path(config.path).parent)
    fast = replace(config, fast=True, lora_path=str(tmp_path / "lora.safetensors"))
    generator, row = Arc2FaceGenerator(fast), embeddings(1)
    assert "LCMScheduler 4 steps, guidance 1," in generator.fingerprint
    # By hand: the weights with scale * up @ down added, written back as a model of its own.
    tensors, adapter = (
        load_file(f"{config.path}/arc2face/diffusion_pytorch_model.safetensors"),
        load_file(fast.lora_path),
    )
    for key, down in adapter.items():
        if key.endswith(".lora_down.weight"):
            up = adapter[key.replace("lora_down", "lora_up")]
            [name] = [n for n in tensors if f"lora_unet_{n.replace('.', '_')}" == key.split(".")[0] + "_weight"]
            tensors[name] += 1.0 / 2 * torch.einsum("or,r...->o...", up.flatten(1), down)
    unet = UNet2DConditionModel.from_pretrained(f"{config.path}/arc2face")
    unet.load_state_dict(tensors)
    unet.save_pretrained(tmp_path / "model/arc2face")
    (tmp_path / "model/encoder").symlink_to(f"{config.path}/encoder")
    merged = replace(config, path=str(tmp_path / "model"))
    solver = LCMScheduler.from_config(tiny_arc2face.SCHEDULER)
    drawn = generator.generate(row, [3])[0]
    assert largest_difference(drawn, picture_by_hand(merged, row[0], 3, solver, 4, 1.0)) <= 1
    plain = picture_by_hand(config, row[0], 3, solver, 4, 1.0)
    assert largest_difference(drawn, plain) > 5


def test_a_fast_picture_does_not_depend_on_its_batch(config, tmp_path):
    tiny_arc2face.make_lora(tmp_path / "lora.safetensors", Path(config.path).parent)
    generator = Arc2FaceGenerator(replace(config, fast=True, lora_path=str(tmp_path / "lora.safetensors")))
    rows, seeds = embeddings(4), [5, 6, 7, 8]
    together = generator.generate(rows, seeds)
    for i in range(4):
        assert largest_difference(together[i], generator.generate(rows[[i]], [seeds[i]])[0]) <= 1


def test_decoding_one_by_one_gives_the_same_pictures(config, generator):
    sliced = Arc2FaceGenerator(replace(config, decoder="sliced"), STEPS)
    rows, seeds = embeddings(3), [1, 2, 3]
    assert largest_difference(sliced.generate(rows, seeds), generator.generate(rows, seeds)) <= 1


def test_a_tiny_decoder_takes_the_place_of_the_base_models(config, tmp_path, generator):
    folder = tiny_arc2face.make_tiny_decoder(tmp_path / "tiny")
    tiny = Arc2FaceGenerator(replace(config, decoder="tiny", decoder_path=folder), STEPS)
    assert (tiny.image_size, tiny.generate(embeddings(1), [1]).shape) == (64, (1, 64, 64, 3))
    assert tiny.fingerprint != generator.fingerprint


def test_a_compiled_denoiser_is_asked_for_by_configuration_only(config, generator):
    assert generator._unet._compiled_call_impl is None
    assert Arc2FaceGenerator(replace(config, compile=True), STEPS)._unet._compiled_call_impl is not None


def test_bfloat16_draws_nearly_the_same_picture_on_a_cpu(config, generator):
    rough = Arc2FaceGenerator(replace(config, precision="bfloat16", channels_last=False), STEPS)
    assert {p.dtype for p in rough._unet.parameters()} == {torch.bfloat16}
    rows, seeds = embeddings(2), [1, 2]
    difference = rough.generate(rows, seeds).astype(float) - generator.generate(rows, seeds)
    assert np.abs(difference).mean() < 5


def test_float16_is_refused_on_a_cpu(config):
    with pytest.raises(ModelError, match=r"arc2face\.precision: float16 needs a GPU"):
        Arc2FaceGenerator(replace(config, precision="float16"), device="cpu")


def test_more_steps_than_the_solver_has_are_refused(config, tmp_path):
    tiny_arc2face.make_lora(tmp_path / "lora.safetensors", Path(config.path).parent)
    fast = replace(config, fast=True, lora_path=str(tmp_path / "lora.safetensors"))
    with pytest.raises(ModelError, match=r"synthesis\.diffusion_steps: must be between 1 and 50 .* it is 51"):
        Arc2FaceGenerator(fast, 51)
