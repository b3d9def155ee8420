"""The section `vec2face`: a generator, whose weights `jobs.train_generator` trains or somebody published."""

from dataclasses import dataclass
from typing import Literal

from hyperface.config.fields import SHA256, Rules, is_sha256, knob, number


@dataclass(frozen=True)
class Vec2FaceConfig:
    path: str = knob("")
    """The weights, which `jobs.train_generator` wrote (.safetensors), or published ones (.pth, read as tensors only);
    on this machine or s3://. The published ones are licensed for non-commercial research only."""
    sha256: str = ""
    """Expected SHA-256 of the file; required."""
    size: Literal["small", "base", "large", "huge"] = "base"
    """Size of the network: `base`, `large` and `huge` as published (112 x 112 images), `small` for the toy world."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the network's products. Half precision is faster on a GPU; float16 needs one."""
    norm: float = number(22.0, above=0)
    """Length of the features that published weights were trained with: what a reference without a recorded norm is
    brought to. Weights by `jobs.train_generator` record theirs."""
    mask_min: float = 0.1
    """Smallest share of the tokens that is masked (Vec2Face's own, like the three that follow)."""
    mask_max: float = number(1.0, at_most=1)
    """Largest share of the tokens that is masked."""
    mask_mean: float = 0.15
    """Centre of the normal distribution that the share of an image is drawn from, cut at both ends."""
    mask_std: float = number(0.25, above=0)
    """Standard deviation of the normal distribution that the share of an image is drawn from."""


def vec2face_rules(v: Vec2FaceConfig) -> Rules:
    """Yield the rules of `synthesis.generator=vec2face`."""
    yield (
        "vec2face.path",
        bool(v.path),
        "is required: weights of jobs.train_generator (.safetensors), or published ones",
    )
    yield "vec2face.sha256", is_sha256(v.sha256), SHA256
    yield from mask_rules("vec2face", v.mask_min, v.mask_max, v.mask_mean, v.mask_std)


def mask_rules(section: str, least: float, most: float, mean: float, std: float) -> Rules:
    yield f"{section}.mask_min", 0 <= least < most, f"must be at least 0 and below {section}.mask_max"
    near = least - 3 * std <= mean <= most + 3 * std
    rule = f"must be within 3 {section}.mask_std of what {section}.mask_min and mask_max leave"
    yield f"{section}.mask_mean", near, rule
