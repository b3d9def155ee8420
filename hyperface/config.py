"""The configuration: frozen dataclasses, a docstring under each field; load, check, compare. Only home of omegaconf.

A field built with `knob` steers how a run executes (workers, devices, addresses) and never what it writes; every other
field is part of the run's identity: a run directory refuses to be resumed when one of those differs.
"""

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


class ConfigError(ValueError):
    """A configuration that cannot be used. The message names the key, the rule, the value and the fix."""


def knob(default: Any) -> Any:
    """A field that changes how a run executes but no byte of its dataset."""
    return field(default=default, metadata={"knob": True})


@dataclass(frozen=True)
class RunConfig:
    dir: str = knob("")
    """Where the run lives: a local directory, file:///path or s3://bucket/prefix. Required."""
    seed: int = 0
    """Seed of everything random in the run."""


@dataclass(frozen=True)
class StorageConfig:
    endpoint_url: str = knob("")
    """S3 endpoint; empty: AWS_ENDPOINT_URL, else AWS itself. Credentials come from the standard AWS chain only."""
    region: str = knob("")
    """S3 region; empty: the standard AWS chain."""
    addressing_style: Literal["auto", "path", "virtual"] = knob("auto")
    """How S3 requests name the bucket; self-hosted gateways usually want `path`."""


@dataclass(frozen=True)
class ClusterConfig:
    address: str = knob("")
    """Address of a running Ray cluster; empty: the job's own cluster, else a Ray started in this process."""
    num_cpus: int = knob(0)
    """CPUs of a Ray started in this process; 0: all of the machine."""


@dataclass(frozen=True)
class RecognizerConfig:
    kind: Literal["toy", "onnx"] = "toy"
    """`toy`: the shipped recogniser of the toy world; `onnx`: an ArcFace-style model from `recognizer.path`."""
    path: str = knob("")
    """The ONNX file. InsightFace's published models are licensed for non-commercial research only."""
    sha256: str = ""
    """Expected SHA-256 of the file; required for `onnx`."""


@dataclass(frozen=True)
class EmbedConfig:
    source: str = "toy"
    """`toy`: rendered faces; else a folder of images, *.tar (WebDataset) or *.parquet, local or s3://."""
    num_faces: int = 2000
    """Faces to embed: rendered (`toy`), or the first so many of the source; 0: all of the source."""
    identity_spread: float = 1.0
    """`toy` only: share (0..1] of each identity trait's range that is drawn from; small: a biased gallery."""
    batch_size: int = 64
    """Images per forward pass of the recogniser."""
    max_bad_fraction: float = knob(0.01)
    """Stop when more than this share of the images is unreadable, misshapen, duplicate or without embedding."""
    num_actors: int = knob(0)
    """Recogniser actors; 0: one per available CPU (or GPU)."""
    gpus_per_actor: float = knob(0.0)
    """GPUs that each recogniser actor reserves."""
    max_failures: int = knob(3)
    """Times a chunk of faces is tried again after its actor died, before the job fails."""


