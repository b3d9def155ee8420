"""The audit of a dataset, put together: how separate its identities are, and whether its faces copy real ones.

By each network that looks: the recogniser, whose cosines prove little because the images were made to please it, and
the judge, who only measures. What cannot be measured is said in `not_measured`, and never a number; `notes` are what a
reader has to know of those that are.

Writes `evaluation/audit_faces.json` (the pairs that are shown), then `evaluation/audit.json` (the numbers).

Shape legend: N images, I identities, D embedding dimension.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperface.audit import attributes, pairs, separation
from hyperface.audit.attributes import Attributes, Centred
from hyperface.audit.distribution import distribution, equal_error
from hyperface.audit.image_embeddings import Network, Stored, pictures
from hyperface.audit.leakage import Alike, Known, Threshold, control, known, leakage
from hyperface.audit.machine import CPU, Machine
from hyperface.audit.real_table import Name, RealTable
from hyperface.audit.separation import Centres, Images
from hyperface.config import without_knobs
from hyperface.dataset import jpeg
from hyperface.dataset.source import Source
from hyperface.dataset.verify import references_problems
from hyperface.errors import RunError
from hyperface.faces import embeddings
from hyperface.run import Run
from hyperface.run.audit_shapes import Audit, AuditFaces
from hyperface.run.names import AUDIT, AUDIT_FACES, REFERENCES
from hyperface.run.provenance import provenance

VERSION = 2
"""Version of the record: one of another version is not what was asked for, and is measured again."""
NEAREST_IDENTITIES = 8
NAMED = 20
"""Most images without an embedding that the record names."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Look:
    """The dataset as one network sees it."""

    name: str
    """Name of the network, `recognizer` or `judge`."""
    network: Network
    stored: Stored


def asked(
    source: Source, networks: Mapping[str, Network], real: Mapping[str, Mapping[str, Any]], labels: str = ""
) -> Record:
    """Return the values that decide an audit; equal ones are not made again.

    Args:
        real: {table of real faces: its SHA-256, and the number of chunks of pictures that are there}.
        labels: SHA-256 of the table of attributes.
    """
    return {
        "version": VERSION,
        "dataset": source.index_sha256,
        "networks": {name: network.fingerprint for name, network in networks.items()},
        "real": {name: dict(known) for name, known in real.items()},
        "labels": labels,
        "settings": without_knobs(source.run.config.audit),
    }


def recorded(run: Run, wanted: Record) -> Record | None:
    """Return the audit that is there, when it is of these inputs, whole, and the faces that it shows are there, too."""
    if not (run.store.exists(AUDIT) and run.store.exists(AUDIT_FACES)):
        return None
    try:
        found = run.shaped(AUDIT, Audit)
        run.shaped(AUDIT_FACES, AuditFaces)
    except RunError:  # cut or damaged: the embeddings are there, and it is measured again
        return None
    return dict(found) if found["asked"] == wanted else None


def audit_run(
    source: Source,
    looks: Sequence[Look],
    tables: Sequence[RealTable],
    read_attributes: Callable[[Centres], Attributes | None],
    on: Machine = CPU,
) -> tuple[Record, Record]:
    """Return (record, faces) of a dataset, by every network that looks, the recogniser first.

    Args:
        tables: real faces, the gallery first: thresholds come from it where a table has too few pairs.
        read_attributes: reads the attributes of the identities as the recogniser sees them; None where nobody knows
            any.

    Raises:
        EmbeddingError: a row is not of norm 1.
        RunError: a network has no embedding for any image.
    """
    notes, cautions = _begun(source, looks, tables), _cautions(tables)
    real = {(t.name, look.name): _known(t, look, source, notes, on) for look in looks for t in tables}
    measured = {look.name: _images(look, on) for look in looks}
    networks, leaks, shown = {}, dict[str, Record](), _Shown(source)
    for look in looks:
        threshold = _calibrated(look.name, tables, real, source)
        networks[look.name] = _separation(look, measured[look.name], threshold, notes, shown, on)
        for table in tables:
            of_table = real[table.name, look.name]
            if of_table is not None:
                made = _leaks(look, measured[look.name], of_table, threshold, source, shown, notes, on)
                cautions += _folders(look.name, of_table)
                leaks.setdefault(table.name, {})[look.name] = made
    spreads = _attributes(read_attributes, measured, networks, notes, on)
    record = {
        "networks": networks,
        "attributes": spreads,
        "references": _references(source, notes, on),
        "leakage": leaks,
        "not_measured": notes,
        "notes": cautions,
    }
    return record, shown.faces(tables)


