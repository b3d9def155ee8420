"""The section `arc2face`: a generator."""

from dataclasses import dataclass
from typing import Literal

from hyperface.config.fields import Rules, is_sha256, knob


@dataclass(frozen=True)
class Arc2FaceConfig:
    path: str = knob("")
    """Arc2Face's weights: a directory with `arc2face/` and `encoder/`, or a repository of the hub
    (FoivosPar/Arc2Face). They are licensed for non-commercial research only."""
    revision: str = ""
    """Commit of the hub's repository, 40 hex digits; required unless `arc2face.path` is a directory."""
    base_path: str = knob("")
    """Stable Diffusion 1.5 (VAE, tokenizer, scheduler): a directory or a repository of the hub."""
    base_revision: str = ""
    """Commit of the hub's repository of the base; required unless `arc2face.base_path` is a directory."""
    sha256: str = knob("")
    """Expected SHA-256 over all files of the model, the first word of `generator` in an earlier run's
    dataset/fingerprint.json; empty: recorded, not compared."""
    fast: bool = False
    """LCM-LoRA: 4 steps without guidance, several times faster, less varied."""
    lora_path: str = knob("")
    """The LCM-LoRA weights (.safetensors); required for `arc2face.fast`."""
    precision: Literal["float16", "bfloat16", "float32"] = "float16"
    """Precision of the networks. On a CPU use float32."""
    channels_last: bool = True
    """Memory format of the networks; faster on GPUs."""
    compile: bool = False
    """Compile the denoiser with torch.compile: minutes at start, faster afterwards."""
    decoder: Literal["full", "sliced", "tiny"] = "full"
    """Way from latents to pixels: eight images at once, one at a time (less memory), or a tiny autoencoder (faster,
    softer)."""
    decoder_path: str = knob("")
    """Directory of the tiny autoencoder; required for `arc2face.decoder=tiny`."""


def arc2face_rules(a: Arc2FaceConfig) -> Rules:
    yield "arc2face.path", bool(a.path), "is required: a directory with arc2face/ and encoder/, or FoivosPar/Arc2Face"
    yield "arc2face.base_path", bool(a.base_path), "is required: a directory of Stable Diffusion 1.5, or its hub name"
    yield "arc2face.sha256", not a.sha256 or is_sha256(a.sha256), "must be empty or 64 hex digits"
    yield "arc2face.lora_path", bool(a.lora_path) or not a.fast, "is required for arc2face.fast: the LCM-LoRA weights"
    tiny = a.decoder == "tiny"
    yield "arc2face.decoder_path", bool(a.decoder_path) or not tiny, "is required for arc2face.decoder=tiny"
