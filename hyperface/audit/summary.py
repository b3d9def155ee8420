"""An audit in a few lines that a person can read."""

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

_NONE = "not measurable"


def lines(record: Mapping[str, Any]) -> list[str]:
    """One line per network, per table of real faces, for attributes, for all that was not measured, and notes."""
    found = [_separation(name, network) for name, network in record["networks"].items()]
    for table, networks in record["leakage"].items():
        found += [_leakage(table, name, of_table) for name, of_table in networks.items()]
    if record["attributes"]:
        found.append(_attributes(record["attributes"]))
    found += [f"  not measured: {note}" for note in record["not_measured"]]
    return found + [f"  note: {note}" for note in record["notes"]]


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
    return f"audit: {name}: " + ", ".join(parts)


def _leakage(table: str, name: str, of_table: Mapping[str, Any]) -> str:
    return f"audit: {table}, by the {name}: " + ", ".join(_leaks(of_table))


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
    parts = [f"audit: {len(ratios)} attributes by {record['source']}"]
    if known:
        narrow = min(known, key=lambda name: known[name])
        parts.append(f"spread as in the gallery x {statistics.median(known.values()):.2f} (median)")
        parts.append(f"narrowest: {narrow} x {known[narrow]:.2f}")
    return ", ".join(parts)


def _mean(found: Mapping[str, Any] | None) -> str:
    return _NONE if found is None else f"{found['mean']:.3f}"


def _most(found: Mapping[str, Any] | None) -> str:
    return _NONE if found is None else f"{found['most']:.3f}"
