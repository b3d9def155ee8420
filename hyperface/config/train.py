"""The section `train`: a recogniser that is trained on the dataset, its recipes, and the rules of all trainings."""

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from hyperface.config.fields import Rules, knob, number
from hyperface.config.train_generator import TrainGeneratorConfig


@dataclass(frozen=True)
class TrainConfig:
    recipe: Literal["arcface_r50", "adaface_r50", "toy"] = "arcface_r50"
    """Name of the defaults that all keys of this section have: IResNet-50 with ArcFace as in this literature, the same
    with AdaFace and its augmentation, or a small network for the 64x64 images of the toy world."""
    name: str = knob("student")
    """Name of the training; its files are under recognition/NAME/ of the run."""
    data: str = knob("")
    """Data to train on; empty: the run's own dataset. Else other runs (several, separated by commas, make one dataset),
    or one folder made by others: an ImageFolder, or InsightFace's RecordIO (train.rec and train.idx)."""
    backbone: Literal["iresnet18", "iresnet50", "iresnet100", "small"] = "iresnet50"
    """The network that is trained. It takes images of the size that the dataset has."""
    squeeze_excitation: bool = False
    """Channel attention in each block of an IResNet (the `IR-SE` variant)."""
    embedding_dim: int = number(512, at_least=2)
    """Dimensions of the embedding."""
    dropout: float = number(0.0, at_least=0, below=1)
    """Share of the features before the last layer that is dropped in training."""
    head: Literal["arcface", "cosface", "adaface"] = "arcface"
    """The margin softmax."""
    scale: float = number(64.0, above=0)
    """Factor of the cosines, before the softmax."""
    margin: float = number(0.5, at_least=0, below=1.5)
    """Margin of the head: an angle in radians (arcface), a cosine (cosface), or the largest of either (adaface)."""
    sample_rate: float = number(1.0, above=0, at_most=1)
    """Share of the class centres that take part in a step (Partial FC), besides those of the batch."""
    epochs: int = number(26, at_least=1)
    """Passes over the dataset. The last one is the result."""
    batch_size: int = number(512, at_least=2, reason="batch normalisation needs two images")
    """Images of a step, over all workers."""
    streams: int = number(32, at_least=1)
    """Places of the epoch's order from which a batch is read at once, each by one worker: the most workers that a
    training can ever have. The order of the images depends on it, and not on the number of workers."""
    learning_rate: float = number(0.1, above=0)
    """Learning rate of SGD, after the warm-up."""
    momentum: float = number(0.9, at_least=0, below=1)
    """Momentum of SGD (Nesterov's is not used)."""
    weight_decay: float = number(5e-4, at_least=0)
    """Weight decay of convolutions, last layer and class centres; none of normalisation and activation."""
    warmup_epochs: float = 1.0
    """Epochs in which the learning rate grows from 0."""
    schedule: Literal["steps", "cosine"] = "steps"
    """Way in which the learning rate falls: by a factor of 10 at each of `train.milestones`, or along half a cosine to
    0."""
    milestones: list[int] = field(default_factory=lambda: [12, 20, 24])
    """Epochs at which the learning rate falls; as AdaFace's recipe has them."""
    clip_norm: float = number(5.0, at_least=0, least="not cut")
    """Largest norm of the backbone's gradient; 0: not cut."""
    precision: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Precision of the backbone's forward and backward pass. Margins, centres and updates are float32."""
    flip: float = number(0.5, at_least=0, at_most=1, noun="a probability")
    """Probability that an image is mirrored."""
    erasing: float = number(0.1, at_least=0, at_most=1, noun="a probability")
    """Probability that a rectangle of an image is overwritten with noise (random erasing)."""
    crop: float = number(0.2, at_least=0, at_most=1, noun="a probability")
    """Probability that only a crop of an image is shown, the rest being black (AdaFace's augmentation)."""
    low_resolution: float = number(0.2, at_least=0, at_most=1, noun="a probability")
    """Probability that an image is made small and large again (AdaFace's augmentation)."""
    photometric: float = number(0.2, at_least=0, at_most=1, noun="a probability")
    """Probability that brightness, contrast and saturation are changed (AdaFace's augmentation)."""
    seed: int = number(0, at_least=0, below=2**63)
    """Seed of the initial weights, the order of the images and the augmentation."""
    checkpoint_every: int = knob(1000, at_least=1)
    """Steps between checkpoints; there is one after each epoch as well."""
    num_workers: int = knob(1)
    """Ray Train workers among which batches, and class centres, are divided."""
    min_workers: int = knob(0)
    """Start, or go on, with so few workers when there is no room for num_workers; 0: wait for all of them."""
    gpus_per_worker: float = knob(0.0, at_least=0)
    """GPUs that each worker reserves; above 0 gradients travel on NCCL, else on gloo."""
    loader_threads: int = knob(2, at_least=1)
    """Threads of each worker that read and decode images ahead of the network."""
    max_failures: int = knob(3, at_least=0)
    """Worker failures after which the training gives up; each restarts from the last checkpoint."""


