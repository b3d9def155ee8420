"""The audit found how many identities there are, and whether faces copy real ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hyperface.audit.summary import over_strangers
from hyperface.dataset.export.measured import NETWORKS, by_network
from hyperface.report import attributes
from hyperface.report.figures import histogram, means, same_and_different
from hyperface.report.formats import far, table_title
from hyperface.report.plots import Histogram, Rule, histograms, occupied_range
from hyperface.report.records import Records
from hyperface.run.audit_shapes import Audit, AuditFaces

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Network:
    """One network saw the dataset like this; a plot is empty where nothing was measured."""

    called: str
    found: Record
    pairs: int
    pairs_svg: str
    centres_svg: str


@dataclass(frozen=True)
class Leak:
    """One network saw the images beside a table of real faces like this."""

    table: str
    network: str
    found: Record
    title: str
    svg: str
    over_strangers: list[bool]
    """Each yardstick says whether images come nearer than strangers do."""


@dataclass(frozen=True)
class AuditView:
    """`templates/audit.html` shows all of this."""

    found: Audit
    faces: AuditFaces
    is_current: bool
    """The dataset is as it was when it was audited."""
    networks: list[Network]
    leaks: list[Leak]
    attributes: attributes.AttributesView | None


def view(r: Records) -> AuditView | None:
    """A reader sees this of an audit; there is nothing without one."""
    found, faces = r.audit, r.audit_faces
    if found is None or faces is None:
        return None
    leaks = [(table, name, of) for table, networks in found["leakage"].items() for name, of in by_network(networks)]
    return AuditView(
        found=found,
        faces=faces,
        is_current=r.is_audited,
        networks=_networks(found["networks"]),
        leaks=[_leak(*leak) for leak in leaks],
        attributes=attributes.view(found["attributes"], NETWORKS) if found["attributes"] else None,
    )


def _networks(found: Record) -> list[Network]:
    """The plots of all networks have one range."""
    networks = [(name, of, same_and_different(of)) for name, of in by_network(found)]
    pair_counts = [s.counts for _, _, series in networks for s in series]
    centre_counts = [of["nearest_centre"]["histogram"] for _, of, _ in networks if of["nearest_centre"]]
    rows = []
    for name, of, series in networks:
        pairs = _pairs(name, of, series, occupied_range(pair_counts)) if series else ""
        centres = _centres(name, of, occupied_range(centre_counts)) if of["nearest_centre"] else ""
        rows.append(Network(NETWORKS[name], of, sum(sum(s.counts) for s in series), pairs, centres))
    return rows


def _pairs(name: str, of: Record, series: Sequence[Histogram], shown: tuple[float, float]) -> str:
    rule = _threshold_rule(of["calibrated"])
    title = f"Cosines between all images by the {NETWORKS[name]}. {means(series)}"
    return histograms(title, series, "pairs", rule, _widened(shown, rule))


def _centres(name: str, of: Record, shown: tuple[float, float]) -> str:
    found, rule = of["nearest_centre"], _threshold_rule(of["calibrated"])
    title = f"Cosine of each identity to its nearest other by the {NETWORKS[name]}, mean {found['mean']:.3f}"
    series = [histogram("to the nearest other", "tone-c", found)]
    return histograms(title, series, "identities", rule, _widened(shown, rule))


def _threshold_rule(threshold: Record) -> Rule | None:
    if threshold["cosine"] is None:
        return None
    return Rule(f"FAR {far(threshold['false_accept_rate'])} at", threshold["cosine"])


def _widened(shown: tuple[float, float], rule: Rule | None) -> tuple[float, float]:
    """The range is widened so that the rule is inside."""
    return shown if rule is None else (min(shown[0], rule.value - 0.05), max(shown[1], rule.value + 0.05))


def _leak(table: str, network: str, of: Record) -> Leak:
    title = f"{table_title(table)}, by the {NETWORKS[network]}"
    both = (  # the yardstick first, so that it is behind what is measured
        ("real face to its nearest stranger", "tone-muted", of["real"]["nearest_other"]),
        ("image to the nearest real face", "tone-b", of["images"]["nearest"]),
    )
    series, rule = [histogram(label, tone, d) for label, tone, d in both if d], _threshold_rule(of["threshold"])
    shown = _widened(occupied_range([s.counts for s in series]), rule)
    svg = histograms(f"{title}. {means(series)}", series, "images, of faces", rule, shown)
    return Leak(table, NETWORKS[network], of, title, svg, over_strangers(of))