def _begun(source: Source, looks: Sequence[Look], tables: Sequence[RealTable]) -> list[str]:
    """Begin the notes with all that is known from the start not to be measured."""
    for look in looks:
        if not len(look.stored.rows_ND):
            raise RunError(f"{source.run}: the {look.name} gives no embedding (NaN) for any image; give another model")
    notes = [] if tables else ["leakage: the run has no gallery, and audit.against names no real faces"]
    if not any(look.name == "judge" for look in looks):
        notes.append("by an independent judge: there is none (judge.kind); the recogniser's own cosines prove little")
    return notes


def _cautions(tables: Sequence[RealTable]) -> list[str]:
    """Return cautions about tables whose threshold may be too high."""
    alone = [table for table in tables if len(np.unique(table.people_G)) == len(table.keys) > 1]
    why = "faces counts as a person of its own; if it holds several pictures of a person, the threshold is too high"
    return [f"{table.name}: each of its {len(table.keys)} {why} (audit.classes)" for table in alone]


def _folders(network: str, of_table: Known) -> list[str]:
    """Return a note where the faces of one person are mostly no more alike than strangers are."""
    within, limit = of_table.pairs.within, of_table.threshold.cosine
    if not within.count or limit is None or 2 * within.below(limit) <= within.count:
        return []
    share = f"{within.below(limit) / within.count:.0%} of the pairs of faces of one person are below the threshold"
    meant = "its folders seem to be no persons; if so, set audit.classes=each"
    return [f"{of_table.table.name} by the {network}: {share}: {meant}"]


def _attributes(
    read: Callable[[Centres], Attributes | None],
    measured: Mapping[str, Images],
    networks: Mapping[str, Record],
    notes: list[str],
    on: Machine,
) -> Record | None:
    found = read(next(iter(measured.values())).centres)
    if found is None:
        notes.append("attributes: nobody knows any; give labels or a model (audit.attributes)")
        return None
    notes += found.notes
    seen = {
        name: Centred(of.centres.identities_I, of.centres.rows_ID, networks[name]["calibrated"]["cosine"])
        for name, of in measured.items()
    }
    return attributes.spread(found, seen, on.at("groups of identities"))


def write(run: Run, wanted: Record, record: Record, faces: Record) -> Record:
    """Write the pairs that are shown, then the numbers with their inputs and their provenance; return the latter."""
    whole = {"asked": wanted, "provenance": provenance(run.config), **record}
    run.put_json(AUDIT_FACES, faces)
    run.put_json(AUDIT, whole)
    return whole


def _images(look: Look, on: Machine) -> Images:
    return separation.images(look.stored.rows_ND, look.stored.identities_N, on.at(f"images by the {look.name}"))


def _known(table: RealTable, look: Look, source: Source, notes: list[str], on: Machine) -> Known | None:
    rows_GD = table.rows.get(look.name)
    if rows_GD is None or not np.isfinite(rows_GD).any():
        none = f"{table.no_pictures}, which it would have to embed"
        reason = none if table.pictures is None else "not one of its pictures gave an embedding"
        notes.append(f"leakage of {table.name} by the {look.name}: {reason}")
        return None
    rate, on = source.run.config.audit.false_accept_rate, on.at(f"{table.name} by the {look.name}")
    found = known(table, look.name, rate, on)
    without = len(table.keys) - len(found.rows_GD)
    if without:
        notes.append(f"{without} of {len(table.keys)} faces of {table.name} have no embedding by the {look.name}")
    embeddings.check_unit(found.rows_GD, f"{table.name} by the {look.name}")
    return found


