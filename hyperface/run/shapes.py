"""The shapes of the records of a run, as far as somebody reads them.

A record is held to its shape when it is loaded (`Run.shaped`), so whoever draws it need not doubt it. Keys that are not
named here are let through: records of later versions have more.
"""

import re
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from hyperface.reading.json_text import LARGEST, Rule

BINS = 200
FARS = ("1e-6", "1e-5", "1e-4", "1e-3", "1e-2", "1e-1")
KEY = re.compile("[0-9]{1,18}-[0-9]{1,18}")
SLACK = 1e-3
"""Largest excess of a cosine over 1 by the rounding of float32."""


def has(*keys: str) -> Rule:
    return Rule(f"have {', '.join(keys)}", lambda value: set(keys) <= value.keys())


def within(low: float, high: float, slack: float = 0.0) -> Rule:
    return Rule(f"lie in {low:g} to {high:g}", lambda value: low - slack <= value <= high + slack)


SOME = Rule("not be empty", bool)
TWO = Rule("be two", lambda value: len(value) == 2)

Number = Annotated[float, Rule("be finite and of usual size", lambda value: abs(value) < LARGEST)]
Positive = Annotated[float, Rule("be finite and not negative", lambda value: 0 <= value < LARGEST)]
Share = Annotated[float, within(0, 1, 1e-9)]
Cosine = Annotated[float, within(-1, 1, SLACK)]
Count = Annotated[int, Rule("not be negative", lambda value: value >= 0)]
AtLeastOne = Annotated[int, Rule("be at least 1", lambda value: value >= 1)]
Key = Annotated[str, Rule("look like 0000012-0003", lambda value: bool(KEY.fullmatch(value)))]
Histogram = Annotated[list[Count], Rule(f"be {BINS} counts, one of them above 0", lambda n: len(n) == BINS and any(n))]


class Row(TypedDict):
    """A line of a stage's record: of one event, or of one step of the packing."""

    event: NotRequired[str]
    seconds: NotRequired[Positive]
    faces: NotRequired[Count]
    images: NotRequired[Count]
    key: NotRequired[str]
    problem: NotRequired[str]
    shard: NotRequired[Count]
    rejects: NotRequired[Count]
    failed: NotRequired[str]
    step: NotRequired[Count]
    max_cosine: NotRequired[Cosine]
    mean_nearest_cosine: NotRequired[Cosine | None]
    mean_gallery_cosine: NotRequired[Cosine | None]


class Provenance(TypedDict):
    seed: int
    git_sha: str


class Rows(TypedDict):
    """A table that a packing kept away from."""

    rows: Count


class PackingSummary(TypedDict):
    num_identities: Count
    steps: Count
    seconds: Positive
    max_cosine: Cosine
    bound_cosine: Cosine
    bound_angle_share: Number
    mean_gallery_cosine: NotRequired[Cosine | None]
    frozen: Rows | None
    protected: Rows | None
    max_cosine_within_frozen: Cosine | None
    max_protected_cosine: Cosine | None
    max_protected_cosine_of_frozen: Cosine | None


class Met(TypedDict):
    met: Count
    not_met: Count


class ShardFiles(TypedDict):
    files: list[dict[str, Any]]


class Listing(TypedDict):
    """The part of dataset/index.json that says which files are the dataset."""

    fingerprint: NotRequired[str]
    shards: list[ShardFiles]
    duplicates: NotRequired[list[str]]


class Index(Listing):
    """The content of dataset/index.json."""

    formats: list[str]
    identities: Count
    images_per_identity: Count
    planned_images: Count
    images: Count
    bytes: Count
    mean_cosine: Cosine
    draws: Count
    redraws: Count
    refused: dict[str, Count]
    control: NotRequired[dict[str, Met]]
    rejects: list[Any]
    shortfall: dict[str, Count]


class Distribution(TypedDict):
    """A distribution as `audit/distribution.py` counts it."""

    count: AtLeastOne
    mean: Cosine
    least: Cosine
    most: Cosine
    quantiles: Annotated[dict[str, Cosine], has("0.01", "0.5", "0.99")]
    histogram: Histogram


