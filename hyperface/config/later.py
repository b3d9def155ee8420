"""The keys of what is done with a finished dataset: train on it, evaluate what was trained, audit it, compare.

No part of a run's identity: one dataset may be trained on in many ways. Fields that are no knobs decide the result of
their own stage, and are recorded with it.
"""

from dataclasses import dataclass, field
from typing import Literal

from hyperface.config.knobs import knob

GeneratorKind = Literal["toy_render", "toy_diffusion", "arc2face", "vec2face"]


@dataclass(frozen=True)
class TrainConfig:
    recipe: Literal["arcface_r50", "adaface_r50", "toy"] = "arcface_r50"
    """Which defaults all keys of this section have: IResNet-50 with ArcFace as in this literature, the same with
    AdaFace and its augmentation, or a small network for the 64x64 images of the toy world."""
    name: str = knob("student")
    """Name of the training; its files are under recognition/NAME/ of the run."""
    data: str = knob("")
    """What to train on; empty: the run's own dataset. Else other runs (several, separated by commas, make one dataset),
    or one folder made by others: an ImageFolder, or InsightFace's RecordIO (train.rec and train.idx)."""
    backbone: Literal["iresnet18", "iresnet50", "iresnet100", "small"] = "iresnet50"
    """The network that is trained. It takes images of the size that the dataset has."""
    squeeze_excitation: bool = False
    """Channel attention in each block of an IResNet (the `IR-SE` variant)."""
    embedding_dim: int = 512
    """Dimensions of the embedding."""
    dropout: float = 0.0
    """Share of the features before the last layer that is dropped in training."""
    head: Literal["arcface", "cosface", "adaface"] = "arcface"
    """The margin softmax."""
    scale: float = 64.0
    """Of the cosines, before the softmax."""
    margin: float = 0.5
    """Of the head: an angle in radians (arcface), a cosine (cosface), or the largest of either (adaface)."""
    sample_rate: float = 1.0
    """Share of the class centres that take part in a step (Partial FC), besides those of the batch."""
    epochs: int = 26
    """Passes over the dataset. The last one is the result."""
    batch_size: int = 512
    """Images of a step, over all workers."""
    streams: int = 32
    """Places of the epoch's order from which a batch is read at once, each by one worker: the most workers that a
    training can ever have. The order of the images depends on it, and not on the number of workers."""
    learning_rate: float = 0.1
    """Of SGD, after the warm-up."""
    momentum: float = 0.9
    """Of SGD (Nesterov's is not used)."""
    weight_decay: float = 5e-4
    """Of convolutions, last layer and class centres; none of normalisation and activation."""
    warmup_epochs: float = 1.0
    """Epochs in which the learning rate grows from 0."""
    schedule: Literal["steps", "cosine"] = "steps"
    """How the learning rate falls: by a factor of 10 at each of `train.milestones`, or along half a cosine to 0."""
    milestones: list[int] = field(default_factory=lambda: [12, 20, 24])
    """Epochs at which the learning rate falls; as AdaFace's recipe has them."""
    clip_norm: float = 5.0
    """Largest norm of the backbone's gradient; 0: not cut."""
    precision: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Of the backbone's forward and backward pass. Margins, centres and updates are float32."""
    flip: float = 0.5
    """Probability that an image is mirrored."""
    erasing: float = 0.1
    """Probability that a rectangle of an image is overwritten with noise (random erasing)."""
    crop: float = 0.2
    """Probability that only a crop of an image is shown, the rest being black (AdaFace's augmentation)."""
    low_resolution: float = 0.2
    """Probability that an image is made small and large again (AdaFace's augmentation)."""
    photometric: float = 0.2
    """Probability that brightness, contrast and saturation are changed (AdaFace's augmentation)."""
    seed: int = 0
    """Of the initial weights, the order of the images and the augmentation."""
    checkpoint_every: int = knob(1000)
    """Steps between checkpoints; there is one after each epoch as well."""
    num_workers: int = knob(1)
    """Ray Train workers among which batches, and class centres, are divided."""
    min_workers: int = knob(0)
    """Start, or go on, with so few workers when there is no room for num_workers; 0: wait for all of them."""
    gpus_per_worker: float = knob(0.0)
    """GPUs that each worker reserves; above 0 gradients travel on NCCL, else on gloo."""
    loader_threads: int = knob(2)
    """Threads of each worker that read and decode images ahead of the network."""
    max_failures: int = knob(3)
    """Worker failures after which the training gives up; each restarts from the last checkpoint."""