def _calibrated(
    network: str, tables: Sequence[RealTable], real: Mapping[tuple[str, str], Known | None], source: Source
) -> Threshold:
    """Return the threshold of the first table that has enough pairs, the gallery before others."""
    found = [of.threshold for table in tables if (of := real[table.name, network]) is not None]
    rate = source.run.config.audit.false_accept_rate
    none = found[0] if found else Threshold(None, rate, 0, "no table")
    return next((threshold for threshold in found if threshold.cosine is not None), none)


def _separation(
    look: Look, found: Images, threshold: Threshold, notes: list[str], shown: "_Shown", on: Machine
) -> Record:
    within, between, stored = found.pairs.within, found.pairs.between, look.stored
    on = on.at(f"identities by the {look.name}")
    rate, equal = equal_error(within, between)
    of_identities = pairs.all_pairs(found.centres.rows_ID, on=on).nearest
    identities = len(found.centres.identities_I)
    if identities < 2:
        notes.append(f"separation by the {look.name}: not measurable (0 impostors): there is one identity")
    if not within.count:
        notes.append(f"consistency by the {look.name}: not measurable (0 genuine pairs): no identity has two images")
    if threshold.cosine is None:
        notes.append(f"a threshold at FAR {threshold.false_accept_rate:g} by the {look.name}: {threshold.reason}")
    if stored.without:
        notes.append(f"{len(stored.without)} images by the {look.name}: no embedding (NaN): {stored.without[0]}, ...")
    closest = _nearest_identities(look, found, of_identities, shown)
    nearest_N = found.pairs.nearest.cosines_N[found.pairs.nearest.there_N]
    return {
        "fingerprint": look.network.fingerprint,
        "embedding_dim": look.network.embedding_dim,
        "images": len(stored.rows_ND),
        "identities": identities,
        "without_embedding": {"count": len(stored.without), "keys": stored.without[:NAMED]},
        "intra": _plain(within.distribution()),
        "inter": _plain(between.distribution()),
        "nearest_other": _plain(distribution(nearest_N)),
        "to_centre": _plain(found.centres.to_centre.distribution()),
        "nearest_centre": _plain(distribution(of_identities.cosines_N[of_identities.there_N])),
        "equal_error": {"rate": rate, "cosine": equal},
        "calibrated": threshold.record(),
        "at_calibrated": _at(found, of_identities.cosines_N, threshold.cosine, on),
        "at_equal_error": _at(found, of_identities.cosines_N, equal, on),
        "nearest_identities": closest,
    }


def _at(found: Images, nearest_I: NDArray[np.float32], threshold: float | None, on: Machine) -> Record | None:
    """Count what is true at a threshold; None where there is no threshold, or nothing to hold against it.

    Centres are averages of images, and nearer to each other than images of the same two identities are.
    """
    identities, within, between = len(nearest_I), found.pairs.within, found.pairs.between
    if threshold is None or identities < 2:
        return None
    return {
        "cosine": threshold,
        "effective_identities": separation.greedy_count(found.centres.rows_ID, threshold, on),
        "identities": identities,
        "separable": float((nearest_I < threshold).mean()),
        "genuine_below": within.below(threshold) / within.count if within.count else None,
        "impostors_over": between.at_or_above(threshold) / between.count,
    }


def _nearest_identities(look: Look, found: Images, nearest: pairs.Nearest, shown: "_Shown") -> list[Record]:
    """Return the identities with the most alike centres."""
    centres_ID, identities_I = found.centres.rows_ID, found.centres.identities_I
    closest = separation.closest_rows(nearest, centres_ID, np.arange(len(centres_ID)), NEAREST_IDENTITIES)
    rows = []
    for pair in closest:
        identities = [int(identities_I[i]) for i in (pair.first, pair.second)]
        keys = [look.stored.key(int(np.searchsorted(look.stored.identities_N, identity))) for identity in identities]
        rows.append({"cosine": round(pair.cosine, 4), "identities": identities, "keys": keys})
    shown.identities[look.name] = rows
    return rows