ARCFACE_R50: dict[str, Any] = {}
"""The defaults themselves, which most papers on synthetic faces train, as AdaFace's repository does on CASIA-WebFace
(SGD 0.1, momentum 0.9, weight decay 5e-4, 26 epochs, a tenth at 12, 20 and 24) with ArcFace (Deng et al., CVPR 2019: s
64, m 0.5). The probabilities of the augmentations are AdaFace's; that of random erasing is ours."""

ADAFACE_R50: dict[str, Any] = {"head": "adaface", "margin": 0.4, "erasing": 0.0}
"""Defaults of AdaFace (Kim, Jain and Liu, CVPR 2022): m 0.4."""

TOY: dict[str, Any] = {
    "backbone": "small",
    "embedding_dim": 128,
    "head": "cosface",
    "scale": 32.0,
    "margin": 0.3,
    "epochs": 40,
    "batch_size": 128,
    "streams": 4,
    "schedule": "cosine",
    "erasing": 0.0,
    "crop": 0.0,
    "low_resolution": 0.0,
    "photometric": 0.2,
    "precision": "float32",
}
"""Defaults for a few minutes on one core with a few thousand 64 x 64 images."""

RECIPES = {"arcface_r50": ARCFACE_R50, "adaface_r50": ADAFACE_R50, "toy": TOY}


def training_rules(section: str, t: TrainConfig | TrainGeneratorConfig) -> Rules:
    """Yield the rules of a section that has the keys of both trainings."""
    named = bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", t.name))
    yield f"{section}.name", named, "must be letters, digits, . _ or -"
    rule = f"must be a multiple of {section}.streams={t.streams}, each of which gives an equal part"
    yield f"{section}.batch_size", t.streams < 1 or t.batch_size % t.streams == 0, rule
    rule = f"must be between 1 and {section}.streams={t.streams}: a stream belongs to one worker"
    yield f"{section}.num_workers", 1 <= t.num_workers <= t.streams, rule
    rule = f"must be between 0 (all) and {section}.num_workers"
    yield f"{section}.min_workers", 0 <= t.min_workers <= t.num_workers, rule
    shared = t.num_workers > 1 and 0 < t.gpus_per_worker < 1
    yield f"{section}.gpus_per_worker", not shared, "must be 0 or at least 1 with several workers (NCCL)"
    yield f"{section}.warmup_epochs", 0 <= t.warmup_epochs <= t.epochs, f"must be between 0 and {section}.epochs"


def train_rules(t: TrainConfig) -> Rules:
    taken = t.name in ("recognizer", "judge") or t.name.startswith("onnx-")
    yield "train.name", not taken, "names the record of another model (recognizer, judge, onnx-...); take another name"
    yield "train.squeeze_excitation", not (t.squeeze_excitation and t.backbone == "small"), "needs an IResNet"
    yield "train.dropout", t.dropout == 0 or t.backbone != "small", "needs an IResNet"
    alone = max(t.num_workers, 1) * 2 > t.batch_size
    yield "train.num_workers", t.num_workers == 1 or not alone, "must leave each worker two images of a batch"
    ascending = t.milestones == sorted(set(t.milestones)) and all(m >= 1 for m in t.milestones)
    yield "train.milestones", ascending, "must be ascending epochs of at least 1, e.g. [12,20,24]"
    late = t.schedule == "steps" and any(m >= t.epochs for m in t.milestones)
    rule = f"must be below train.epochs={t.epochs}, or the learning rate would not fall, e.g. [5,8,9] for 10 epochs"
    yield "train.milestones", not late, rule
