"""How well recognisers tell people apart: what `jobs.evaluate` recorded, beside what others published."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from hyperface.report import elements as e
from hyperface.report.plots import Curve, rates
from hyperface.run.shapes import Trained, Verification, VerifiedSet
from hyperface.verification.toy_sets import TOY_SETS
from hyperface.verification.verification import FARS

BENCHMARKS = {
    "lfw": ("LFW", 6000),
    "cfpfp": ("CFP-FP", 7000),
    "cplfw": ("CPLFW", 6000),
    "agedb30": ("AgeDB-30", 6000),
    "calfw": ("CALFW", 6000),
}
"""{name of a file, in small letters and digits: (what it is called, its number of pairs)}."""
MOST_PLOTS = 6
MOST_CURVES = 8
MOST_ROWS = 16
"""Of the table of true accept rates that is not folded."""
TONES = ("tone-a", "tone-b", "tone-c", "tone-muted")


@dataclass(frozen=True)
class Published:
    """What others reached, in percent."""

    dataset: str
    source: str
    accuracy: Mapping[str, float]
    """By benchmark; none where only the mean was published."""
    mean: float


PUBLISHED = (
    Published(
        "HyperFace, 10k identities × 50",
        "arXiv 2411.08470, IResNet-50",
        {"lfw": 98.50, "cfpfp": 88.83, "cplfw": 84.23, "agedb30": 86.53, "calfw": 89.40},
        89.50,
    ),
    Published("Vec2Face, HSFace10K", "arXiv 2409.02979", {}, 92.00),
    Published("Vec2Face, HSFace300K", "arXiv 2409.02979", {}, 93.52),
    Published("CASIA-WebFace, real faces", "arXiv 2409.02979", {}, 94.79),
)


@dataclass(frozen=True)
class Measured:
    """One recogniser on one set; None: not measurable, and `reasons` may say why."""

    source: str
    pairs: int
    impostors: int
    accuracy: float | None
    deviation: float | None
    equal_error: float | None
    tar: dict[str, float | None]
    reasons: dict[str, str]
    """By the name of the number, or of the false accept rate."""
    far_T: list[float]
    """Of the measurable part of the curve: from 1 of the impostors on."""
    tar_T: list[float]


@dataclass(frozen=True)
class Verified:
    """A recogniser that was evaluated."""

    record: str
    label: str
    what: str
    order: int
    sets: dict[str, Measured]
    """By the key of the benchmark, or the name of any other set."""


def section(records: Mapping[str, Verification]) -> str:
    """The section; empty when nothing was evaluated.

    Args:
        records: of `evaluation/verification/`, by their names.
    """
    models = [evaluated(name, record) for name, record in records.items()]
    models = sorted((model for model in models if model.sets), key=lambda model: (model.order, model.label))
    if not models:
        return ""
    benchmarks, others, toy = _sorted_sets(models)
    tables = [_table("Benchmarks", models, benchmarks, _benchmarks_note(models, benchmarks))] if benchmarks else []
    tables += [_table("Other sets", models, others, "No published numbers are held here for these.")] if others else []
    told = "Drawings of people on whom nobody was trained; no number of photographs can be held beside these."
    tables += [_table("Sets of the toy world", models, toy, told)] if toy else []
    shown = [*_hardest_first(models, [*benchmarks, *others]), *_hardest_first(models, toy)]
    plots = [plot for name in shown if (plot := _roc(models, name))]
    rule = f"Drawn are {MOST_PLOTS} of {len(plots)} sets: photographs before drawings, the hardest first."
    left_out = f'<p class="apart">{rule}</p>' if len(plots) > MOST_PLOTS else ""
    return f"""<section>
