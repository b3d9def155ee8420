"""Vec2Face as published, with random weights: the names and shapes of its file, written out without our network."""

import argparse
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from hyperface.config import Vec2FaceConfig
from hyperface.models.vec2face_network import SIZES, Architecture

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def both(name: str, *shape: int) -> Shapes:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def blocks(name: str, count: int, width: int) -> Shapes:
    for i in range(count):
        for norm in ("norm1", "norm2"):
            yield from both(f"{name}.{i}.{norm}", width)
        yield from both(f"{name}.{i}.attn.qkv", 3 * width, width)
        yield from both(f"{name}.{i}.attn.proj", width, width)
        yield from both(f"{name}.{i}.mlp.fc1", 4 * width, width)
        yield from both(f"{name}.{i}.mlp.fc2", width, 4 * width)


def residual(name: str, inputs: int, outputs: int) -> Shapes:
    yield from both(f"{name}.norm1", inputs)
    yield f"{name}.conv1.weight", (outputs, inputs, 3, 3)
    yield from both(f"{name}.norm2", outputs)
    yield f"{name}.conv2.weight", (outputs, outputs, 3, 3)
    if inputs != outputs:
        yield f"{name}.nin_shortcut.weight", (outputs, inputs, 1, 1)


def image_decoder(latent: int, finest_first: tuple[int, ...], residuals: int) -> Shapes:
    top = finest_first[-1]
    yield from both("im_decoder.conv_in", top, latent, 3, 3)
    for number in (1, 2):
        yield from residual(f"im_decoder.mid.block_{number}", top, top)
    inputs = top
    for level in reversed(range(len(finest_first))):
        for number in range(residuals):
            yield from residual(f"im_decoder.up.{level}.block.{number}", inputs, finest_first[level])
            inputs = finest_first[level]
        if level:
            yield from both(f"im_decoder.up.{level}.upsample.conv", inputs, inputs, 3, 3)
    yield from both("im_decoder.norm_out", inputs)
    yield from both("im_decoder.conv_out", 3, inputs, 3, 3)


def published_shapes(
    width: int, depth: int, dim: int = 512, tokens: int = 49, decoder_depth: int = 8, latent: int = 256,
    finest_first: tuple[int, ...] = (128, 128, 256, 256, 512), residuals: int = 2,
) -> dict[str, tuple[int, ...]]:  # fmt: skip
    """Return the shapes of the network that the paper calls base: width 768, depth 12."""

    def listed() -> Shapes:
        yield "decoder_pos_embed_learned", (1, 1 + tokens, width)
        yield "token_emb.position_ids", (1, 1 + tokens)
        yield "token_emb.position_embeddings.weight", (1 + tokens, width)
        yield from both("token_emb.LayerNorm", width)
        yield from both("latent_prior_proj_f", width, dim)
        yield from both("feature_token", tokens, 1)
        yield from both("center_token", tokens, width)
        yield from image_decoder(latent, finest_first, residuals)
        yield from both("im_decoder_proj", latent, width)
        yield from both("patch_embed.proj", width, 3, 16, 16)
        yield from blocks("blocks", depth, width)
        yield from both("norm", width)
        yield from both("decoder_embed", width, width)
        yield from blocks("decoder_blocks", decoder_depth, width)
        yield from both("decoder_norm", width)

    return dict(listed())


def small_shapes() -> dict[str, tuple[int, ...]]:
    a: Architecture = SIZES["small"]
    finest_first = tuple(reversed(a.channels))
    return published_shapes(
        a.width, a.depth, a.embedding_dim, a.tokens, a.decoder_depth, a.latent, finest_first, a.residuals
    )


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    for name, tensor in made.items():
        if name.endswith("weight") and tensor.dim() == 1:
            tensor.add_(1)  # normalisations near 1, or their signal dies
    made["token_emb.position_ids"] = torch.arange(shapes["token_emb.position_ids"][1])[None]
    return made


def save(tensors: dict[str, Tensor], path: Path, size: str = "small", **changes: object) -> Vec2FaceConfig:
    """A file as the published training writes it, and the configuration that names it."""
    sink = io.BytesIO()
    torch.save({"model_vec2face": tensors, "epoch": 3, "args": argparse.Namespace(lr=1e-4)}, sink)
    path.write_bytes(sink.getvalue())
    return named(path, size, **changes)


def named(path: Path, size: str = "small", **changes: object) -> Vec2FaceConfig:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Vec2FaceConfig(**{"path": str(path), "sha256": sha256, "size": size, **changes})  # type: ignore[arg-type]
