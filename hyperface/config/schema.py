"""The keys of a configuration: frozen dataclasses, a docstring under each field.

A field built with `knob` steers how a run executes (workers, devices, addresses) and never what it writes; every other
field is part of the run's identity: a run directory refuses to be resumed when one of those differs.
"""

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from hyperface.config.capacity import PlanConfig
from hyperface.config.control import ControlConfig
from hyperface.config.knobs import knob
from hyperface.config.later import AuditConfig, EvaluateConfig, ExperimentConfig, GeneratorKind, TrainConfig
from hyperface.config.publish import PublishConfig
from hyperface.config.vec2face import TrainGeneratorConfig, Vec2FaceConfig


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
    patience_s: float = knob(120.0)
    """Seconds for which a request is tried again while the store is unreachable or answers with a server error. A job
    that has never reached it gives up after a few."""


@dataclass(frozen=True)
class ClusterConfig:
    address: str = knob("")
    """Address of a running Ray cluster; empty: the job's own cluster, else a Ray started in this process."""
    num_cpus: int = knob(0)
    """CPUs of a Ray started in this process; 0: all of the machine."""
    log_format: Literal["text", "json"] = knob("text")
    """Of what a job says: lines for people, or a JSON object a line, with the run, the stage, the shard and the attempt
    that it is about."""
    tensorboard: bool = knob(False)
    """Also write curves for TensorBoard: `tensorboard --logdir RUN/tensorboard`."""


@dataclass(frozen=True)
class RecognizerConfig:
    kind: Literal["toy", "onnx"] = "toy"
    """`toy`: the shipped recogniser of the toy world; `onnx`: an ArcFace-style model from `recognizer.path`."""
    path: str = knob("")
    """The ONNX file. InsightFace's published models are licensed for non-commercial research only."""
    sha256: str = ""
    """Expected SHA-256 of the file; required for `onnx`."""


@dataclass(frozen=True)
class JudgeConfig:
    kind: Literal["auto", "none", "onnx"] = "auto"
    """A second recogniser, which only measures. `auto`: the toy world's own where recognizer.kind=toy, else none;
    `onnx`: an ArcFace-style model from `judge.path`, trained by other means than the recogniser."""
    path: str = knob("")
    """The ONNX file of the judge."""
    sha256: str = ""
    """Expected SHA-256 of the file; required for `onnx`."""


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
    """Of the networks. On a CPU use float32."""
    channels_last: bool = True
    """Memory format of the networks; faster on GPUs."""
    compile: bool = False
    """Compile the denoiser with torch.compile: minutes at start, faster afterwards."""
    decoder: Literal["full", "sliced", "tiny"] = "full"
    """Latents to pixels: eight images at once, one at a time (less memory), or a tiny autoencoder (faster, softer)."""
    decoder_path: str = knob("")
    """Directory of the tiny autoencoder; required for `arc2face.decoder=tiny`."""


@dataclass(frozen=True)
class EmbedConfig:
    source: str = "toy"
    """`toy`: rendered faces; else a folder of images, *.tar or *.tar.gz (WebDataset) or *.parquet, local or s3://."""
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
    start: Literal["gallery", "random", "algebraic", "rejection", "pca"] = "gallery"
    """Where references begin: gallery embeddings (paper), random points, the best algebraic code (alpha=0 only), or
    Vec2Face's samples, of which no two are near each other: of random directions (`rejection`), or of features from a
    normal distribution fitted to the gallery's (`pca`). With packing.steps=0 the sample is the references."""
    start_cosine: float = 0.3
    """`rejection`, `pca`: the largest cosine between two identities of the start (Vec2Face: 0.3 and 0.4 both seen)."""
    start_candidates: int = knob(20)
    """`rejection`, `pca`: candidates, for each identity, after which a sample is given up."""
    steps: int = 20
    """Optimisation steps; 0: the references are the start itself. A few repair a biased gallery, and trained better
    students of the toy world than hundreds did, which pack much tighter."""
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


Format = Literal["parquet", "webdataset"]


@dataclass(frozen=True)
class DatasetConfig:
    format: Literal["webdataset", "parquet", "both"] = "webdataset"
    """File format of the shards."""
    jpeg_quality: int = 95
    """Quality of the JPEG images, 1 to 100."""

    @property
    def formats(self) -> tuple[Format, ...]:
        """The file formats of each shard."""
        return ("parquet", "webdataset") if self.format == "both" else (self.format,)


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
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    arc2face: Arc2FaceConfig = field(default_factory=Arc2FaceConfig)
    vec2face: Vec2FaceConfig = field(default_factory=Vec2FaceConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    packing: PackingConfig = field(default_factory=PackingConfig)
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    control: ControlConfig = field(default_factory=ControlConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    train_generator: TrainGeneratorConfig = field(default_factory=TrainGeneratorConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    publish: PublishConfig = field(default_factory=PublishConfig)


LATER = ("train", "train_generator", "evaluate", "audit", "experiment", "plan", "publish")
"""Sections of what is done with a finished dataset: no part of a run's identity, and none of older runs."""

ADDED = ("control", "vec2face")
"""Sections that runs from before they existed lack: those had what their defaults say."""


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """The configuration as {"section.key": value}."""
    out: dict[str, Any] = {}
    for f in fields(config):
        value, key = getattr(config, f.name), prefix + f.name
        out.update(flat(value, key + ".") if is_dataclass(value) else {key: value})
    return out
