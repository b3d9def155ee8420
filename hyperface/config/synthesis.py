"""The section `synthesis`: how images are drawn, and which are kept."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from hyperface.config.fields import SHA256, Rule, is_sha256, knob

GeneratorKind = Literal["toy_render", "toy_diffusion", "arc2face", "vec2face"]


@dataclass(frozen=True)
class SynthesisConfig:
    generator: GeneratorKind = "toy_render"
    """`toy_render`: inverse graphics, fast; `toy_diffusion`: a small conditional latent diffusion model; `arc2face`:
    real-looking faces, weights by the keys of section `arc2face`; `vec2face`: one pass of a network that
    jobs.train_generator trained, or of a published one, by the keys of section `vec2face`."""
    images_per_identity: int = 8
    """Images of each identity (the paper: 64)."""
    images_per_shard: int = 256
    """Images per shard: the unit of work, retry, resume and storage."""
    variation: Literal["gaussian", "angle", "norm_preserving"] = "gaussian"
    """How each image departs from its reference: noise of `synthesis.beta` (Algorithm 3 of HyperFace), an angle of at
    most `synthesis.max_angle` (IDperturb), or a mixture of `synthesis.sigmas` (Vec2Face)."""
    beta: float = 0.01
    """`gaussian`: normalise(x + beta v), v ~ N(0, I). 0.01 is recalled, not verified."""
    max_angle: float = 30.0
    """`angle`: the largest angle between an image's embedding and its reference, in degrees, below 90."""
    sigmas: list[float] = field(default_factory=lambda: [0.3, 0.5, 0.7])
    """`norm_preserving`: noise relative to the length of the reference; cosine about 1 / sqrt(1 + sigma^2)."""
    shares: list[float] = field(default_factory=lambda: [0.4, 0.4, 0.2])
    """`norm_preserving`: share of an identity's images that each of `synthesis.sigmas` gets; they add up to 1."""
    batch_size: int = 32
    """Images per call of the generator, fixed by the plan so that a shard's bytes can be reproduced; 0: found by trial
    when the dataset is begun, and recorded with it."""
    diffusion_steps: int = 0
    """Sampling steps of a diffusion generator; 0: its own (toy_diffusion 8, arc2face 25, with arc2face.fast 4)."""
    guidance: float = 0.0
    """Classifier-free guidance of a diffusion generator, 1: none; 0: its own (toy_diffusion 1.5, arc2face 3, with
    arc2face.fast 1)."""
    alignment: Literal["none", "landmarks", "template"] = "none"
    """From the generator's picture to the recogniser's and the dataset's: `none`, when both have one size; the eyes,
    nose and mouth that `synthesis.detector_path` finds, moved to ArcFace's places; or a fixed crop."""
    detector_path: str = knob("")
    """Face detector with landmarks (SCRFD, .onnx); required for `landmarks`. InsightFace's published detectors are
    licensed for non-commercial research only."""
    detector_sha256: str = ""
    """Expected SHA-256 of the detector's file; required for `landmarks`."""
    max_attempts: int = 3
    """Draws of one image; after the last it is recorded as a reject."""
    min_cosine: float = 0.3
    """Gate: an image whose cosine to its reference is below this is drawn again."""
    min_judge_cosine: float = -1.0
    """Gate: an image is drawn again when its cosine to the identity's anchor (an image of the reference itself, drawn
    once per identity) by the independent judge is below this; -1: the judge is not asked."""
    min_sharpness: float = 0.0
    """Gate: an image whose Laplacian variance (grey levels squared) is below this is drawn again; 0: not looked at."""
    one_face: bool = False
    """Gate: a picture with more than one face is drawn again; needs `synthesis.alignment=landmarks`."""
    min_hash_distance: int = 0
    """Images of an identity whose difference hashes differ in fewer of 64 bits are near-duplicates: all but the first
    are listed in the index, and left out of exports; 0: not looked for."""
    num_actors: int = knob(0)
    """Generator actors; 0: one per available CPU (or GPU)."""
    gpus_per_actor: float = knob(0.0)
    """GPUs that each generator actor reserves."""
    max_shard_attempts: int = knob(3)
    """Times a shard is begun before it is quarantined, when its actor dies each time; the other shards go on."""
    max_failures: int = knob(20)
    """Deaths of actors with no shard finished in between, and one more for each other actor, after which the job
    stops."""
    retry_quarantined: bool = knob(False)
    """Take up quarantined shards again."""
    repair: bool = knob(False)
    """Make again, and replace, shards that are truncated, foreign or damaged. Otherwise they stop the job."""


def synthesis_rules(s: SynthesisConfig, *, judged: bool) -> Iterator[Rule]:
    real = s.generator == "arc2face"
    yield "synthesis.images_per_identity", 1 <= s.images_per_identity <= 10_000, "must be between 1 and 10000"
    yield "synthesis.images_per_shard", s.images_per_shard >= 1, "must be at least 1"
    yield "synthesis.beta", s.beta >= 0, "must be at least 0"
    yield "synthesis.max_angle", 0 <= s.max_angle < 90, "must be at least 0 and below 90 degrees"
    sigmas = len(s.sigmas) >= 1 and all(math.isfinite(sigma) and sigma >= 0 for sigma in s.sigmas)
    yield "synthesis.sigmas", sigmas, "must be a list of one or more numbers of at least 0, e.g. [0.3,0.5,0.7]"
    shares = len(s.shares) == len(s.sigmas) and all(share >= 0 for share in s.shares) and abs(sum(s.shares) - 1) < 1e-6
    yield (
        "synthesis.shares",
        shares,
        f"must be {len(s.sigmas)} shares, one for each of synthesis.sigmas, adding up to 1",
    )
    yield "synthesis.batch_size", s.batch_size >= 0, "must be at least 1, or 0 (found by trial)"
    yield "synthesis.diffusion_steps", s.diffusion_steps >= 0, "must be at least 1, or 0 (the generator's own)"
    yield "synthesis.guidance", s.guidance == 0 or s.guidance >= 1, "must be at least 1 (none), or 0 (the generator's)"
    landmarks = s.alignment == "landmarks"
    yield "synthesis.alignment", not real or s.alignment != "none", "must be landmarks or template for arc2face"
    yield (
        "synthesis.detector_path",
        bool(s.detector_path) or not landmarks,
        "is required for synthesis.alignment=landmarks",
    )
    rule = f"{SHA256} for synthesis.alignment=landmarks"
    yield "synthesis.detector_sha256", is_sha256(s.detector_sha256) or not landmarks, rule
    yield (
        "synthesis.one_face",
        landmarks or not s.one_face,
        "needs synthesis.alignment=landmarks, which finds the faces",
    )
    yield "synthesis.max_attempts", s.max_attempts >= 1, "must be at least 1"
    yield "synthesis.min_cosine", -1 <= s.min_cosine <= 1, "must be between -1 and 1"
    yield "synthesis.min_judge_cosine", -1 <= s.min_judge_cosine <= 1, "must be between -1 (not asked) and 1"
    rule = "needs a judge: set judge.kind=onnx, judge.path and judge.sha256"
    yield "synthesis.min_judge_cosine", judged or s.min_judge_cosine == -1, rule
    yield "synthesis.min_sharpness", s.min_sharpness >= 0, "must be at least 0 (not looked at)"
    yield (
        "synthesis.min_hash_distance",
        0 <= s.min_hash_distance <= 64,
        "must be between 0 (not looked for) and 64 bits",
    )
    yield "synthesis.max_shard_attempts", s.max_shard_attempts >= 1, "must be at least 1"