class References(TypedDict):
    pairs: Distribution
    nearest: Distribution


class AllReferences(TypedDict):
    before: References
    after: References
    to_gallery: Distribution


class Images(TypedDict):
    """Images as one network sees them."""

    identities: Count
    intra: Distribution | None
    inter: Distribution | None
    nearest_other: Distribution | None
    to_centre: Distribution | None
    equal_error_rate: Share | None
    threshold: Cosine | None


class AllImages(TypedDict):
    count: AtLeastOne
    to_reference: Distribution
    by_recognizer: Images
    by_judge: Images | None


class SeparationAsked(TypedDict):
    dataset: str
    recognizer: str
    judge: str | None


class Separation(TypedDict):
    """The content of evaluation/separation.json."""

    asked: SeparationAsked
    references: AllReferences
    images: AllImages


class Face(TypedDict):
    key: Key
    cosine: Cosine | None
    jpeg: str


class FaceRow(TypedDict):
    identity: Count
    mean_cosine: Cosine | None
    same_identity: Cosine | None
    images: list[Face]


class FacePair(TypedDict):
    cosine: Cosine
    images: Annotated[list[Face], TWO]


class Faces(TypedDict):
    """The content of report/faces.json."""

    grid: list[FaceRow]
    closest: list[FacePair]


class Recipe(TypedDict):
    backbone: str
    head: str
    epochs: Count
    squeeze_excitation: bool
    recipe: str


class TrainedOn(TypedDict):
    images: Count
    classes: Count


class Trained(TypedDict):
    """The training of a verified student, as its summary describes it."""

    train: Recipe
    data: TrainedOn


class Model(TypedDict):
    kind: Literal["trained", "recognizer", "judge", "onnx"]
    fingerprint: NotRequired[str]
    training: NotRequired[Trained]


class Accepted(TypedDict):
    tar: Share | None
    reason: NotRequired[str]


class Roc(TypedDict):
    far: list[Share]
    tar: list[Share]


class VerifiedSet(TypedDict):
    source: str
    pairs: Count
    impostors: Count
    accuracy: Share | None
    accuracy_std: Share | None
    eer: Share | None
    roc: Annotated[Roc, Rule("have as many far as tar", lambda value: len(value["far"]) == len(value["tar"]))] | None
    tar_at_far: Annotated[
        dict[str, Annotated[Accepted, Rule("give a tar or a reason", lambda v: v["tar"] is not None or "reason" in v)]],
        has(*FARS),
    ]
    reasons: dict[str, str]


class VerificationAsked(TypedDict):
    sets: list[str]
    keys: dict[str, Any]


def _is_told(model: Model) -> bool:
    wanted = {"trained": "training", "onnx": "fingerprint"}.get(model["kind"])
    return wanted is None or wanted in model


class Verification(TypedDict):
    """The content of evaluation/verification/LABEL.json."""

    model: Annotated[Model, Rule("have a training where it is trained, a fingerprint where it is onnx", _is_told)]
    sets: dict[str, VerifiedSet]
    asked: NotRequired[VerificationAsked]


class BatchRecipe(TypedDict):
    batch_size: AtLeastOne
    epochs: Count
    recipe: NotRequired[str]


class TrainingData(TypedDict):
    images: Count


class Training(TypedDict):
    """The content of training.json of a recogniser."""

    train: BatchRecipe
    data: TrainingData


class GeneratorTraining(TypedDict):
    """The content of training.json of a generator."""

    train_generator: BatchRecipe
    data: TrainingData


class SummaryData(TypedDict):
    fingerprint: str


class TrainingSummary(TypedDict):
    """The content of summary.json of a training that is finished."""

    trained_on: str
    data: SummaryData
    steps: Count
    loss: Number
    sha256: str


class Step(TypedDict):
    loss: NotRequired[Number]
    max_cosine: NotRequired[Cosine]


class PackingMarker(TypedDict):
    """The part of marker.json of a checkpoint that says how far a packing is."""

    step: Count
    progress: list[Step]


class TrainingHistory(TypedDict):
    history: list[Step]


class TrainingMarker(TypedDict):
    step: Count
    progress: TrainingHistory