<h2>How well do recognisers tell people apart?</h2>
<p>Do two pictures show one person? Each set asks it of pairs. Accuracy: mean of ten folds, the threshold of each chosen
on the other nine, ± standard deviation of the folds. EER, the equal error rate: as many pairs of one person are refused
as pairs of two are accepted. A network that was trained on these identities’ images is a student; the others are there
to compare it with.</p>
{"".join(tables)}
{_rates_table(models, [*benchmarks, *others, *toy])}
{left_out}<div class="plots">
{"".join(plots[:MOST_PLOTS])}
</div>
</section>"""


def evaluated(name: str, record: Verification) -> Verified:
    """A record of `evaluation/verification/`."""
    model, sets = record["model"], record["sets"]
    label = PurePosixPath(name).stem
    measured: dict[str, Measured] = {}
    for given, found in sorted(sets.items()):
        one = _measured(found)
        key = benchmark_of(given, one)
        measured[given if not key or key in measured else key] = one
    match model["kind"]:
        case "trained":
            return Verified(name, label, _student(model["training"]), 0, measured)
        case "recognizer":
            return Verified(name, "recogniser", "the network whose sphere was packed", 1, measured)
        case "judge":
            return Verified(name, "judge", "independent network, only measures", 2, measured)
        case "onnx":
            return Verified(name, label, f"ONNX file, SHA-256 {model['fingerprint'][:12]}…", 3, measured)


def _student(training: Trained) -> str:
    train, data = training["train"], training["data"]
    backbone = train["backbone"].replace("iresnet", "IResNet-").replace("small", "small network")
    attention = " with squeeze-excitation" if train["squeeze_excitation"] else ""
    head = {"arcface": "ArcFace", "cosface": "CosFace", "adaface": "AdaFace"}.get(train["head"], train["head"])
    on = f"{e.count(data['images'])} images of {e.count(data['classes'])} identities"
    return f"trained here: {backbone}{attention}, {head}, {train['epochs']} epochs on {on}; recipe {train['recipe']}"


def _measured(found: VerifiedSet) -> Measured:
    roc, impostors = found["roc"], found["impostors"]
    points = [*zip(roc["far"], roc["tar"], strict=True)] if roc else []
    least = 1 / max(1, impostors)
    # A rate that was reached at a lower false accept rate is reached at the lowest measurable one, too.
    start = max((tar for far, tar in points if far <= least * (1 + 1e-9)), default=None)
    later = [(far, tar) for far, tar in points if far > least * (1 + 1e-9)]
    drawn = [(least, start), *later] if start is not None else later
    return Measured(
        source=found["source"],
        pairs=found["pairs"],
        impostors=impostors,
        accuracy=found["accuracy"],
        deviation=found["accuracy_std"],
        equal_error=found["eer"],
        tar={far: found["tar_at_far"][far]["tar"] for far in FARS},
        reasons={
            **found["reasons"],
            **{far: at["reason"] for far, at in found["tar_at_far"].items() if at["tar"] is None},
        },
        far_T=[far for far, _ in drawn],
        tar_T=[tar for _, tar in drawn],
    )


def benchmark_of(name: str, measured: Measured) -> str:
    """The key in BENCHMARKS of a set's name, however it is written; empty for any other."""
    key = re.sub("[^a-z0-9]", "", name.lower()).removesuffix("bin")
    return key if key in BENCHMARKS and not _is_toy(measured) else ""


def _is_toy(measured: Measured) -> bool:
    return measured.source.startswith("toy world, held-out set ")


def _sorted_sets(models: Sequence[Verified]) -> tuple[list[str], list[str], list[str]]:
    """Names of (benchmarks, others, sets of the toy world) in the order of their table."""
    found = {name: measured for model in models for name, measured in model.sets.items()}
    toy = [name for name in TOY_SETS if name in found and _is_toy(found[name])]
    benchmarks = [key for key in BENCHMARKS if key in found]
    return benchmarks, sorted(set(found) - set(toy) - set(benchmarks)), toy


def _called(name: str) -> str:
    return BENCHMARKS[name][0] if name in BENCHMARKS else {"ijbb": "IJB-B", "ijbc": "IJB-C"}.get(name, name)


def _benchmarks_note(models: Sequence[Verified], benchmarks: Sequence[str]) -> str:
    note = (
        "Sets are known by the names of their files. Networks and recipes of the published rows may differ from yours, "
        "and so may the number of images."
    )
    for key in benchmarks:
        called, pairs = BENCHMARKS[key]
        for other in sorted({model.sets[key].pairs for model in models if key in model.sets} - {pairs}):
            note += f" {called} has {e.count(pairs)} pairs, and here {e.count(other)}: not comparable."
    return note


def _table(caption: str, models: Sequence[Verified], sets: Sequence[str], note: str) -> str:
    """Recognisers by sets; with published rows, and a mean, where the sets are benchmarks."""
    with_mean = any(name in BENCHMARKS for name in sets)
    rows = []
    for model in models:
        if not any(name in model.sets for name in sets):
            continue
        cells = [_cell(model.sets.get(name)) for name in sets]
        rows.append([_name(model), *cells, *([_own_mean(model)] if with_mean else [])])
    if with_mean:
        rows += [_published_row(published, sets) for published in PUBLISHED]
    head = ["Recogniser", *map(_called, sets), *(["Mean of the five"] if with_mean else [])]
    note = f"Accuracy in percent, and below it the EER. The records are behind the names. {e.text(note)}"
    return e.table(caption, note, head, rows, range(1, len(head)))


