"""The terms that a dataset is under, by what drew and measured it: what is known of the models, and no legal advice."""

from dataclasses import dataclass
from typing import assert_never

from hyperface.config import Config


@dataclass(frozen=True)
class Licence:
    id: str
    """Identifier as the Hugging Face hub writes it; `other` where only the models' own terms are known."""
    name: str
    """Name of a licence `other`; else empty."""
    models: str
    """The known licences of the models, in words."""


OTHER = "other"
TOY = "Images and models are of this product's own toy world: Apache-2.0. The faces are drawings."
TOY_RECOGNIZER = "The recogniser is of this product's own toy world: Apache-2.0."
ONNX = (
    "The recogniser was brought by whoever made this dataset. InsightFace's published models are for non-commercial\n"
    "research only, and so is what is made with them."
)
ARC2FACE = (
    "Drawn by Arc2Face (Papantoniou et al., ECCV 2024), whose weights are for non-commercial research\n"
    "only, on Stable Diffusion 1.5 (CreativeML Open RAIL-M): images made with them are under those terms."
)
VEC2FACE = (
    "Drawn by Vec2Face (Wu et al., ICLR 2025). Its published weights are for non-commercial research\n"
    "only; weights that were trained anew are under the terms of what they were trained on."
)


def licence(config: Config) -> Licence:
    """Return what the images may be used for, as far as the models decide it."""
    generator, real = config.synthesis.generator, config.recognizer.kind == "onnx"
    recognizer = ONNX if real else TOY_RECOGNIZER
    match generator:
        case "toy_render" | "toy_diffusion":
            return Licence(OTHER, "terms-of-the-models", ONNX) if real else Licence("apache-2.0", "", TOY)
        case "arc2face":
            return Licence(OTHER, "non-commercial-research", f"{recognizer}\n\n{ARC2FACE}")
        case "vec2face":
            return Licence(OTHER, "terms-of-the-models", f"{recognizer}\n\n{VEC2FACE}")
    assert_never(generator)  # whoever adds one says here what its images are under


def chosen(config: Config) -> Licence:
    """Return the licence that `publish.license` names, else that of the models."""
    own, wanted = licence(config), config.publish.license
    if wanted in ("", own.id):
        return own
    return Licence(wanted, "of-the-publisher" if wanted == OTHER else "", own.models)


def warning(config: Config) -> str:
    """Return one line where a licence allows what the models' licences may not; empty where it does not."""
    own, wanted = licence(config), config.publish.license
    if own.id != OTHER or not wanted or wanted == OTHER or "nc" in wanted.split("-"):
        return ""
    first = " ".join(own.models.split())
    return f"publish.license={wanted} may allow more than the licences of the models do: {first}"
