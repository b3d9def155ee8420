"""The figures of the page: which record each one draws, and what its caption may claim."""

from collections.abc import Mapping, Sequence
from typing import Any

from hyperface.report import elements as e
from hyperface.report.plots import Curve, Histogram, Rule, bands, curves, histograms, occupied_range
from hyperface.report.records import Records
from hyperface.run.names import SEPARATION, record_name
from hyperface.run.shapes import Distribution


def intra_inter(by: str, found: Mapping[str, Any], shared: tuple[float, float]) -> str:
    """Same against different identity, as one network sees them; nothing when there are no pairs."""
    kinds = (("intra", "same identity", "tone-a"), ("inter", "different identities", "tone-b"))
    series = [Histogram(label, tone, found[k]["histogram"], found[k]["mean"]) for k, label, tone in kinds if found[k]]
    if not series:
        return ""
    numbers = "; ".join(f"{s.label}: mean cosine {s.mean:.3f}" for s in series)
    svg = histograms(f"Cosines between images by the {by}. {numbers}", series, "pairs", None, shared)
    caption = f"{e.count(sum(sum(s.counts) for s in series))} pairs of images. "
    if found["equal_error_rate"] is not None:
        caption += (
            f"At cosine {e.cosine(found['threshold'], 2)} as many same-identity pairs fall below as "
            f"different-identity pairs above: {100 * found['equal_error_rate']:.1f}&nbsp;% of each. "
        )
    return e.figure(f"By the {by}", svg, caption + f"Record: {e.record(SEPARATION)}.")


def to_reference(r: Records) -> str:
    """Images to their references, with the quality gate."""
    found, gate = r.separation["images"]["to_reference"], r.config.synthesis.min_cosine
    series = [Histogram("image to its reference", "tone-c", found["histogram"], found["mean"])]
    low, high = occupied_range([found["histogram"]])
    svg = histograms(
        f"Cosine of each image to its reference by the recogniser, mean {found['mean']:.3f}",
        series,
        "images",
        Rule("gate at", gate),
        (min(low, gate - 0.05), high),
    )
    caption = (
        f"By the recogniser, {e.count(found['count'])} images. Images below the gate, "
        f"<code>synthesis.min_cosine</code>, were drawn again. "
        f"The judge has no reference to compare with: references live in the recogniser’s space. "
        f"Record: {e.record(SEPARATION)}."
    )
    return e.figure("To the reference", svg, caption)


def nearest_other(judges: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Images to the nearest image of another identity, by each network; nothing for a single identity."""
    tones = {"recogniser": "tone-muted", "independent judge": "tone-b"}
    series = [
        Histogram(f"by the {by}", tones[by], found["nearest_other"]["histogram"], found["nearest_other"]["mean"])
        for by, found in judges
        if found["nearest_other"]
    ]
    if not series:
        return ""
    numbers = "; ".join(f"{s.label}: mean {s.mean:.3f}" for s in series)
    svg = bands(f"Cosine of each image to the nearest image of another identity. {numbers}", series, "images")
    caption = (
        "For each image its highest cosine to an image of another identity, among the images measured. It grows with "
        f"their number: compare runs at equal numbers. Record: {e.record(SEPARATION)}."
    )
    return e.figure("To the nearest other identity", svg, caption)


def convergence(r: Records) -> str:
    """The recorded steps of the packing."""
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
    rule = Rule("bound", r.packing_summary["bound_cosine"])
    ends = "; ".join(f"{line.label} from {line.y[0]:.3f} to {line.y[-1]:.3f}" for line in lines)
    steps = e.count(r.packing_summary["steps"])
    svg = curves(f"Convergence of the packing over {steps} steps: {ends}", lines, "optimisation step", "cosine", rule)
    part = " of the mini-batch" if r.config.packing.batch_identities else ""
    caption = (
        f"As each step saw it before its update: cosine of the closest pair{part}, mean cosine to the nearest other "
        "reference, mean cosine to the nearest gallery face. Bound: no arrangement has a closest pair below it. "
        f"Record: {e.record(record_name('packing'))}."
    )
    return e.figure("Convergence", svg, caption)


def to_gallery(found: Distribution) -> str:
    """How far packing has taken the references from real-looking faces."""
    series = [Histogram("after", "tone-c", found["histogram"], found["mean"])]
    title = f"Cosine of each reference to the nearest gallery face after packing, mean {found['mean']:.3f}"
    caption = (
        "A reference far from every gallery face may be the embedding of no face at all, and the generator must guess. "
        f"A reference that is a gallery face has 1. Record: {e.record(SEPARATION)}."
    )
    return e.figure("References: to the nearest gallery face", histograms(title, series, "references"), caption)


def before_and_after(references: Mapping[str, Any], kind: str) -> str:
    """References before and after packing: `nearest` or all `pairs`."""
    of = "references" if kind == "nearest" else "pairs"
    title, caption = {
        "nearest": ("References: to the nearest other", "Each reference’s highest cosine to another one."),
        "pairs": ("References: all pairs", "Every pair of references, once."),
    }[kind]
    series = [
        Histogram(when, tone, references[when][kind]["histogram"], references[when][kind]["mean"])
        for when, tone in (("before", "tone-muted"), ("after", "tone-a"))
    ]
    numbers = "; ".join(f"{s.label} packing: mean cosine {s.mean:.3f}" for s in series)
    svg = bands(f"{title}. {numbers}", series, of)
    return e.figure(title, svg, f"{caption} Record: {e.record(SEPARATION)}.")