def _name(model: Verified) -> str:
    return f"{e.record(model.record, model.label)}<small>{e.text(model.what)}</small>"


def _cell(measured: Measured | None) -> str:
    if measured is None:
        return e.NONE
    shown = "" if measured.equal_error is None else f"<small>EER {e.percent(measured.equal_error)}</small>"
    if measured.accuracy is None:
        reason = measured.reasons.get("accuracy", "no folds, no accuracy")
        return f"<small>{e.text(reason)}</small>{shown}"
    return f"{_with_deviation(measured)}{shown}"


def _with_deviation(measured: Measured) -> str:
    deviation = "" if measured.deviation is None else f" ± {e.percent(measured.deviation)}"
    return f"{e.percent(measured.accuracy)}{deviation}"


def _own_mean(model: Verified) -> str:
    reached = [model.sets[key].accuracy for key in BENCHMARKS if key in model.sets]
    known = [accuracy for accuracy in reached if accuracy is not None]
    return e.percent(sum(known) / len(known)) if len(known) == len(BENCHMARKS) else e.NONE


def _published_row(published: Published, sets: Sequence[str]) -> list[str]:
    cells = [f"{published.accuracy[key]:.2f}" if key in published.accuracy else e.NONE for key in sets]
    name = f"{e.text(published.dataset)}<small>published: {e.text(published.source)}</small>"
    return [name, *cells, f"{published.mean:.2f}"]


def _rates_table(models: Sequence[Verified], sets: Sequence[str]) -> str:
    """True accept rates; what a set cannot show is said beside its name, in words. Long ones are to be unfolded."""
    found = [(name, model, model.sets[name]) for name in sets for model in models if name in model.sets]
    shown = [far for far in reversed(FARS) if any(measured.tar[far] is not None for _, _, measured in found)]
    rows = [
        [
            f"{e.text(_called(name))}{_unmeasured(measured)}",
            e.record(model.record, model.label),
            *(e.percent(measured.tar[far]) for far in shown),
        ]
        for name, model, measured in found
    ]
    caption, note = (
        "True accept rate at a false accept rate",
        "Share of pairs of one person that are accepted, in percent.",
    )
    table = e.table(
        caption, note, ["Set", "Recogniser", *(f"FAR {far}" for far in shown)], rows, range(2, 2 + len(shown))
    )
    if len(rows) <= MOST_ROWS:
        return table
    return f"<details><summary>{caption}: {len(rows)} rows</summary>{table}</details>"


def _unmeasured(measured: Measured) -> str:
    """The reasons why rates have no number, each with its false accept rates."""
    reasons: dict[str, list[str]] = {}
    for far in reversed(FARS):
        if measured.tar[far] is None:
            reasons.setdefault(measured.reasons[far], []).append(far)
    return "".join(f"<small>FAR {', '.join(fars)}: {e.text(reason)}</small>" for reason, fars in reasons.items())


def _hardest_first(models: Sequence[Verified], sets: Sequence[str]) -> list[str]:
    """By the mean of the recognisers' equal error rates."""

    def error(name: str) -> float:
        rates = [model.sets[name].equal_error for model in models if name in model.sets]
        known = [rate for rate in rates if rate is not None]
        return sum(known) / len(known) if known else 0.0

    return sorted(sets, key=lambda name: (-error(name), name))


def _roc(models: Sequence[Verified], name: str) -> str:
    drawn = [model for model in models if name in model.sets and model.sets[name].far_T]
    if not drawn:
        return ""
    styles = [f"{tone}{kind}" for kind in ("", " dashed") for tone in TONES]
    lines = [
        Curve(model.label, style, model.sets[name].far_T, model.sets[name].tar_T)
        for model, style in zip(drawn, styles, strict=False)
    ]
    called, impostors = _called(name), max(model.sets[name].impostors for model in drawn)
    errors = "; ".join(f"{m.label}: equal error rate {e.percent(m.sets[name].equal_error)} percent" for m in drawn)
    title = f"True accept rate by false accept rate on {called}. {errors}"
    svg = rates(title, lines, "false accept rate", "true accept rate")
    more = f" {len(drawn) - MOST_CURVES} more are in the table." if len(drawn) > MOST_CURVES else ""
    records = ", ".join(e.record(model.record, model.label) for model in drawn[:MOST_CURVES])
    caption = (
        f"{e.count(drawn[0].sets[name].pairs)} pairs: {e.text(drawn[0].sets[name].source)}. The curves begin where one "
        f"of the {e.count(impostors)} pairs of different people is accepted: rarer errors cannot be measured.{more} "
        f"Records: {records}."
    )
    return e.figure(f"ROC: {called}", svg, caption)
