"""The rules of a configuration that its types cannot express."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hyperface.config.capacity import plan_rules
from hyperface.config.control import control_rules
from hyperface.config.knobs import SHA256, Rule, is_sha256
from hyperface.config.later_rules import later_rules
from hyperface.config.publish import publish_rules
from hyperface.config.schema import Arc2FaceConfig, Config, PackingConfig, flat
from hyperface.config.vec2face import vec2face_rules
from hyperface.errors import ConfigError

LARGEST = 10**12
"""No number but a seed may be above it, so that products of a few of them are still numbers of float32 and int64."""

_LONGEST_SHOWN = 300


def check(config: Config) -> None:
    """Raise ConfigError naming every rule that does not hold."""
    _refuse(flat(config), _rules(config))


def _refuse(values: Mapping[str, Any], rules: Iterable[Rule]) -> None:
    broken = [f"{key} {rule}; it is {_shown(values[key])}" for key, holds, rule in rules if not holds]
    if broken:
        raise ConfigError("\n".join(broken))


def _shown(value: Any) -> str:
    """As it is written, but for a password in an address."""
    shown = re.sub(r"//[^/@\s]*@", "//***@", repr(value))
    shown = re.sub(r"s3://[^/]*[:@*].*", "s3://***'", shown)
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."


def _rules(c: Config) -> Iterator[Rule]:
    """Every rule that a type cannot express."""
    yield "run.dir", bool(c.run.dir), "is required: a local directory or s3://bucket/prefix, e.g. run.dir=runs/demo"
    bare = not re.match(r"s3://[^/]*[:@]", c.run.dir)
    rule = "must name no user or password: write s3://bucket/prefix; credentials come from the standard AWS chain only"
    yield "run.dir", bare, rule
    yield "run.seed", 0 <= c.run.seed < 2**63, "must be at least 0 and below 2^63"
    web = ("http://", "https://")
    endpoint = not c.storage.endpoint_url or c.storage.endpoint_url.startswith(web)
    yield "storage.endpoint_url", endpoint, "must begin with http:// or https://, or be empty for the AWS default"
    secret = "@" in c.storage.endpoint_url
    rule = "must name no user or password: credentials come from the standard AWS chain only"
    yield "storage.endpoint_url", not secret, rule
    yield "storage.patience_s", c.storage.patience_s >= 0, "must be at least 0 seconds (0: never tried again)"
    yield "cluster.num_cpus", c.cluster.num_cpus >= 0, "must be at least 0 (0: all)"
    onnx = c.recognizer.kind == "onnx"
    yield "recognizer.path", bool(c.recognizer.path) or not onnx, "is required when recognizer.kind=onnx"
    rule = f"{SHA256} when recognizer.kind=onnx"
    yield "recognizer.sha256", is_sha256(c.recognizer.sha256) or not onnx, rule
    judged = c.judge.kind == "onnx"
    yield "judge.path", bool(c.judge.path) or not judged, "is required when judge.kind=onnx"
    yield "judge.sha256", is_sha256(c.judge.sha256) or not judged, f"{SHA256} when judge.kind=onnx"
    same = bool(c.judge.sha256) and c.judge.sha256.lower() == c.recognizer.sha256.lower()
    rule = "must be another file than the recogniser's, or it would judge its own work; or judge.kind=none"
    yield "judge.sha256", not (same and onnx and judged), rule
    toy = c.embed.source == "toy"
    yield "embed.source", not (toy and onnx), "`toy` renders 64x64 faces for the toy recogniser; give real face images"
    yield "embed.num_faces", c.embed.num_faces >= (1 if toy else 0), "must be at least 1 for embed.source=toy, else 0"
    yield "embed.identity_spread", 0 < c.embed.identity_spread <= 1, "must be above 0 and at most 1"
    yield "embed.batch_size", c.embed.batch_size >= 1, "must be at least 1"
    yield "embed.max_bad_fraction", 0 <= c.embed.max_bad_fraction <= 1, "must be between 0 and 1"
    yield from _packing_rules(c.packing)
    if toy and c.packing.start == "gallery":
        rule = f"must not exceed embed.num_faces={c.embed.num_faces}: draw more faces or pack fewer identities"
        yield "packing.num_identities", c.embed.num_faces >= c.packing.num_identities, rule
    yield from _synthesis_rules(c)
    yield from control_rules(c.control, c.synthesis.generator, c.synthesis.alignment, c.recognizer.kind)
    yield from later_rules(c)
    yield from plan_rules(c.plan)
    yield from publish_rules(c.publish)
    yield "dataset.jpeg_quality", 1 <= c.dataset.jpeg_quality <= 100, "must be between 1 and 100"
    for key, value in flat(c).items():
        if isinstance(value, float):
            yield key, math.isfinite(value), "must be a finite number"
        if not key.endswith(".seed"):
            yield key, all(abs(number) <= LARGEST for number in _numbers(value)), f"must be at most {LARGEST:g} in size"
        if key.endswith(("num_actors", "max_failures", "gpus_per_actor", "gpus_per_worker")):
            yield key, value >= 0, "must be at least 0"
        if key.startswith("report."):
            yield key, value >= 1, "must be at least 1"


def _numbers(value: Any) -> Iterator[float]:
    """Every number in a value but infinities, which have a rule of their own."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _numbers(part)
    elif isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        yield value


