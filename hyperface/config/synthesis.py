"""The section `synthesis`: the drawing of images, and the gate that keeps them."""

import math
from dataclasses import dataclass, field
from typing import Literal

from hyperface.config.fields import Rules, file_rules, knob, number

GeneratorKind = Literal["toy_render", "toy_diffusion", "arc2face", "vec2face"]


@dataclass(frozen=True)
class SynthesisConfig:
    generator: GeneratorKind = "toy_render"
    """`toy_render`: inverse graphics, fast; `toy_diffusion`: a small conditional latent diffusion model; `arc2face`:
    real-looking faces, weights by the keys of section `arc2face`; `vec2face`: one pass of a network that
    jobs.train_generator trained, or of a published one, by the keys of section `vec2face`."""
    images_per_identity: int = number(8, at_least=1, at_most=10_000)
    """Images of each identity (the paper: 64)."""
    images_per_shard: int = number(256, at_least=1)
    """Images per shard: the unit of work, retry, resume and storage."""
    variation: Literal["gaussian", "angle", "norm_preserving"] = "gaussian"
    """Rule by which each image departs from its reference: noise of `synthesis.beta` (Algorithm 3 of HyperFace), an
    angle of at most `synthesis.max_angle` (IDperturb), or a mixture of `synthesis.sigmas` (Vec2Face)."""
    beta: float = number(0.01, at_least=0)
    """`gaussian`: normalise(x + beta v), v ~ N(0, I). 0.01 is recalled, not verified."""
    max_angle: float = number(30.0, at_least=0, below=90, unit="degrees")
    """`angle`: the largest angle between an image's embedding and its reference, in degrees, below 90."""
    sigmas: list[float] = field(default_factory=lambda: [0.3, 0.5, 0.7])
    """`norm_preserving`: noise relative to the length of the reference; cosine about 1 / sqrt(1 + sigma^2)."""
    shares: list[float] = field(default_factory=lambda: [0.4, 0.4, 0.2])
    """`norm_preserving`: share of an identity's images that each of `synthesis.sigmas` gets; they add up to 1."""
    batch_size: int = number(32, at_least=1, zero="found by trial")
    """Images per call of the generator, fixed by the plan so that a shard's bytes can be reproduced; 0: found by trial
    when the dataset is begun, and recorded with it."""
    diffusion_steps: int = number(0, at_least=1, zero="the generator's own")
    """Sampling steps of a diffusion generator; 0: its own (toy_diffusion 8, arc2face 25, with arc2face.fast 4)."""
    guidance: float = number(0.0, at_least=1, least="none", zero="the generator's")
    """Classifier-free guidance of a diffusion generator, 1: none; 0: its own (toy_diffusion 1.5, arc2face 3, with
    arc2face.fast 1)."""
    alignment: Literal["none", "landmarks", "template"] = "none"
    """Way from the generator's picture to the recogniser's and the dataset's: `none`, when both have one size; the
    eyes, nose and mouth that `synthesis.detector_path` finds, moved to ArcFace's places; or a fixed crop."""
    detector_path: str = knob("")
    """Face detector with landmarks (SCRFD, .onnx); required for `landmarks`. InsightFace's published detectors are
    licensed for non-commercial research only."""
    detector_sha256: str = ""
    """Expected SHA-256 of the detector's file; required for `landmarks`."""
    max_attempts: int = number(3, at_least=1)
    """Draws of one image; after the last it is recorded as a reject."""
    min_cosine: float = number(0.3, at_least=-1, at_most=1)
    """Gate: an image whose cosine to its reference is below this is drawn again."""
    min_judge_cosine: float = number(-1.0, at_least=-1, at_most=1, least="not asked")
    """Gate: an image is drawn again when its cosine to the identity's anchor (an image of the reference itself, drawn
    once per identity) by the independent judge is below this; -1: the judge is not asked."""
    min_sharpness: float = number(0.0, at_least=0, least="not looked at")
    """Gate: an image whose Laplacian variance (grey levels squared) is below this is drawn again; 0: not looked at."""
    one_face: bool = False
    """Gate: a picture with more than one face is drawn again; needs `synthesis.alignment=landmarks`."""
    min_hash_distance: int = number(0, at_least=0, at_most=64, least="not looked for", unit="bits")
    """Images of an identity whose difference hashes differ in fewer of 64 bits are near-duplicates: all but the first
    are listed in the index, and left out of exports; 0: not looked for."""
    num_actors: int = knob(0, at_least=0)
    """Generator actors; 0: one per available CPU (or GPU)."""
    gpus_per_actor: float = knob(0.0, at_least=0)
    """GPUs that each generator actor reserves."""
    max_shard_attempts: int = knob(3, at_least=1)
    """Times a shard is begun before it is quarantined, when its actor dies each time; the other shards go on."""
    max_failures: int = knob(20, at_least=0)
    """Deaths of actors with no shard finished in between, and one more for each other actor, after which the job
    stops."""
    retry_quarantined: bool = knob(False)
    """Take up quarantined shards again."""
    repair: bool = knob(False)
    """Make again, and replace, shards that are truncated, foreign or damaged. Otherwise they stop the job."""

    @property
    def ships(self) -> bool:
        """Return whether the generator ships with the code, so that it needs no file."""
        return self.generator in ("toy_render", "toy_diffusion")

    @property
    def judged(self) -> bool:
        """Return whether a judge decides which images are kept."""
        return self.min_judge_cosine > -1

    @property
    def finds_duplicates(self) -> bool:
        """Return whether near-duplicates are looked for."""
        return self.min_hash_distance > 0


def synthesis_rules(s: SynthesisConfig, judge: str) -> Rules:
    real = s.generator == "arc2face"
    sigmas = len(s.sigmas) >= 1 and all(math.isfinite(sigma) and sigma >= 0 for sigma in s.sigmas)
    yield "synthesis.sigmas", sigmas, "must be a list of one or more numbers of at least 0, e.g. [0.3,0.5,0.7]"
    shares = len(s.shares) == len(s.sigmas) and all(share >= 0 for share in s.shares) and abs(sum(s.shares) - 1) < 1e-6
    rule = f"must be {len(s.sigmas)} shares, one for each of synthesis.sigmas, adding up to 1"
    yield "synthesis.shares", shares, rule
    landmarks = s.alignment == "landmarks"
    yield "synthesis.alignment", not real or s.alignment != "none", "must be landmarks or template for arc2face"
    when = "for synthesis.alignment=landmarks"
    yield from file_rules("synthesis.detector_", s.detector_path, s.detector_sha256, needed=landmarks, when=when)
    rule = "needs synthesis.alignment=landmarks, which finds the faces"
    yield "synthesis.one_face", landmarks or not s.one_face, rule
    rule = "needs a judge: set judge.kind=onnx, judge.path and judge.sha256"
    yield "synthesis.min_judge_cosine", judge != "none" or not s.judged, rule