@dataclass(frozen=True)
class PackingConfig:
    num_identities: int = 1000
    """Identities to pack, besides those of `packing.frozen`."""
    separation: Literal["closest_pair", "nearest", "logsumexp"] = "logsumexp"
    """What is minimised: cosine of the closest pair (paper), mean nearest cosine, or a soft maximum of all pairs."""
    alpha: float = 0.5
    """Weight of the term that keeps references near gallery embeddings (HyperFace, ICLR 2025: 0.5); 0: none."""
    start: Literal["gallery", "random", "algebraic"] = "gallery"
    """Where references begin: gallery embeddings (paper), random points, or the best algebraic code (alpha=0 only)."""
    steps: int = 500
    """Optimisation steps; 0: the references are the start itself."""
    learning_rate: float = 0.01
    """Step size of Adam on the embeddings; `logsumexp` scales it with its falling temperature. 0.01 is recalled from
    the paper, not verified."""
    target_cosine: float = -1.0
    """Stop as soon as no two identities are closer than this cosine; -1: take all steps."""
    patience: int = 0
    """Stop when the best objective so far is so many steps old; 0: take all steps."""
    batch_identities: int = 0
    """Identities that move in a step, a random choice; 0: all of them."""
    batch_against: Literal["all", "batch"] = "all"
    """What the identities of a random choice keep away from: all others (packs tighter in equal time), or each other
    only (Algorithm 2 of the paper)."""
    neighbours_every: int = 10
    """Steps between searches for the nearest gallery and protected rows of each identity; 1: each step."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the products of a step and of the rows that workers exchange. `bfloat16` is twice as fast where the processor
    has it; `logsumexp` takes its coldest steps in float32 all the same. Reported numbers are always float32."""
    restarts: int = 1
    """Small free problems only: pack from so many random starts as one batch, and keep the tightest."""
    polish: bool = False
    """Small free problems only: refine the result to machine precision at the end."""
    frozen: str = ""
    """References of an existing dataset (.parquet or .npy; several, separated by commas), which stay as they are:
    identities keep away from them."""
    first_identity: int = 0
    """Number of the first identity. A run that makes a dataset larger starts where the finished part ends, so that
    labels, keys and seeds of the parts never collide."""
    protected: str = ""
    """Embeddings of real people (.parquet or .npy) by the same recogniser, that no reference may come near to."""
    protected_cosine: float = 0.3
    """The largest cosine between a reference and a protected embedding. Images scatter around their reference and are
    not held to it."""
    checkpoint_every: int = knob(200)
    """Steps between checkpoints."""
    num_workers: int = knob(1)
    """Ray Train workers among which the references are sharded by rows."""
    min_workers: int = knob(0)
    """Start, or go on, with so few workers when there is no room for num_workers; 0: wait for all of them."""
    gpus_per_worker: float = knob(0.0)
    """GPUs that each packing worker reserves; above 0 the all-gather runs on NCCL, else on gloo."""
    max_failures: int = knob(3)
    """Worker failures after which packing gives up; each restarts from the last checkpoint."""


@dataclass(frozen=True)
class SynthesisConfig:
    generator: Literal["toy_render", "toy_diffusion"] = "toy_render"
    """`toy_render`: inverse graphics, fast; `toy_diffusion`: a small conditional latent diffusion model."""
    images_per_identity: int = 8
    """Images of each identity (the paper: 64)."""
    images_per_shard: int = 256
    """Images per shard: the unit of work, retry, resume and storage."""
    beta: float = 0.01
    """Noise on the reference for each image, Algorithm 3: normalise(x + beta v). 0.01 is recalled, not verified."""
    batch_size: int = 32
    """Images per call of the generator; fixed by the plan so that a shard's bytes can be reproduced."""
    diffusion_steps: int = 8
    """Sampling steps of a diffusion generator."""
    guidance: float = 1.5
    """Classifier-free guidance of a diffusion generator; 1: none."""
    min_cosine: float = 0.3
    """An image whose cosine to its reference is below this is drawn again."""
    max_attempts: int = 3
    """Draws of one image; after the last it is recorded as a reject."""
    num_actors: int = knob(0)
    """Generator actors; 0: one per available CPU (or GPU)."""
    gpus_per_actor: float = knob(0.0)
    """GPUs that each generator actor reserves."""
    max_failures: int = knob(3)
    """Times a shard is tried again after its actor died, before the job fails."""
    repair: bool = knob(False)
    """Make again, and replace, shards that are truncated, foreign or damaged. Otherwise they stop the job."""


@dataclass(frozen=True)
class DatasetConfig:
    format: Literal["webdataset", "parquet", "both"] = "webdataset"
    """File format of the shards."""
    jpeg_quality: int = 95
    """Quality of the JPEG images, 1 to 100."""


@dataclass(frozen=True)
class ReportConfig:
    max_images: int = knob(4000)
    """Images that are read back and embedded by recogniser and judge for the report."""
    grid_identities: int = knob(10)
    """Rows of the face grids."""
    grid_images: int = knob(8)
    """Columns of the face grids."""