def check_packing(config: PackingConfig) -> None:
    """Raise ConfigError naming every rule that does not hold, for a packing outside a run."""
    _refuse({f"packing.{key}": value for key, value in flat(config).items()}, _packing_rules(config))


def _packing_rules(p: PackingConfig) -> Iterator[Rule]:
    n, b = p.num_identities, p.batch_identities
    yield "packing.num_identities", n >= 2, "must be at least 2: one identity has no neighbour"
    yield "packing.alpha", p.alpha >= 0, "must be at least 0"
    free = p.alpha == 0 and not (p.frozen or p.protected)
    for key, wanted in (("start", p.start == "algebraic"), ("restarts", p.restarts > 1), ("polish", p.polish)):
        rule = "is for the free problem: it needs packing.alpha=0, no packing.frozen and no packing.protected"
        yield f"packing.{key}", free or not wanted, rule
    yield "packing.start_cosine", -0.99 <= p.start_cosine < 1, "must be at least -0.99 and below 1"
    yield "packing.start_candidates", p.start_candidates >= 1, "must be at least 1"
    yield "packing.steps", p.steps >= 0, "must be at least 0"
    yield "packing.learning_rate", 0 < p.learning_rate <= 1, "must be above 0 and at most 1"
    yield "packing.target_cosine", -1 <= p.target_cosine < 1, "must be at least -1 (take all steps) and below 1"
    yield "packing.patience", p.patience >= 0, "must be at least 0 (take all steps)"
    yield "packing.batch_identities", b == 0 or 2 <= b <= n, "must be 0 (all) or between 2 and packing.num_identities"
    for key, wanted in (("target_cosine", p.target_cosine > -1), ("patience", p.patience > 0)):
        rule = "needs packing.batch_identities=0: a step of a random choice does not see all pairs"
        yield f"packing.{key}", b == 0 or not wanted, rule
    yield "packing.neighbours_every", p.neighbours_every >= 1, "must be at least 1"
    yield "packing.restarts", p.restarts >= 1, "must be at least 1"
    one = p.num_workers == 1 or (p.restarts == 1 and not p.polish)
    yield "packing.num_workers", one, "must be 1 with packing.restarts or packing.polish, which are for small problems"
    yield "packing.first_identity", p.first_identity >= 0, "must be at least 0"
    rule = f"plus packing.first_identity={p.first_identity} must not exceed 10000000: a key gives an identity 7 digits"
    yield "packing.num_identities", p.first_identity + n <= 10_000_000, rule
    yield "packing.protected_cosine", -0.99 <= p.protected_cosine < 1, "must be at least -0.99 and below 1"
    yield "packing.checkpoint_every", p.checkpoint_every >= 1, "must be at least 1"
    yield "packing.num_workers", 1 <= p.num_workers <= n, "must be between 1 and packing.num_identities"
    rule = "must be between 0 (all of them) and packing.num_workers"
    yield "packing.min_workers", 0 <= p.min_workers <= p.num_workers, rule
    shared = p.num_workers > 1 and 0 < p.gpus_per_worker < 1
    yield "packing.gpus_per_worker", not shared, "must be 0 or at least 1 with several workers (NCCL)"


def _synthesis_rules(c: Config) -> Iterator[Rule]:
    s, real = c.synthesis, c.synthesis.generator == "arc2face"
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
    judged = c.judge.kind == "onnx" or (c.judge.kind == "auto" and c.recognizer.kind == "toy")
    rule = "needs a judge: set judge.kind=onnx, judge.path and judge.sha256"
    yield "synthesis.min_judge_cosine", judged or s.min_judge_cosine == -1, rule
    yield "synthesis.min_sharpness", s.min_sharpness >= 0, "must be at least 0 (not looked at)"
    yield (
        "synthesis.min_hash_distance",
        0 <= s.min_hash_distance <= 64,
        "must be between 0 (not looked for) and 64 bits",
    )
    yield "synthesis.max_shard_attempts", s.max_shard_attempts >= 1, "must be at least 1"
    if real:
        yield from _arc2face_rules(c.arc2face)
    if s.generator == "vec2face":
        yield from vec2face_rules(c.vec2face)


def _arc2face_rules(a: Arc2FaceConfig) -> Iterator[Rule]:
    yield "arc2face.path", bool(a.path), "is required: a directory with arc2face/ and encoder/, or FoivosPar/Arc2Face"
    yield "arc2face.base_path", bool(a.base_path), "is required: a directory of Stable Diffusion 1.5, or its hub name"
    yield "arc2face.sha256", not a.sha256 or is_sha256(a.sha256), "must be empty or 64 hex digits"
    yield "arc2face.lora_path", bool(a.lora_path) or not a.fast, "is required for arc2face.fast: the LCM-LoRA weights"
    tiny = a.decoder == "tiny"
    yield "arc2face.decoder_path", bool(a.decoder_path) or not tiny, "is required for arc2face.decoder=tiny"
