"""The page of a run with a dataset is made from its records; equal records give equal bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hyperface.report import audit, figures, verification
from hyperface.report.drawing import draw
from hyperface.report.plots import histograms, occupied_range
from hyperface.report.records import STAGES, Records
from hyperface.run.shapes import Face, FaceRow

Judges = Sequence[tuple[str, Mapping[str, Any]]]
"""(network, images as it sees them)"""


@dataclass(frozen=True)
class Compared:
    """One network compared pairs of one identity with pairs of two."""

    by: str
    svg: str
    pairs: int
    found: Mapping[str, Any]


@dataclass(frozen=True)
class RunPage:
    """`templates/run.html` shows all of this; a plot is empty where there is nothing to draw."""

    r: Records
    pictured: int
    """identities with at least one image"""
    judges: Judges
    grid: list[tuple[FaceRow, list[Face | None]]]
    """(identity, its images, None where one was rejected)"""
    compared: list[Compared]
    to_reference_svg: str
    nearest_other_svg: str
    convergence_svg: str
    references_nearest_svg: str
    references_pairs_svg: str
    to_gallery_svg: str
    verification: verification.Verifications | None
    audit: audit.AuditView | None
    work: dict[str, tuple[int, str]]
    """{stage: (what it got done, of what)}"""
    seconds: float | None
    longest: float
    """seconds: of all stages together, and of the longest"""


def render(r: Records) -> str:
    """The records of a run become a whole page."""
    return draw("run.html", r.directory, view(r))


def view(r: Records) -> RunPage:
    index, images, references = r.index, r.separation["images"], r.separation["references"]
    judges: list[tuple[str, Mapping[str, Any]]] = [("recogniser", images["by_recognizer"])]
    judges += [("independent judge", images["by_judge"])] if images["by_judge"] else []
    known = [seconds for stage in STAGES if (seconds := r.seconds(stage)) is not None]
    return RunPage(
        r=r,
        pictured=index["identities"] - sum(n == index["images_per_identity"] for n in index["shortfall"].values()),
        judges=judges,
        grid=_grid(r),
        compared=_compared(judges),
        to_reference_svg=figures.to_reference(r),
        nearest_other_svg=figures.nearest_other(judges),
        convergence_svg=figures.convergence(r),
        references_nearest_svg=figures.nearest_references(references),
        references_pairs_svg=figures.pairs_of_references(references),
        to_gallery_svg=figures.to_gallery(references["to_gallery"]),
        verification=verification.view(r.verification),
        audit=audit.view(r),
        work={
            "embed": (sum(row.get("faces", 0) for row in r.finished["embed"]), "faces"),
            "packing": (r.packing_summary["steps"], "steps"),
            "synthesis": (index["images"], "images"),
            "report": (sum(row.get("images", 0) for row in r.finished["report"]), "images"),
        },
        seconds=sum(known) if known else None,
        longest=max(known, default=0.0) or 1.0,
    )


def _grid(r: Records) -> list[tuple[FaceRow, list[Face | None]]]:
    wanted = min(r.config.report.grid_images, r.config.synthesis.images_per_identity)
    rows = []
    for row in r.faces["grid"]:
        by_number = {int(image["key"].split("-")[1]): image for image in row["images"]}
        rows.append((row, [by_number.get(i) for i in range(wanted)]))
    return rows


def _compared(judges: Judges) -> list[Compared]:
    """The plots of all networks have one range; the independent one comes first."""
    found = [(by, of, figures.same_and_different(of)) for by, of in reversed(judges)]
    counts = [s.counts for _, _, series in found for s in series]
    rows = []
    for by, of, series in found:
        if series:
            title = f"Cosines between images by the {by}. {figures.means(series)}"
            svg = histograms(title, series, "pairs", None, occupied_range(counts))
            rows.append(Compared(by, svg, sum(sum(s.counts) for s in series), of))
    return rows
