"""An audit in a few lines that a person can read."""

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from hyperface.dataset.export.measured import NETWORKS, by_network
from hyperface.progress.logs import Line
from hyperface.reading.one_line import shown

_NONE = "not measurable"


def lines(record: Mapping[str, Any]) -> list[str]:
    """One line per network, per table of real faces, for attributes, for all that was not measured, and notes; at the
    end what the numbers mean, by the network that comes first."""
    found = [_separation(name, network) for name, network in record["networks"].items()]
    for table, networks in record["leakage"].items():
        found += [_leakage(table, name, of_table) for name, of_table in networks.items()]
    if record["attributes"]:
        found.append(_attributes(record["attributes"]))
    notes = [f"  not measured: {note}" for note in record["not_measured"]]
    notes += [f"  note: {note}" for note in record["notes"]]
    # Tables and columns are named by others.
    return [*map(_line, found), *map(shown, notes), *map(_line, _verdict(record))]


def _line(text: str) -> Line:
    return Line("audit", shown(text))


def over_strangers(of_table: Mapping[str, Any]) -> list[bool]:
    """Return, by each yardstick that there is, whether images come nearer to real faces than strangers do."""
    images, real, as_near = of_table["images"], of_table["real"], of_table["as_near"]
    nearest, strangers, more = images["nearest"], real["nearest_other"], list[bool]()
    if of_table["threshold"]["cosine"] is not None:
        more.append(images["pairs_over"] > images["pairs_expected"])
        if real["share_over"] is not None:
            more.append(images["share_over"] > real["share_over"])
    if strangers is not None:
        more.append(nearest["most"] > strangers["most"])
        if as_near is not None:
            more.append(as_near["images"] / nearest["count"] > as_near["strangers"] / strangers["count"])
    return more


def _verdict(record: Mapping[str, Any]) -> Iterator[str]:
    (name, network), *_ = by_network(record["networks"])
    alone = "" if name == "judge" else ", and nobody independent looked"
    at = network["at_calibrated"] or network["at_equal_error"]
    apart = "whether identities can be told apart is not known"
    if at:
        apart = f"of {at['identities']} identities as many as {at['effective_identities']} can be told apart"
    yield f"in words: by the {NETWORKS[name]}, {apart}{alone}"
    for table, networks in record["leakage"].items():
        for name, of_table in [*by_network(networks)][:1]:
            yield f"in words: near {table}, by the {NETWORKS[name]}, {_beside_strangers(of_table)}"


def _beside_strangers(of_table: Mapping[str, Any]) -> str:
    more = over_strangers(of_table)
    if any(more):
        how = "all" if all(more) else "some"
        return f"{how} of this is more than strangers give: look at the pairs on the page of jobs.report"
    if of_table["threshold"]["cosine"] is None:
        return "nobody can say without a threshold"
    return "none of this is more than strangers give; it is no proof: see the planted copies"


def _separation(name: str, network: Mapping[str, Any]) -> str:
    at, rate = network["at_calibrated"] or network["at_equal_error"], network["equal_error"]["rate"]
    parts = [
        f"{network['images']} images of {network['identities']} identities",
        f"EER {_NONE if rate is None else f'{rate:.2%}'}",
        f"to centre {_mean(network['to_centre'])}",
        f"most alike identities {_most(network['nearest_centre'])}",
    ]
    if at:
        parts.append(f"{at['effective_identities']} effective identities at cosine {at['cosine']:.3f}")
    return f"{name}: " + ", ".join(parts)


def _leakage(table: str, name: str, of_table: Mapping[str, Any]) -> str:
    return f"{table}, by the {name}: " + ", ".join(_leaks(of_table))


def _leaks(of_table: Mapping[str, Any]) -> Iterator[str]:
    images, real, limit = of_table["images"], of_table["real"], of_table["threshold"]["cosine"]
    yield f"{of_table['faces']} real faces, nearest {_most(images['nearest'])}"
    if limit is not None:
        strangers = "" if real["share_over"] is None else f" (real strangers: {real['share_over']:.2%})"
        yield f"images over {limit:.3f}: {images['images_over']}, {images['share_over']:.2%}{strangers}"
        yield f"pairs over: {images['pairs_over']}, by chance {images['pairs_expected']:.0f}"
    if as_near := of_table["as_near"]:
        near = f"{as_near['images']} images to a real face, {as_near['strangers']} real faces to another person"
        yield f"as near as planted copies are: {near}"
    control = of_table["control"]
    if control["faces"]:
        shares = {name: kind["found"] for name, kind in control["kinds"].items()}
        found = ", ".join(f"{_NONE if share is None else f'{share:.0%}'} {name}" for name, share in shares.items())
        yield f"planted copies found: {found}"


def _attributes(record: Mapping[str, Any]) -> str:
    ratios = {name: column.get("std_ratio") for name, column in record["columns"].items()}
    known = {name: ratio for name, ratio in ratios.items() if ratio is not None}
    parts = [f"{len(ratios)} attributes by {record['source']}"]
    if known:
        narrow = min(known, key=lambda name: known[name])
        parts.append(f"spread as in the gallery x {statistics.median(known.values()):.2f} (median)")
        parts.append(f"narrowest: {narrow} x {known[narrow]:.2f}")
    return ", ".join(parts)


def _mean(found: Mapping[str, Any] | None) -> str:
    return _NONE if found is None else f"{found['mean']:.3f}"


def _most(found: Mapping[str, Any] | None) -> str:
    return _NONE if found is None else f"{found['most']:.3f}"
