"""The experiment as a page: which way of choosing identities trains the better student."""

from collections.abc import Mapping, Sequence
from typing import Any

from hyperface.experiment.comparison import COLUMNS, Summary
from hyperface.report import elements as e
from hyperface.report.plots import Group, Row, dots
from hyperface.report.shell import document
from hyperface.run import Run
from hyperface.run.names import EXPERIMENT, REPORT

WHO = ("Identities", "Gallery", "Drawn by")
HEADINGS = {"": "No gallery", "diverse": "Diverse gallery", "biased": "Biased gallery"}
TONES = {
    "bound": ("tone-c", "Blue: the upper bound, trained on the renderer’s own identities."),
    "baseline": ("tone-muted", "Grey: not optimised."),
    "hyperface": ("tone-a", "Green, with an alpha, the weight of the gallery: HyperFace."),
    "vec2face": ("tone-b", "Orange: Vec2Face’s samples, and mixtures with them."),
    "mixture": ("tone-b", ""),
}
"""Of the kinds of arms: (tone, what the legend says)."""
SETS = {
    "mean": ("All four test sets", "mean of the four"),
    "hard": ("Hard", "all of the nuisance, and impostors that look alike"),
    "pose": ("Pose", "faces of a pair look to different sides"),
}

Arms = Sequence[Mapping[str, Any]]


def write_experiment(run: Run) -> None:
    """Write report/index.html of an experiment that has its summary. Raises RunError as `Run.shaped`."""
    page = render(str(run), run.shaped(EXPERIMENT, Summary))
    run.store.put(REPORT, page.encode())
    print(f"report: {run.store.uri(REPORT)}", flush=True)


def render(directory: str, summary: Summary) -> str:
    """The whole page, from `experiment/summary.json`."""
    name = directory.rstrip("/").rsplit("/", 1)[-1]
    body = "\n".join((_accuracy(summary), _identities(summary), _provenance(summary)))
    return document(f"{name}: HyperFace experiment", _header(name, directory, summary), body)


def _header(name: str, directory: str, summary: Summary) -> str:
    s = summary
    return f"""<p class="eyebrow">HyperFace experiment</p>
<h1>{e.text(name)}</h1>
<p class="lead">Does it help a recogniser when the identities of its training set are optimised? {len(s["arms"])} ways
to choose identities, repeats of each: {e.count(s["repeats"])}. Every dataset has {e.count(s["identities"])} identities
and {e.count(s["images"])} images; every student begins from scratch; nobody in the test sets was seen before.</p>
<p class="path">{e.text(directory)}</p>"""


def _accuracy(summary: Summary) -> str:
    arms: Arms = summary["arms"]
    sets = [name for name in COLUMNS if name in arms[0]["accuracy"]]
    rows = [[*_who(arm), *(_percent(arm["accuracy"][name]) for name in sets)] for arm in arms]
    head = [*WHO, *(name.capitalize() for name in sets)]
    folds = e.count(summary["folds"])
    note = f"Percent, mean ± standard deviation of the repeats. Record: {e.record(EXPERIMENT)}"
    return f"""<section>
<h2>What the students learned</h2>
<p>Verification accuracy on held-out identities; folds: {folds}, the threshold of each chosen on the others. The upper
bound is trained on the renderer’s own identities, without an embedding in between. Repeats differ in gallery, packing,
images and student. These are drawings: what this world can show is the order of the rows, not accuracies on
photographs.</p>
<div class="plots">
{"".join(_plot(arms, name) for name in SETS if name in sets)}
</div>
{e.table("Verification accuracy", note, head, rows, range(len(WHO), len(head)))}
</section>"""


def _plot(arms: Arms, name: str) -> str:
    title, meaning = SETS[name]
    groups = []
    for (gallery, generator), arms_of_it in _grouped(arms).items():
        rows = [Row(_short(arm), TONES[arm["kind"]][0], [100 * v for v in _values(arm, name)]) for arm in arms_of_it]
        groups.append(Group(f"{HEADINGS[gallery]}{generator and f', {generator}'}", rows))
    means = "; ".join(f"{' '.join(_who(arm))}: {_percent(arm['accuracy'][name])}" for arm in arms)
    svg = dots(f"Accuracy in percent on {title.lower()}. {means}", groups, "accuracy, percent")
    legend = f"A dot is a repeat, a bar the mean of them. {_legend(arms)} " if name == "mean" else ""
    caption = f"{meaning[0].upper()}{meaning[1:]}. {legend}Record: {e.record(EXPERIMENT)}."
    return e.figure(title, svg, caption, wide=name == "mean")


def _who(arm: Mapping[str, Any]) -> list[str]:
    return [e.text(arm[key] or e.NONE) for key in ("label", "gallery", "generator")]


def _grouped(arms: Arms) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """By gallery and generator, which a heading names where there are several."""
    several = len({arm["generator"] for arm in arms if arm["kind"] not in ("bound", "mixture")}) > 1
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for arm in arms:
        found.setdefault((arm["gallery"], arm["generator"] if several else ""), []).append(arm)
    return found


def _values(arm: Mapping[str, Any], name: str) -> list[float]:
    return [float(value) for value in arm["accuracy"][name]["values"]]


def _short(arm: Mapping[str, Any]) -> str:
    """The arm's label where there is little room; the legend says the rest."""
    named = {"bound": "upper bound", "mixture": "half and half"}
    return named.get(arm["kind"], str(arm["label"]).removeprefix("HyperFace, ").removeprefix("Vec2Face, "))


def _legend(arms: Arms) -> str:
    there = {arm["kind"] for arm in arms}
    return " ".join(said for kind, (_, said) in TONES.items() if said and kind in there)


def _identities(summary: Summary) -> str:
    names = {
        "intra_cosine": "Same identity",
        "inter_cosine": "Different identities",
        "nearest_other_cosine": "Nearest other identity",
        "equal_error_rate": "Equal error rate",
    }
    arms: Arms = summary["arms"]
    rows = [[*_who(arm), *(e.cosine(arm["identity"][n]["mean"]) for n in names)] for arm in arms]
    note = f"Mean over the repeats of mean cosines; equal error rate as a share. Record: {e.record(EXPERIMENT)}"
    return f"""<section>
<h2>What the datasets look like to the judge</h2>
<p>The same images, embedded by an independent network. Identities that the judge confuses are wrong labels to a
student.</p>
{e.table("Cosines between images, by the judge", note, [*WHO, *names.values()], rows, range(len(WHO), len(WHO) + 4))}
</section>"""


def _provenance(summary: Summary) -> str:
    parts = {"experiment": summary["experiment"], "train": summary["train"], **summary["provenance"]}
    rows = [(f"<code>{e.text(name)}</code>", f"<code>{e.text(value)}</code>") for name, value in e.flat(parts)]
    return f"""<section>
<h2>Provenance</h2>
{e.table("What made these numbers", f"Record: {e.record(EXPERIMENT)}", ["What", "Value"], rows, [])}
</section>"""


def _percent(spread: Mapping[str, Any]) -> str:
    if spread["deviation"] is None:
        return f"{100 * spread['mean']:.2f}"
    return f"{100 * spread['mean']:.2f} ± {100 * spread['deviation']:.2f}"
