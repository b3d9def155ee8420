"""The section `train_generator`: a generator that is trained on the dataset, Vec2Face's network."""

from dataclasses import dataclass
from typing import Literal

from hyperface.config.fields import Rules, knob, number
from hyperface.config.vec2face import mask_rules


@dataclass(frozen=True)
class TrainGeneratorConfig:
    name: str = knob("vec2face")
    """Name of the training; its files are under generator/NAME/ of the run."""
    data: str = knob("")
    """Data to train on; empty: the run's own dataset. Else other runs (several, separated by commas, make one dataset),
    or one folder made by others: an ImageFolder, or InsightFace's RecordIO (train.rec and train.idx)."""
    recognizer: Literal["recognizer", "trained"] = "recognizer"
    """Recogniser whose features images are made from: the run's recogniser, or the training `train.name` of the run.
    The term `perceptual` compares maps of its network, which an ONNX file does not name."""
    size: Literal["small", "base", "large", "huge"] = "base"
    """Size of the network. Images may have any size that is a multiple of 16 pixels."""
    epochs: int = number(50, at_least=1)
    """Passes over the dataset (the published code: 400). The last step is the result."""
    batch_size: int = number(64, at_least=1)
    """Images of a step, over all workers."""
    streams: int = number(32, at_least=1)
    """Places of the epoch's order from which a batch is read at once, each by one worker: the most workers that a
    training can ever have."""
    learning_rate: float = number(4e-5, above=0)
    """Learning rate of AdamW, after the warm-up; it falls along half a cosine to 0. Vec2Face takes 4e-5 for 112 images
    of a step."""
    weight_decay: float = number(0.01, at_least=0)
    """Weight decay of AdamW: of products and convolutions, none of normalisations, biases and positions."""
    warmup_epochs: float = 1.0
    """Epochs in which the learning rate grows from 0 (the published code: 40)."""
    clip_norm: float = number(2.0, at_least=0, least="not cut")
    """Largest norm of the gradient; 0: not cut."""
    dropout: float = number(0.1, at_least=0, below=1)
    """Dropout of the transformer blocks. Each worker draws its own: with it a training by another number of workers is
    not the same, though as good."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Precision of the forward and backward pass; losses and updates are float32."""
    flip: float = number(0.0, at_least=0, at_most=1, noun="a probability")
    """Probability that an image is mirrored; its feature is that of the mirrored one."""
    mask_min: float = 0.5
    """Smallest share of the tokens that is masked; so many are hidden from the encoder, always."""
    mask_max: float = number(1.0, at_most=1)
    """Largest share of the tokens that is masked."""
    mask_mean: float = 0.75
    """Centre of the normal distribution that the share of an image is drawn from, cut at both ends."""
    mask_std: float = number(0.25, above=0)
    """Standard deviation of the normal distribution that the share of an image is drawn from."""
    pixel: float = number(1.0, at_least=0)
    """Weight of the squared error of pixels."""
    perceptual: float = number(0.2, at_least=0)
    """Weight of the distance of the recogniser's feature maps. Vec2Face takes LPIPS, whose weights nobody may need to
    fetch here."""
    ssim: float = number(0.1, at_least=0)
    """Weight of 1 - SSIM."""
    token: float = number(1.0, at_least=0)
    """Weight of the squared error of the tokens."""
    identity: float = number(1.0, at_least=0)
    """Weight of 1 - cosine of the recogniser's features of the image that was made and the one that was wanted."""
    adversarial: float = number(0.0, at_least=0)
    """Weight of a discriminator of patches, against the gradient of the other terms (Vec2Face: 0.8); 0: none."""
    adversarial_from: float = number(0.5, at_least=0, at_most=1)
    """Share of the training after which the discriminator takes part."""
    seed: int = number(0, at_least=0, below=2**63)
    """Seed of the initial weights, the order of the images, masks and dropout."""
    checkpoint_every: int = knob(500, at_least=1)
    """Steps between checkpoints; there is one after each epoch as well."""
    num_workers: int = knob(1)
    """Ray Train workers among which batches are divided. How many they are changes rounding only, without dropout."""
    min_workers: int = knob(0)
    """Start, or go on, with so few workers when there is no room for num_workers; 0: wait for all of them."""
    gpus_per_worker: float = knob(0.0, at_least=0)
    """GPUs that each worker reserves; above 0 gradients travel on NCCL, else on gloo."""
    loader_threads: int = knob(2, at_least=1)
    """Threads of each worker that read and decode images ahead of the network."""
    max_failures: int = knob(3, at_least=0)
    """Worker failures after which the training gives up; each restarts from the last checkpoint."""


def train_generator_rules(t: TrainGeneratorConfig) -> Rules:
    section = "train_generator"
    learns = any((t.pixel, t.perceptual, t.ssim, t.token, t.identity))
    yield f"{section}.pixel", learns, "must be above 0, or another term of the loss must"
    late = t.adversarial == 0 or t.adversarial_from < 1
    yield f"{section}.adversarial_from", late, f"must be below 1 where {section}.adversarial is to take part"
    yield from mask_rules(section, t.mask_min, t.mask_max, t.mask_mean, t.mask_std)
