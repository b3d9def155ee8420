"""The keys of attribute control, and their rules."""

import math
from dataclasses import dataclass, field
from typing import Literal

from hyperface.config.fields import SHA256, Rules, is_sha256, knob, number


@dataclass(frozen=True)
class ControlConfig:
    targets: dict[str, list[float]] = field(default_factory=dict)
    """Targets that the images of each identity are steered to, by attribute, e.g. `control.targets.yaw=[-15,0,15]`
    (degrees); empty: nothing is steered. The toy world's attributes: yaw and light (degrees) and sharpness (grey
    levels)."""
    shares: dict[str, list[float]] = field(default_factory=dict)
    """Share of an identity's images that each target of an attribute gets, e.g. `control.shares.yaw=[0.25,0.5,0.25]`;
    what they leave of 1 is not steered by it. An attribute without shares: equal ones, of all images."""
    tolerance: dict[str, float] = field(default_factory=dict)
    """Largest distance from its target at which an attribute is met, e.g. `control.tolerance.yaw=5`; else as its reader
    says."""
    steps: int = number(30, at_least=1, at_most=10_000)
    """Largest number of steps for an image (Vec2Face+: 30); one that is met earlier takes no more."""
    learning_rate: float = number(0.1, above=0, below=10)
    """Learning rate of Adam on the embedding, in units of its length / sqrt(dimension) (Vec2Face: 0.1)."""
    identity_cosine: float = number(0.7, at_least=-1, at_most=1)
    """Cosine of an image to its reference, by the recogniser, below which steering costs identity."""
    redraw: bool = True
    """Draw an image that misses a target again, from another seed, while `synthesis.max_attempts` lasts; the draw that
    misses least is kept. False: the first draw that passes the gate is kept."""
    attributes: Literal["auto", "toy", "onnx"] = "auto"
    """Reader of the attributes: the toy world's own reader, or `control.attribute_path`. `auto`: toy where
    recognizer.kind=toy, else onnx."""
    attribute_path: str = knob("")
    """An ONNX model of faces to attributes [batch, attributes], with metadata that says where it can be believed (see
    hyperface/README.md); required where control.attributes is onnx."""
    attribute_sha256: str = ""
    """Expected SHA-256 of the file; required with it."""

    @property
    def steers(self) -> bool:
        """Return whether images are steered."""
        return bool(self.targets)


STEERABLE = ("toy_render", "toy_diffusion", "vec2face")
"""Values of `synthesis.generator` through which gradients pass."""


def control_rules(c: ControlConfig, generator: str, alignment: str, reader: str) -> Rules:
    if not c.steers:
        for key in ("shares", "tolerance"):
            yield f"control.{key}", not getattr(c, key), "needs control.targets: without them nothing is steered"
        return
    filled = all(values and all(map(math.isfinite, values)) for values in c.targets.values())
    yield "control.targets", filled, "must be finite numbers for each attribute, e.g. control.targets.yaw=[-15,0,15]"
    rule = "must be one share for each of the attribute's control.targets, above 0 and at most 1 in all"
    yield "control.shares", _fit(c), rule
    near = all(name in c.targets and math.isfinite(t) and t > 0 for name, t in c.tolerance.items())
    yield "control.tolerance", near, "must be above 0, of attributes that have control.targets"
    rule = f"must be one of {', '.join(STEERABLE)} with control.targets: no gradient passes through others"
    yield "synthesis.generator", generator in STEERABLE, rule
    rule = "must be none with control.targets: no gradient passes through a crop"
    yield "synthesis.alignment", alignment == "none", rule
    onnx = reader == "onnx"
    rule = "must be toy_diffusion or vec2face: toy_render takes yaw, light and blur from the seed alone"
    yield "synthesis.generator", generator != "toy_render" or onnx, rule
    turned = not onnx and bool({"yaw", "light"} & set(c.targets))
    rule = (
        "must be toy_diffusion for the toy world's yaw and light: Vec2Face shows neither there, and fools their reader"
    )
    yield "synthesis.generator", generator != "vec2face" or not turned, rule
    yield "control.attribute_path", bool(c.attribute_path) or not onnx, "is required: the model that reads attributes"
    yield "control.attribute_sha256", is_sha256(c.attribute_sha256) or not onnx, SHA256


def _fit(c: ControlConfig) -> bool:
    def fits(name: str, shares: list[float]) -> bool:
        some = all(math.isfinite(share) and share >= 0 for share in shares) and 0 < sum(shares) <= 1 + 1e-6
        return len(shares) == len(c.targets.get(name, ())) and some

    return all(fits(name, shares) for name, shares in c.shares.items())