def _leaks(
    look: Look,
    found: Images,
    of_table: Known,
    calibrated: Threshold,
    source: Source,
    shown: "_Shown",
    notes: list[str],
    on: Machine,
) -> Record:
    """Return the record of one table by one network, with its control."""
    config, table = source.run.config.audit, of_table.table.name
    on = on.at(f"images and {table} by the {look.name}")
    threshold = of_table.threshold if of_table.threshold.cosine is not None else calibrated
    if threshold.cosine is None:
        threshold = of_table.threshold
        notes.append(f"leakage of {table} over a threshold by the {look.name}: {threshold.reason}")
    elif threshold.table != table:
        short = f"has too few pairs of people ({of_table.threshold.impostors})"
        notes.append(f"a threshold of {table} by the {look.name}: it {short}; that of {threshold.table} is used")
    planted, top = control(of_table, look.network, config.controls, threshold, on), config.top_pairs
    if not planted["faces"]:
        notes.append(f"positive control of {table} by the {look.name}: {planted['reason']}")
    near = planted.get("as_near")
    record, alike = leakage(look.stored, found.centres, of_table, threshold, near, top, on)
    record["control"] = planted
    record["top"] = [_pair(look.stored, pair) for pair in alike]
    shown.pairs[table, look.name] = record["top"]
    return record


def _pair(stored: Stored, pair: Alike) -> Record:
    identity = int(stored.identities_N[pair.image])
    return {
        "cosine": round(pair.cosine, 4),
        "identity": identity,
        "synthetic": stored.key(pair.image),
        "real": pair.face,
    }


def _references(source: Source, notes: list[str], on: Machine) -> Record | None:
    run = source.run
    if not run.store.exists(REFERENCES):
        notes.append("separation of the references: there are none")
        return None
    for problem in references_problems(run.store, source.parts):
        raise RunError(problem)
    rows_ND = embeddings.read(run.store, REFERENCES, "identity").vectors_ND
    if len(rows_ND) < 2:
        notes.append("separation of the references: not measurable (0 impostors): there is one")
        return None
    return asdict(separation.of_references(rows_ND, on.at("references")))


class _Shown:
    """The pairs whose pictures are kept."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.identities: dict[str, list[Record]] = {}
        self.pairs: dict[tuple[str, str], list[Record]] = {}

    def faces(self, tables: Sequence[RealTable]) -> Record:
        """Return {"nearest_identities": {network: rows}, "leakage": {table: {network: rows}}}; a row has a cosine and
        two images {key, jpeg}, first the synthetic one; `jpeg` is None where there is no picture."""
        synthetic = [row["synthetic"] for rows in self.pairs.values() for row in rows]
        synthetic += [key for rows in self.identities.values() for row in rows for key in row["keys"]]
        drawn = pictures(self.source, synthetic)
        leaks = dict[str, Record]()
        for table in tables:
            wanted = [row["real"] for (name, _), rows in self.pairs.items() if name == table.name for row in rows]
            real = table.pictures(wanted) if table.pictures and wanted else {}
            for (name, network), rows in self.pairs.items():
                if name == table.name:
                    both = [[_synthetic(row["synthetic"], drawn), _real(row["real"], real)] for row in rows]
                    leaks.setdefault(name, {})[network] = _faces(rows, both)
        identities = {
            network: _faces(rows, [[_synthetic(key, drawn) for key in row["keys"]] for row in rows])
            for network, rows in self.identities.items()
        }
        return {"nearest_identities": identities, "leakage": leaks}


def _faces(rows: Sequence[Record], images: Sequence[list[Record]]) -> list[Record]:
    return [{"cosine": row["cosine"], "images": both} for row, both in zip(rows, images, strict=True)]


def _synthetic(key: str, drawn: Mapping[str, bytes]) -> Record:
    return {"key": key, "jpeg": jpeg.thumbnail(drawn[key]) if key in drawn else None}


def _real(key: Name, real: Mapping[Name, NDArray[np.uint8]]) -> Record:
    image_HWC = real.get(key)
    return {"key": str(key), "jpeg": None if image_HWC is None else jpeg.thumbnail(jpeg.encode(image_HWC, 95))}


def _plain(found: Any) -> Any:
    return None if found is None else asdict(found)