@dataclass(frozen=True)
class EvaluateConfig:
    model: Literal["trained", "recognizer", "judge", "onnx"] = "trained"
    """Whose embeddings are verified: the training `train.name` of this run, the run's recogniser, its judge, or the
    file `evaluate.path`."""
    path: str = knob("")
    """An ONNX file; required for evaluate.model=onnx."""
    sha256: str = ""
    """Expected SHA-256 of the file; required for evaluate.model=onnx."""
    color_order: Literal["RGB", "BGR"] = "RGB"
    """Order of the channels that evaluate.model=onnx takes. InsightFace's take RGB, AdaFace's BGR."""
    pixel_mean: float = 127.5
    """Subtracted from each grey level, for evaluate.model=onnx."""
    pixel_std: float = 127.5
    """By which the difference is divided, for evaluate.model=onnx."""
    benchmarks: list[str] = knob([])
    """What to verify on: `toy` (the toy world's held-out sets), files of InsightFace's form (lfw.bin), or lists of
    pairs (pairs.txt, LFW's form or `path path 0|1` a line) beside the images they name. Empty, as is evaluate.ijb:
    the toy world's sets, where the network takes their 64x64 images."""
    ijb: list[str] = knob([])
    """Folders of IJB-B or IJB-C: `loose_crop/` and `meta/`, as InsightFace distributes them."""
    batch_size: int = knob(64)
    """Images per forward pass."""
    gpus: float = knob(0.0)
    """GPUs that the evaluation, or the audit, reserves for what is not shared among actors."""


@dataclass(frozen=True)
class AuditConfig:
    against: list[str] = knob([])
    """Real faces that no image may copy, besides the run's gallery and `packing.protected`: runs of jobs.embed, with
    the same recogniser, or tables of embeddings (.parquet, .npy)."""
    classes: Literal["folder", "each"] = "folder"
    """Which real faces are of one person: those of one folder in their keys (faces without a folder are each a person
    of their own), or none."""
    false_accept_rate: float = 1e-4
    """Share of pairs of different real people above the cosine from which on a pair is counted as alike."""
    controls: int = 50
    """Real faces that are copied (mirrored, shifted, compressed) and audited as if they were synthetic: what share of
    such leaks is found."""
    top_pairs: int = 24
    """Pairs of a synthetic and a real face, most alike first, that are recorded with their pictures."""
    attributes: Literal["auto", "none", "toy", "onnx", "labels"] = "auto"
    """What spread is measured of: traits read from images (`toy`: by the toy world's own reader, `onnx`: by
    `audit.attribute_path`), or the table `audit.labels`. `auto`: toy where recognizer.kind=toy, else none."""
    attribute_path: str = knob("")
    """An ONNX model of aligned faces to numbers [batch, attributes]; required for audit.attributes=onnx."""
    attribute_sha256: str = ""
    """Expected SHA-256 of the file; required for audit.attributes=onnx."""
    attribute_names: list[str] = field(default_factory=list)
    """Names of the model's numbers; required for audit.attributes=onnx."""
    labels: str = knob("")
    """A CSV file: a column `identity` or `key`, and a column for each attribute; required for
    audit.attributes=labels."""
    num_actors: int = knob(0)
    """Actors that embed the images; 0: one per available CPU (or GPU)."""
    gpus_per_actor: float = knob(0.0)
    """GPUs that each of them reserves."""
    max_failures: int = knob(3)
    """Times a shard is tried again after its actor died, before the job fails."""


@dataclass(frozen=True)
class ExperimentConfig:
    seeds: int = knob(3)
    """Repeats, each with a gallery, a packing, images and a student of its own; more may be added later."""
    alphas: list[float] = knob([0.0, 0.5, 1.0])
    """Weights of the gallery term that are compared, each with each of `experiment.steps`."""
    steps: list[int] = knob([20, 400])
    """Numbers of packing steps that are compared."""
    objectives: list[Literal["closest_pair", "nearest", "logsumexp"]] = knob(["closest_pair"])
    """Other values of packing.separation that are compared, at packing.alpha and packing.steps."""
    samples: list[Literal["rejection", "pca"]] = knob([])
    """Of Vec2Face's samples, those that are compared, with packing.start_cosine."""
    generators: list[GeneratorKind] = knob([])
    """Generators besides synthesis.generator by which each way to choose identities is drawn as well."""
    mixture: bool = knob(False)
    """Compare also half the identities by the packing and synthesis.generator with half by Vec2Face's sample `pca` and
    the last of experiment.generators that is another one."""
    biased_spread: float = 0.3
    """Share of each identity trait's range that the biased gallery is drawn from; the diverse one has all of it."""
    folds: int = knob(10)
    """Of each test set; fewer are drawn and verified sooner, and no experiment goes on with other test sets."""
    num_actors: int = knob(0)
    """Repeats of arms that are worked on at a time; 0: one per available CPU."""
    max_failures: int = knob(3)
    """Times a repeat is tried again after its actor died, before the job fails."""