@dataclass(frozen=True)
class Config:
    run: RunConfig = field(default_factory=RunConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    recognizer: RecognizerConfig = field(default_factory=RecognizerConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    packing: PackingConfig = field(default_factory=PackingConfig)
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    report: ReportConfig = field(default_factory=ReportConfig)


def _rules(c: Config) -> Iterator[tuple[str, bool, str]]:
    """(key, holds, rule) for every rule that a type cannot express."""
    yield "run.dir", bool(c.run.dir), "is required: a local directory or s3://bucket/prefix, e.g. run.dir=runs/demo"
    yield "run.seed", 0 <= c.run.seed < 2**63, "must be at least 0 and below 2^63"
    web = ("http://", "https://")
    endpoint = not c.storage.endpoint_url or c.storage.endpoint_url.startswith(web)
    yield "storage.endpoint_url", endpoint, "must begin with http:// or https://, or be empty for the AWS default"
    yield "cluster.num_cpus", c.cluster.num_cpus >= 0, "must be at least 0 (0: all)"
    onnx = c.recognizer.kind == "onnx"
    yield "recognizer.path", bool(c.recognizer.path) or not onnx, "is required when recognizer.kind=onnx"
    yield (
        "recognizer.sha256",
        len(c.recognizer.sha256) == 64 or not onnx,
        ("must be the 64 hex digits of the file's SHA-256 (`sha256sum FILE`) when recognizer.kind=onnx"),
    )
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
    yield "synthesis.images_per_identity", 1 <= c.synthesis.images_per_identity <= 10_000, "must be between 1 and 10000"
    yield "synthesis.images_per_shard", c.synthesis.images_per_shard >= 1, "must be at least 1"
    yield "synthesis.beta", c.synthesis.beta >= 0, "must be at least 0"
    yield "synthesis.batch_size", c.synthesis.batch_size >= 1, "must be at least 1"
    yield "synthesis.diffusion_steps", c.synthesis.diffusion_steps >= 1, "must be at least 1"
    yield "synthesis.guidance", c.synthesis.guidance >= 1, "must be at least 1 (1: no guidance)"
    yield "synthesis.min_cosine", -1 <= c.synthesis.min_cosine <= 1, "must be between -1 and 1"
    yield "synthesis.max_attempts", c.synthesis.max_attempts >= 1, "must be at least 1"
    yield "dataset.jpeg_quality", 1 <= c.dataset.jpeg_quality <= 100, "must be between 1 and 100"
    for key, value in flat(c).items():
        if isinstance(value, float):
            yield key, math.isfinite(value), "must be a finite number"
        if key.endswith(("num_actors", "max_failures", "gpus_per_actor", "gpus_per_worker")):
            yield key, value >= 0, "must be at least 0"
        if key.startswith("report."):
            yield key, value >= 1, "must be at least 1"


def check_packing(config: PackingConfig) -> None:
    """Raise ConfigError naming every rule that does not hold, for a packing outside a run."""
    _refuse({f"packing.{key}": value for key, value in flat(config).items()}, _packing_rules(config))


def _packing_rules(p: PackingConfig) -> Iterator[tuple[str, bool, str]]:
    n, b = p.num_identities, p.batch_identities
    yield "packing.num_identities", n >= 2, "must be at least 2: one identity has no neighbour"
    yield "packing.alpha", p.alpha >= 0, "must be at least 0"
    free = p.alpha == 0 and not (p.frozen or p.protected)
    for key, wanted in (("start", p.start == "algebraic"), ("restarts", p.restarts > 1), ("polish", p.polish)):
        rule = "is for the free problem: it needs packing.alpha=0, no packing.frozen and no packing.protected"
        yield f"packing.{key}", free or not wanted, rule
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


def load(path: str | None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file (None: the defaults), apply `key=value` overrides, check.

    Raises:
        ConfigError: unknown key, wrong type, impossible value or unreadable file.
    """
    for override in overrides:
        if "=" not in override:
            raise ConfigError(f"{override}: an override is written key=value, e.g. run.dir=runs/demo")
    try:
        given = OmegaConf.load(path) if path else OmegaConf.create()
        if not OmegaConf.is_dict(given):
            raise ConfigError(f"{path}: must be a YAML mapping of sections, e.g. `run: {{seed: 0}}`")
        merged = OmegaConf.merge(OmegaConf.structured(Config), given, _from_words(overrides))
        config = OmegaConf.to_object(merged)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path or overrides}: is not YAML: {' '.join(str(error).split())}") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key or path}: {str(error.msg or error).splitlines()[0]}") from error
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}; give a YAML file, e.g. jobs/configs/toy.yaml"
        ) from error
    assert isinstance(config, Config)
    check(config)
    return config


def _from_words(overrides: Sequence[str]) -> DictConfig:
    """The `key=value` words. A text is taken as it stands: as YAML, `run.dir=007` would be the number 7."""
    defaults, given = flat(Config()), OmegaConf.create()
    for word in overrides:
        key, _, text = word.partition("=")
        if isinstance(defaults.get(key), str):
            OmegaConf.update(given, key, text)
        else:
            given.merge_with_dotlist([word])
    return given


def check(config: Config) -> None:
    """Raise ConfigError naming every rule that does not hold."""
    _refuse(flat(config), _rules(config))


def _refuse(values: Mapping[str, Any], rules: Iterable[tuple[str, bool, str]]) -> None:
    broken = [f"{key} {rule}; it is {values[key]!r}" for key, holds, rule in rules if not holds]
    if broken:
        raise ConfigError("\n".join(broken))


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """The configuration as {"section.key": value}."""
    out: dict[str, Any] = {}
    for f in fields(config):
        value, key = getattr(config, f.name), prefix + f.name
        out.update(flat(value, key + ".") if is_dataclass(value) else {key: value})
    return out


def identity(config: Config) -> dict[str, Any]:
    """{"section.key": value} of the fields that change what a run writes (everything but the knobs)."""
    values = flat(config)
    for section in fields(config):
        for f in fields(getattr(config, section.name)):
            if f.metadata.get("knob"):
                del values[f"{section.name}.{f.name}"]
    return values


def differences(recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """One line per key whose value differs: `key: recorded -> wanted`."""
    return [
        f"{key}: {recorded.get(key)!r} -> {wanted.get(key)!r}"
        for key in sorted(recorded.keys() | wanted.keys())
        if recorded.get(key) != wanted.get(key)
    ]


def from_yaml(text: str) -> Config:
    """Read what `to_yaml` wrote. Raises ConfigError for anything else, and for a text that was cut."""
    try:
        given = OmegaConf.create(text)
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), given))
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(" ".join(str(error).split())) from error
    missing = [section.name for section in fields(Config) if section.name not in given]
    if missing:
        raise ConfigError(f"the sections {', '.join(missing)} are missing")
    assert isinstance(config, Config)
    return config


def to_yaml(config: Config) -> str:
    """The resolved configuration as YAML, readable by `load` and `from_yaml`."""
    return OmegaConf.to_yaml(OmegaConf.create(asdict(config)))


def local_path(path: str) -> str:
    """A path of the configuration made absolute against the directory the user works in.

    A submitted Ray job runs in an unpacked copy of the working directory that Ray deletes later, so a relative path
    is taken from HYPERFACE_BASE_DIR there (`make demo` sets it on the local cluster).

    Raises:
        ConfigError: relative path in a submitted job without HYPERFACE_BASE_DIR.
    """
    if "://" in path or os.path.isabs(path):
        return path
    base = os.environ.get("HYPERFACE_BASE_DIR")
    if base is None and "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        raise ConfigError(f"{path}: a relative path would be lost with this Ray job; use s3:// or an absolute path")
    return str(Path(base or ".", path).resolve())
