"""The keys of Vec2Face, as a generator and as what `jobs.train_generator` trains, and their rules."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from hyperface.config.knobs import SHA256, Rule, is_sha256, knob


@dataclass(frozen=True)
class Vec2FaceConfig:
    path: str = knob("")
    """The weights: what `jobs.train_generator` wrote (.safetensors), or published ones (.pth, read as tensors only);
    on this machine or s3://. The published ones are licensed for non-commercial research only."""
    sha256: str = ""
    """Expected SHA-256 of the file; required."""
    size: Literal["small", "base", "large", "huge"] = "base"
    """Of the network: `base`, `large` and `huge` as published (112 x 112 images), `small` for the toy world."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the network's products. Half precision is faster on a GPU; float16 needs one."""
    norm: float = 22.0
    """Length of the features that published weights were trained with: what a reference without a recorded norm is
    brought to. Weights by `jobs.train_generator` know theirs."""
    mask_min: float = 0.1
    """Smallest share of the tokens that is masked (Vec2Face's own, like the three that follow)."""
    mask_max: float = 1.0
    """Largest share of the tokens that is masked."""
    mask_mean: float = 0.15
    """Centre of the normal distribution that the share of an image is drawn from, cut at both ends."""
    mask_std: float = 0.25
    """Its standard deviation."""


@dataclass(frozen=True)
class TrainGeneratorConfig:
    name: str = knob("vec2face")
    """Name of the training; its files are under generator/NAME/ of the run."""
    data: str = knob("")
    """What to train on; empty: the run's own dataset. Else other runs (several, separated by commas, make one dataset),
    or one folder made by others: an ImageFolder, or InsightFace's RecordIO (train.rec and train.idx)."""
    recognizer: Literal["recognizer", "trained"] = "recognizer"
    """Whose features images are made from: the run's recogniser, or the training `train.name` of the run. The term
    `perceptual` compares maps of its network, which an ONNX file does not name."""
    size: Literal["small", "base", "large", "huge"] = "base"
    """Of the network. Images may have any size that is a multiple of 16 pixels."""
    epochs: int = 50
    """Passes over the dataset (the published code: 400). The last step is the result."""
    batch_size: int = 64
    """Images of a step, over all workers."""
    streams: int = 32
    """Places of the epoch's order from which a batch is read at once, each by one worker: the most workers that a
    training can ever have."""
    learning_rate: float = 4e-5
    """Of AdamW, after the warm-up; falls along half a cosine to 0. Vec2Face takes 4e-5 for 112 images of a step."""
    weight_decay: float = 0.01
    """Of AdamW: of products and convolutions, none of normalisations, biases and positions."""
    warmup_epochs: float = 1.0
    """Epochs in which the learning rate grows from 0 (the published code: 40)."""
    clip_norm: float = 2.0
    """Largest norm of the gradient; 0: not cut."""
    dropout: float = 0.1
    """Of the transformer blocks. Each worker draws its own: with it a training by another number of workers is not the
    same, though as good."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the forward and backward pass; losses and updates are float32."""
    flip: float = 0.0
    """Probability that an image is mirrored; its feature is that of the mirrored one."""
    mask_min: float = 0.5
    """Smallest share of the tokens that is masked; so many are hidden from the encoder, always."""
    mask_max: float = 1.0
    """Largest share of the tokens that is masked."""
    mask_mean: float = 0.75
    """Centre of the normal distribution that the share of an image is drawn from, cut at both ends."""
    mask_std: float = 0.25
    """Its standard deviation."""
    pixel: float = 1.0
    """Weight of the squared error of pixels."""
    perceptual: float = 0.2
    """Weight of the distance of the recogniser's feature maps. Vec2Face takes LPIPS, whose weights nobody may need to
    fetch here."""
    ssim: float = 0.1
    """Weight of 1 - SSIM."""
    token: float = 1.0
    """Weight of the squared error of the tokens."""
    identity: float = 1.0
    """Weight of 1 - cosine of the recogniser's features of the image that was made and the one that was wanted."""
    adversarial: float = 0.0
    """Weight of a discriminator of patches, against the gradient of the other terms (Vec2Face: 0.8); 0: none."""
    adversarial_from: float = 0.5
    """Share of the training after which the discriminator takes part."""
    seed: int = 0
    """Of the initial weights, the order of the images, masks and dropout."""
    checkpoint_every: int = knob(500)
    """Steps between checkpoints; there is one after each epoch as well."""
    num_workers: int = knob(1)
    """Ray Train workers among which batches are divided. How many they are changes rounding only, without dropout."""
    min_workers: int = knob(0)
    """Start, or go on, with so few workers when there is no room for num_workers; 0: wait for all of them."""
    gpus_per_worker: float = knob(0.0)
    """GPUs that each worker reserves; above 0 gradients travel on NCCL, else on gloo."""
    loader_threads: int = knob(2)
    """Threads of each worker that read and decode images ahead of the network."""
    max_failures: int = knob(3)
    """Worker failures after which the training gives up; each restarts from the last checkpoint."""


def vec2face_rules(v: Vec2FaceConfig) -> Iterator[Rule]:
    """Of `synthesis.generator=vec2face`."""
    yield (
        "vec2face.path",
        bool(v.path),
        "is required: weights of jobs.train_generator (.safetensors), or published ones",
    )
    yield "vec2face.sha256", is_sha256(v.sha256), SHA256
    yield "vec2face.norm", v.norm > 0, "must be above 0"
    yield from mask_rules("vec2face", v)


def mask_rules(section: str, c: Vec2FaceConfig | TrainGeneratorConfig) -> Iterator[Rule]:
    yield f"{section}.mask_min", 0 <= c.mask_min < c.mask_max, f"must be at least 0 and below {section}.mask_max"
    yield f"{section}.mask_max", c.mask_max <= 1, "must be at most 1"
    yield f"{section}.mask_std", c.mask_std > 0, "must be above 0"
    near = c.mask_min - 3 * c.mask_std <= c.mask_mean <= c.mask_max + 3 * c.mask_std
    rule = f"must be within 3 {section}.mask_std of what {section}.mask_min and mask_max leave"
    yield f"{section}.mask_mean", near, rule
