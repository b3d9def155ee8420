"""The plots of a run's page draw its records, and say in their titles what others see."""

from collections.abc import Mapping, Sequence
from typing import Any

from hyperface.report.formats import whole
from hyperface.report.plots import Curve, Histogram, Rule, bands, curves, histograms, occupied_range
from hyperface.report.records import Records
from hyperface.run.shapes import AllReferences, Distribution

TONES = {"recogniser": "tone-muted", "independent judge": "tone-b"}


def histogram(label: str, tone: str, found: Distribution) -> Histogram:
    return Histogram(label, tone, found["histogram"], found["mean"])


def same_and_different(found: Mapping[str, Any]) -> list[Histogram]:
    """Pairs of one identity are drawn over pairs of two, where there are any."""
    kinds = (("intra", "same identity", "tone-a"), ("inter", "different identities", "tone-b"))
    return [histogram(label, tone, found[kind]) for kind, label, tone in kinds if found[kind]]


def means(series: Sequence[Histogram]) -> str:
    return "; ".join(f"{s.label}: mean cosine {s.mean:.3f}" for s in series)


def to_reference(r: Records) -> str:
    """The plot shows the images' cosines to their references, with the quality gate."""
    found, gate = r.separation["images"]["to_reference"], r.config.synthesis.min_cosine
    low, high = occupied_range([found["histogram"]])
    title = f"Cosine of each image to its reference by the recogniser, mean {found['mean']:.3f}"
    series = [histogram("image to its reference", "tone-c", found)]
    return histograms(title, series, "images", Rule("gate at", gate), (min(low, gate - 0.05), high))


def nearest_other(judges: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """The plot shows images' cosines to the nearest image of another identity; it is empty for a single identity."""
    series = [histogram(f"by the {by}", TONES[by], d) for by, found in judges if (d := found["nearest_other"])]
    numbers = "; ".join(f"{s.label}: mean {s.mean:.3f}" for s in series)
    title = f"Cosine of each image to the nearest image of another identity. {numbers}"
    return bands(title, series, "images") if series else ""


def convergence(r: Records) -> str:
    """The plot shows the recorded steps of the packing; it is empty without steps."""
    rows: Sequence[Mapping[str, Any]] = r.packing_steps
    lines = []
    for key, label, tone in (
        ("max_cosine", "closest pair", "tone-b"),
        ("mean_nearest_cosine", "nearest", "tone-a"),
        ("mean_gallery_cosine", "to gallery", "tone-c"),
    ):
        seen = [row for row in rows if row.get(key) is not None]
        if seen:
            lines.append(Curve(label, tone, [row["step"] for row in seen], [row[key] for row in seen]))
    if not lines:
        return ""
    ends = "; ".join(f"{line.label} from {line.y[0]:.3f} to {line.y[-1]:.3f}" for line in lines)
    title = f"Convergence of the packing over {whole(r.packing_summary['steps'])} steps: {ends}"
    return curves(title, lines, "optimisation step", "cosine", Rule("bound", r.packing_summary["bound_cosine"]))


def to_gallery(found: Distribution) -> str:
    """The plot shows how far packing has taken the references from real-looking faces."""
    title = f"Cosine of each reference to the nearest gallery face after packing, mean {found['mean']:.3f}"
    return histograms(title, [histogram("after", "tone-c", found)], "references")


def nearest_references(references: AllReferences) -> str:
    """The plot shows each reference's cosine to its nearest other, before packing and after it."""
    before, after = references["before"]["nearest"], references["after"]["nearest"]
    return _before_and_after("References: to the nearest other", before, after, "references")


def pairs_of_references(references: AllReferences) -> str:
    """The plot shows the cosines of all pairs of references, before packing and after it."""
    before, after = references["before"]["pairs"], references["after"]["pairs"]
    return _before_and_after("References: all pairs", before, after, "pairs")


def _before_and_after(title: str, before: Distribution, after: Distribution, of: str) -> str:
    series = [histogram("before", "tone-muted", before), histogram("after", "tone-a", after)]
    numbers = "; ".join(f"{s.label} packing: mean cosine {s.mean:.3f}" for s in series)
    return bands(f"{title}. {numbers}", series, of)
