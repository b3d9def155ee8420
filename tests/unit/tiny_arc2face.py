"""A random-weight copy of the published layout, from tiny (seconds on a CPU) to the size of Stable Diffusion 1.5."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from hyperface.config import Arc2FaceConfig

WORDS = ("photo", "of", "a", "id", "person")
SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "skip_prk_steps": True,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "clip_sample": False,
}
TINY: dict[str, dict[str, Any]] = {
    "unet": {
        "sample_size": 8,
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
        "norm_num_groups": 8,
    },
    "vae": {
        "block_out_channels": (16, 16, 32, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "latent_channels": 4,
        "norm_num_groups": 8,
        "sample_size": 64,
    },
    "encoder": {"hidden_size": 768, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 12},
}
SD15: dict[str, dict[str, Any]] = {
    "unet": {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    "vae": {
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": 512,
    },
    "encoder": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
}


def tokenizer_files() -> tuple[dict[str, int], str]:
    """(vocabulary, merges): all bytes, and each word of the prompt as one token."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = [chr(byte) for byte in plain] + [chr(256 + number) for number in range(len(others))]
    vocabulary, merges = [*letters, *(f"{letter}</w>" for letter in letters)], []
    for word in WORDS:
        whole, *rest = [*word[:-1], f"{word[-1]}</w>"]
        for part in rest:
            merges.append(f"{whole} {part}")
            whole += part
            vocabulary.append(whole)
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    return {token: number for number, token in enumerate(dict.fromkeys(vocabulary))}, "\n".join(
        ["#version: 0.2", *dict.fromkeys(merges)]
    ) + "\n"


def make(folder: Path, size: dict[str, dict[str, Any]] = TINY, dtype: torch.dtype = torch.float32) -> Arc2FaceConfig:
    """Write `model/` (arc2face/, encoder/) and `base/` (vae/, tokenizer/, scheduler/); their configuration."""
    torch.manual_seed(0)
    vocabulary, merges = tokenizer_files()
    place(folder / "base/tokenizer/vocab.json", json.dumps(vocabulary))
    place(folder / "base/tokenizer/merges.txt", merges)
    place(folder / "base/scheduler/scheduler_config.json", json.dumps(SCHEDULER))
    ids = {
        f"{name}_token_id": vocabulary[f"<|{token}|>"] for name, token in (("bos", "startoftext"), ("eos", "endoftext"))
    }
    encoder = CLIPTextModel(
        CLIPTextConfig(vocab_size=len(vocabulary), max_position_embeddings=77, **ids, **size["encoder"])
    )
    place(folder / "model/encoder/config.json", json.dumps(encoder.config.to_dict()))
    save(encoder, folder / "model/encoder/model.safetensors", dtype)
    for network, place_ in (
        (UNet2DConditionModel(**size["unet"]), "model/arc2face"),
        (AutoencoderKL(**size["vae"]), "base/vae"),
    ):
        place(folder / place_ / "config.json", json.dumps(dict(network.config)))
        save(network, folder / place_ / "diffusion_pytorch_model.safetensors", dtype)
    return Arc2FaceConfig(path=str(folder / "model"), base_path=str(folder / "base"), precision="float32")


def make_tiny_decoder(folder: Path) -> str:
    """A tiny autoencoder; its folder."""
    torch.manual_seed(1)
    network = AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4,
    )
    place(folder / "config.json", json.dumps(dict(network.config)))
    save(network, folder / "diffusion_pytorch_model.safetensors", torch.float32)
    return str(folder)


def make_lora(path: Path, folder: Path, rank: int = 2, alpha: float = 1.0) -> None:
    """An adapter of every linear and convolutional layer of the denoiser below `folder`, named as the LCM-LoRA is."""
    unet = UNet2DConditionModel.from_config(json.loads((folder / "model/arc2face/config.json").read_text()))
    random, tensors = torch.Generator().manual_seed(2), {}
    for name, layer in unet.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            key, (rows, columns, *kernel) = f"lora_unet_{name.replace('.', '_')}", layer.weight.shape
            tensors[f"{key}.lora_down.weight"] = 0.1 * torch.randn((rank, columns, *kernel), generator=random)
            tensors[f"{key}.lora_up.weight"] = 0.1 * torch.randn((rows, rank, *([1] * len(kernel))), generator=random)
            tensors[f"{key}.alpha"] = torch.tensor(alpha)
    save_file(tensors, path)


def save(network: nn.Module, path: Path, dtype: torch.dtype) -> None:
    save_file({name: tensor.to(dtype).contiguous() for name, tensor in network.state_dict().items()}, path)


def place(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
