"""The shapes of the audit's records; see `shapes.py`."""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from hyperface.reading.json_text import Rule
from hyperface.run.shapes import KEY, TWO, Cosine, Count, Distribution, Number, Positive, Share, has

NETWORKS = ("judge", "recognizer")


class Threshold(TypedDict):
    cosine: Cosine | None
    false_accept_rate: Share
    table: str
    reason: str


class EqualError(TypedDict):
    rate: Share | None
    cosine: Cosine | None


class AtThreshold(TypedDict):
    cosine: Cosine
    effective_identities: Count
    identities: Count
    separable: Share
    genuine_below: Share | None
    impostors_over: Share


class AuditedNetwork(TypedDict):
    images: Count
    identities: Count
    intra: Distribution | None
    inter: Distribution | None
    to_centre: Distribution | None
    nearest_centre: Distribution | None
    equal_error: EqualError
    calibrated: Threshold
    at_calibrated: AtThreshold | None
    at_equal_error: AtThreshold | None


class RealFaces(TypedDict):
    nearest_other: Distribution | None
    share_over: Share | None


class LeakedImages(TypedDict):
    pairs: Distribution
    nearest: Distribution
    pairs_over: Count | None
    pairs_expected: Positive | None
    images_over: Count | None
    share_over: Share | None
    identities_over: Count | None


class AsNear(TypedDict):
    cosine: Cosine
    images: Count
    strangers: Count


class PlantedKind(TypedDict):
    found: Share | None


class Control(TypedDict):
    """Planted copies; of none only the reason is recorded."""

    faces: Count
    reason: str
    copies: NotRequired[Count]
    found: NotRequired[Share | None]
    kinds: NotRequired[dict[str, PlantedKind]]


def _is_counted(control: Control) -> bool:
    if not control["faces"]:
        return True
    if not {"copies", "found", "kinds"} <= control.keys():
        return False
    return control["found"] is None or all(kind["found"] is not None for kind in control["kinds"].values())


def _is_judged(leak: Any) -> bool:
    images = leak["images"]
    counts = ("pairs_over", "pairs_expected", "images_over", "share_over", "identities_over")
    return leak["threshold"]["cosine"] is None or all(images[key] is not None for key in counts)


class Leak(TypedDict):
    """A table of real faces as one network sees it."""

    faces: Count
    people: Count
    threshold: Threshold
    real: RealFaces
    images: LeakedImages
    as_near: AsNear | None
    control: Annotated[Control, Rule("have copies, found and kinds, as it has faces", _is_counted)]


class Spread(TypedDict):
    """Values of an attribute: numbers, or texts."""

    kind: Literal["number", "text"]
    count: Count
    mean: NotRequired[Number]
    std: NotRequired[Positive]
    quantiles: NotRequired[Annotated[dict[str, Number], has("0.01", "0.5", "0.99")]]
    counts: NotRequired[dict[str, Count]]
    evenness: NotRequired[Number]


def _is_spread(spread: Spread) -> bool:
    if spread["kind"] == "number":
        return {"mean", "std", "quantiles"} <= spread.keys()
    return {"counts", "evenness"} <= spread.keys() and (spread["count"] > 0 or not spread["counts"])


KnownSpread = Annotated[Spread, Rule("have the numbers of its kind", _is_spread)]


class Column(TypedDict):
    dataset: KnownSpread | None
    gallery: KnownSpread | None
    std_ratio: NotRequired[Positive | None]
    mean_shift: NotRequired[Number | None]


def _is_compared(column: Column) -> bool:
    both = (column["dataset"], column["gallery"])
    if not column.get("std_ratio"):
        return True
    return all(spread is not None and spread["kind"] == "number" for spread in both) and "mean_shift" in column


class Group(TypedDict):
    identities: Count
    mean_nearest: Cosine | None
    near_another: Share | None


class Groups(TypedDict):
    groups: dict[str, Group]


def _is_seen_by_one(groups: Any) -> bool:
    return any(all(name in of for of in groups.values()) for name in NETWORKS)


class Attributes(TypedDict):
    source: str
    unit: str
    columns: dict[str, Annotated[Column, Rule("have the numbers of both beside a std_ratio", _is_compared)]]
    groups: Annotated[dict[str, dict[str, Groups]], Rule("be seen by one network", _is_seen_by_one)]


class AuditAsked(TypedDict):
    dataset: str


class Audited(TypedDict):
    """The part of evaluation/audit.json that says what was audited."""

    asked: AuditAsked


class Audit(Audited):
    """The content of evaluation/audit.json."""

    networks: Annotated[
        dict[str, AuditedNetwork], Rule("have a judge or a recognizer", lambda of: any(map(of.__contains__, NETWORKS)))
    ]
    leakage: dict[str, dict[str, Annotated[Leak, Rule("have what is over its threshold", _is_judged)]]]
    attributes: Attributes | None
    not_measured: list[str]
    notes: list[str]


class Picture(TypedDict):
    key: str
    jpeg: str | None


class PicturePair(TypedDict):
    cosine: Cosine
    images: Annotated[list[Picture], TWO]


def _keys(pictures: int) -> Rule:
    """Return the rule that the first so many keys of a pair are images of the dataset."""

    def hold(pair: Any) -> bool:
        return all(KEY.fullmatch(image["key"]) for image in pair["images"][:pictures])

    return Rule(f"begin with {pictures} of the dataset, whose key looks like 0000012-0003", hold)


class AuditFaces(TypedDict):
    """The content of evaluation/audit_faces.json."""

    nearest_identities: dict[str, list[Annotated[PicturePair, _keys(2)]]]
    leakage: dict[str, dict[str, list[Annotated[PicturePair, _keys(1)]]]]
