"""Results of an audit, or before one of the report, in Markdown for the dataset's card, without paths of real faces."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from hyperface.dataset.card import code

NETWORKS = {"judge": "independent judge", "recognizer": "recogniser"}
"""Networks that looked, the one whose word counts for more first."""
ALONE = "\nNobody independent looked: the recogniser guided the generator, and its own cosines prove little.\n"


def sections(audit: Mapping[str, Any] | None, reported: Mapping[str, Any] | None) -> str:
    """Write the sections about separation and leakage, or say what of them was not measured.

    Args:
        reported: `evaluation/separation.json`, which is quoted where there is no audit.
    """
    if audit is not None:
        return _audited(audit)
    if reported is not None:
        return _reported(reported["images"])
    return """## Measured separation and leakage

Neither was measured on the dataset as it is: whether other networks tell the identities apart, and whether faces copy
real ones, is not known."""


def _audited(audit: Mapping[str, Any]) -> str:
    alone = "" if "judge" in audit["networks"] else ALONE
    return f"""## Measured separation

Every image was embedded again and compared with every other one.
{alone}
{_table(SEPARATION, [_separation(name, of) for name, of in by_network(audit["networks"])])}

Effective identities: those that a network can tell apart at the threshold of the leakage audit, or where both errors
are equal.

## Leakage audit

{_leakage(audit["leakage"])}"""


def _reported(images: Mapping[str, Any]) -> str:
    """Write the numbers of the report, on a part of the images."""
    found = {name: images[f"by_{name}"] for name in NETWORKS if images[f"by_{name}"] is not None}
    cells = [
        [NETWORKS[name], str(of["identities"]), _percent(of["equal_error_rate"]), _cosine(of["to_centre"], "mean")]
        for name, of in found.items()
    ]
    return f"""## Measured separation

{images["count"]} images of whole identities were embedded again and compared with each other.
{"" if "judge" in found else ALONE}
{_table(REPORTED, cells)}

## Leakage audit

Not measured: whether faces copy real ones is not known."""


SEPARATION = ("by", "images", "equal error rate", "to identity, mean", "most alike identities", "effective identities")
REPORTED = ("by", "identities", "equal error rate", "to identity, mean")
LEAKAGE = (
    "real faces",
    "by",
    "faces",
    "images over threshold",
    "strangers over it",
    "nearest",
    "planted copies found",
)


def by_network(networks: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (network, its part of a record), the judge first."""
    yield from ((name, networks[name]) for name in NETWORKS if name in networks)


def _separation(name: str, of: Mapping[str, Any]) -> list[str]:
    at, rate = of["at_calibrated"] or of["at_equal_error"], of["equal_error"]["rate"]
    return [
        NETWORKS[name],
        str(of["images"]),
        _percent(rate),
        _cosine(of["to_centre"], "mean"),
        _cosine(of["nearest_centre"], "most"),
        f"{at['effective_identities']} of {at['identities']}" if at else "not measurable",
    ]


def _leakage(tables: Mapping[str, Any]) -> str:
    if not tables:
        return "Not measured: no real faces were compared with."
    found = [_leaks(table, name, of) for table, networks in tables.items() for name, of in by_network(networks)]
    return f"""{_table(LEAKAGE, found)}

An image over the threshold is not yet a copy: beside its share stands that of real faces that are as near to a face of
somebody else. Copies that were planted on purpose show what share of such leaks this audit finds. It can show a leak,
never prove that there is none."""


def _leaks(table: str, name: str, of: Mapping[str, Any]) -> list[str]:
    images, limit = of["images"], of["threshold"]["cosine"]
    over = "not measurable"
    if limit is not None:
        over = f"{images['images_over']} ({_percent(images['share_over'])}) over cosine {limit:.3f}"
    control = of["control"]
    return [
        code(PurePosixPath(table).name),
        NETWORKS[name],
        str(of["faces"]),
        over,
        _percent(of["real"]["share_over"]),
        _cosine(images["nearest"], "most"),
        f"{_percent(control['found'])} of {control['copies']}" if control["faces"] else "none planted",
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(share: float | None) -> str:
    return "not measurable" if share is None else f"{share:.2%}"


def _cosine(found: Mapping[str, Any] | None, which: str) -> str:
    return "not measurable" if found is None else f"{found[which]:.3f}"
