"""The page of an experiment shows which way of choosing identities trains the better student."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hyperface.experiment.comparison import COLUMNS, Summary
from hyperface.progress.logs import Line, say
from hyperface.report.drawing import draw
from hyperface.report.formats import NONE, spread
from hyperface.report.plots import Group, Row, dots
from hyperface.run import Run
from hyperface.run.names import EXPERIMENT, REPORT

HEADINGS = {"": "No gallery", "diverse": "Diverse gallery", "biased": "Biased gallery"}
LOOKS = ("intra_cosine", "inter_cosine", "nearest_other_cosine", "equal_error_rate")
TONES = {
    "bound": ("tone-c", "Blue: the upper bound, trained on the renderer’s own identities."),
    "baseline": ("tone-muted", "Grey: not optimised."),
    "hyperface": ("tone-a", "Green, with an alpha, the weight of the gallery: HyperFace."),
    "vec2face": ("tone-b", "Orange: Vec2Face’s samples, and mixtures with them."),
    "mixture": ("tone-b", ""),
}
"""{kind of an arm: (tone, what the legend says)}"""
SETS = {
    "mean": ("All four test sets", "Mean of the four"),
    "hard": ("Hard", "All of the nuisance, and impostors that look alike"),
    "pose": ("Pose", "Faces of a pair look to different sides"),
}

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Arm:
    """An arm has a row in both tables: label, gallery and generator, then its numbers."""

    who: list[str]
    accuracy: list[Record]
    identity: list[float | None]


@dataclass(frozen=True)
class Chart:
    """A chart shows accuracies on one set, or on all of them, and is then wide."""

    title: str
    meaning: str
    svg: str
    wide: bool


@dataclass(frozen=True)
class ExperimentPage:
    """`templates/experiment.html` shows all of this."""

    summary: Summary
    sets: list[str]
    arms: list[Arm]
    charts: list[Chart]
    legend: str
    made_by: Record


def write_experiment(run: Run) -> None:
    """An experiment that has its summary gets its report/index.html. RunError is raised as by `Run.shaped`."""
    page = render(str(run), run.shaped(EXPERIMENT, Summary))
    run.store.put(REPORT, page.encode())
    say(Line("report", run.store.uri(REPORT)))


def render(directory: str, summary: Summary) -> str:
    """`experiment/summary.json` becomes a whole page."""
    return draw("experiment.html", directory, view(summary))


def view(summary: Summary) -> ExperimentPage:
    arms: Sequence[Record] = summary["arms"]
    sets, kinds = [name for name in COLUMNS if name in arms[0]["accuracy"]], {arm["kind"] for arm in arms}
    rows = [
        Arm(_who(arm), [arm["accuracy"][name] for name in sets], [arm["identity"][look]["mean"] for look in LOOKS])
        for arm in arms
    ]
    return ExperimentPage(
        summary=summary,
        sets=sets,
        arms=rows,
        charts=[_chart(arms, name) for name in SETS if name in sets],
        legend=" ".join(said for kind, (_, said) in TONES.items() if said and kind in kinds),
        made_by={"experiment": summary["experiment"], "train": summary["train"], **summary["provenance"]},
    )


def _chart(arms: Sequence[Record], name: str) -> Chart:
    groups = []
    for (gallery, generator), arms_of_it in _grouped(arms).items():
        rows = [Row(_short(arm), TONES[arm["kind"]][0], _percents(arm["accuracy"][name])) for arm in arms_of_it]
        groups.append(Group(f"{HEADINGS[gallery]}{generator and f', {generator}'}", rows))
    title, meaning = SETS[name]
    means = "; ".join(f"{' '.join(_who(arm))}: {spread(arm['accuracy'][name])}" for arm in arms)
    svg = dots(f"Accuracy in percent on {title.lower()}. {means}", groups, "accuracy, percent")
    return Chart(title, meaning, svg, wide=name == "mean")


def _who(arm: Record) -> list[str]:
    return [str(arm[key] or NONE) for key in ("label", "gallery", "generator")]


def _grouped(arms: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    """Arms are grouped by gallery and generator, which a heading names where there are several."""
    several = len({arm["generator"] for arm in arms if arm["kind"] not in ("bound", "mixture")}) > 1
    found: dict[tuple[str, str], list[Record]] = {}
    for arm in arms:
        found.setdefault((arm["gallery"], arm["generator"] if several else ""), []).append(arm)
    return found


def _percents(accuracy: Record) -> list[float]:
    return [100 * float(value) for value in accuracy["values"]]


def _short(arm: Record) -> str:
    """The arm's label is shortened where there is little room; the legend says the rest."""
    named = {"bound": "upper bound", "mixture": "half and half"}
    return named.get(arm["kind"], str(arm["label"]).removeprefix("HyperFace, ").removeprefix("Vec2Face, "))
