"""The search for copies of real faces: every image against every real embedding, and a planted copy to be found.

The threshold is the cosine that pairs of two real people reach at the false accept rate. By chance alone images reach
it, too: so counts stand beside what that rate gives for as many pairs, and beside how many real faces reach it with
their nearest stranger. Above both, the most alike pairs have to be looked at. What an audit cannot find proves nothing
by its absence, hence the control: real faces, mirrored, shifted and compressed as a leak would be, are audited like
images, and the share of them that is found, each as the person it is a copy of, is reported with the rest. Shares
alone would hide a few copies among many images: so it is also counted how many images are as near to a real face as
those copies are, and how near the nearest one is.

Shape legend: N images, I identities, G real faces, P real people, C copies, D embedding dimension.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperface.audit import pairs
from hyperface.audit.distribution import Tally, distribution, threshold_at
from hyperface.audit.image_embeddings import Network, Stored
from hyperface.audit.machine import CPU, Machine
from hyperface.audit.pairs import AllPairs, Nearest
from hyperface.audit.real_table import Name, RealTable
from hyperface.audit.separation import Centres, centres
from hyperface.dataset import jpeg

COPY_QUALITY = 75
SHIFTS = (1, 2)
"""Pixels to the right and down by which copies are shifted, in turn."""
NEAR_COPIES = 0.95
"""Share of the planted copies that came nearest to their person which are at least as near as `as_near` says."""

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Threshold:
    """The cosine from which on a pair counts as alike."""

    cosine: float | None
    """Least cosine of a pair that counts as alike; None: not measurable."""
    false_accept_rate: float
    impostors: int
    """Number of pairs of different real people that it is read from."""
    table: str

    @property
    def reason(self) -> str:
        return "" if self.cosine is not None else f"not measurable ({self.impostors} impostors)"

    def record(self) -> dict[str, Any]:
        return {**asdict(self), "reason": self.reason}


@dataclass(frozen=True)
class Known:
    """The faces of a table as one network sees them, compared with each other."""

    table: RealTable
    at_G: NDArray[np.int64]
    """Places in the table of the rows that the network has."""
    rows_GD: Rows
    people_G: NDArray[np.int64]
    pairs: AllPairs
    threshold: Threshold


@dataclass(frozen=True)
class Alike:
    """A synthetic image and the real face that is nearest to it."""

    cosine: float
    image: int
    """Row of the image among the images."""
    face: Name


def known(table: RealTable, network: str, false_accept_rate: float, on: Machine = CPU) -> Known:
    """Compare the faces of a table with each other, and set their threshold, if there are pairs enough for one."""
    given_GD = table.rows[network]
    at_G = np.flatnonzero(np.isfinite(given_GD[:, 0]))
    rows_GD = given_GD if len(at_G) == len(given_GD) else given_GD[at_G]
    found = pairs.all_pairs(rows_GD, table.people_G[at_G], on)
    cosine = threshold_at(found.between, false_accept_rate)
    threshold = Threshold(cosine, false_accept_rate, found.between.count, table.name)
    return Known(table, at_G, rows_GD, table.people_G[at_G], found, threshold)


def leakage(
    stored: Stored,
    of_identities: Centres,
    real: Known,
    threshold: Threshold,
    as_near: float | None,
    top_pairs: int,
    on: Machine = CPU,
) -> tuple[dict[str, Any], list[Alike]]:
    """Return the record of one table by one network, and the most alike pairs, most alike first and one for an
    identity.

    Args:
        threshold: the table's own, or another's where the table has too few pairs.
        as_near: the cosine that planted copies have, as `control` gives it; None: no copy was right.
    """
    found = pairs.cross_pairs(stored.rows_ND, real.rows_GD, on)
    nearest_N, limit = found.nearest.cosines_N, threshold.cosine
    over_N = np.zeros(len(nearest_N), np.bool_) if limit is None else nearest_N >= limit
    by_centre = pairs.cross_pairs(of_identities.rows_ID, real.rows_GD, on).nearest.cosines_N
    record = {
        "faces": len(real.rows_GD),
        "people": len(np.unique(real.people_G)),
        "without_embedding": len(real.table.keys) - len(real.rows_GD),
        "threshold": threshold.record(),
        "real": _real(real, limit),
        "images": {
            "pairs": _plain(found.between),
            "nearest": _plain(nearest_N),
            "pairs_over": _over(found.between, limit),
            "pairs_expected": None if limit is None else threshold.false_accept_rate * found.between.count,
            "images_over": _over(nearest_N, limit),
            "share_over": _share(nearest_N, limit),
            "identities_over": None if limit is None else len(np.unique(stored.identities_N[over_N])),
        },
        "as_near": None
        if as_near is None
        else {"cosine": as_near, "images": _over(nearest_N, as_near), "strangers": _over(_strangers(real), as_near)},
        "centres": {"nearest": _plain(by_centre), "identities_over": _over(by_centre, limit)},
        "real_centres": _to_real_centres(stored, real, limit, on),
    }
    return record, _alike(stored, real, found.nearest, top_pairs)


def control(real: Known, network: Network, count: int, threshold: Threshold, on: Machine = CPU) -> dict[str, Any]:
    """Plant copies of real faces among what is audited, and measure the share of them that is found.

    A copy is right when the real face that is nearest to it is of the person who was copied, and is found when it is
    right and that face reaches the threshold. Reaching it alone shows nothing: strangers do (`strangers`, the share of
    the real faces that reach it with another person). `as_near` is the cosine that 95 % of the right copies have.
    Faces are taken evenly over the table.
    """
    if real.table.pictures is None or count == 0:
        return {"faces": 0, "reason": f"not run: {real.table.no_pictures if count else 'audit.controls=0'}"}
    total, size = len(real.rows_GD), network.image_size
    chosen = [i * total // min(count, total) for i in range(min(count, total))]
    names = {row: real.table.keys[real.at_G[row]] for row in chosen}
    shown = real.table.pictures(list(names.values()))
    faces = {row: shown[name] for row, name in names.items() if name in shown and shown[name].shape == (size, size, 3)}
    if not faces:
        return {"faces": 0, "reason": f"not run: none of {len(names)} pictures could be read at {size}x{size} pixels"}
    people_C, limit = real.people_G[list(faces)], threshold.cosine
    kinds, near, rights = {}, list[Rows](), list[NDArray[np.bool_]]()
    for kind, mirrored in (("shifted", False), ("mirrored", True)):
        copies = [leaked(face, SHIFTS[i % len(SHIFTS)], mirrored) for i, face in enumerate(faces.values())]
        cosines_C, right_C = _found_again(network.embed(np.stack(copies)), people_C, real, on)
        kinds[kind] = _judged(cosines_C, right_C, limit) | {"nearest": _plain(cosines_C)}
        near, rights = [*near, cosines_C], [*rights, right_C]
    cosines_C, right_C = np.concatenate(near), np.concatenate(rights)
    right_cosines = cosines_C[right_C]
    return {
        "faces": len(faces),
        "copies": len(cosines_C),
        **_judged(cosines_C, right_C, limit),
        "strangers": _share(_strangers(real), limit),
        "as_near": float(np.quantile(right_cosines, 1 - NEAR_COPIES)) if len(right_cosines) else None,
        "kinds": kinds,
        "reason": threshold.reason,
    }


def _found_again(
    rows_CD: Rows, people_C: NDArray[np.int64], real: Known, on: Machine
) -> tuple[Rows, NDArray[np.bool_]]:
    """Return (cosine of each copy to the nearest real face, whether that face is of the person who was copied)."""
    there_C = np.asarray(np.isfinite(rows_CD).all(axis=1))
    rows_CD = np.where(there_C[:, None], rows_CD, np.float32(0))  # a copy without an embedding is not found
    nearest = pairs.cross_pairs(rows_CD, real.rows_GD, on).nearest
    at_C = [pairs.partner(nearest, row, rows_CD, real.rows_GD) for row in range(len(rows_CD))]
    right_C = there_C & np.equal(real.people_G[at_C], people_C)
    return nearest.cosines_N, right_C


def _judged(cosines_C: Rows, right_C: NDArray[np.bool_], limit: float | None) -> dict[str, Any]:
    found = None if limit is None else float((right_C & (cosines_C >= limit)).mean())
    return {"found": found, "over": _share(cosines_C, limit), "right": float(right_C.mean())}


def leaked(face_HWC: NDArray[np.uint8], shift: int, mirrored: bool) -> NDArray[np.uint8]:
    """A copy of a face as a generator that remembers it may give it: moved by pixels, perhaps mirrored, compressed."""
    moved_HWC = np.pad(face_HWC, ((shift, 0), (shift, 0), (0, 0)), mode="edge")[:-shift, :-shift]
    copy_HWC = moved_HWC[:, ::-1] if mirrored else moved_HWC
    return jpeg.decode(jpeg.encode(np.ascontiguousarray(copy_HWC), COPY_QUALITY))


def _strangers(real: Known) -> Rows:
    """Return the cosine of each real face to the nearest face of another person; only of faces that have one."""
    return real.pairs.nearest.cosines_N[real.pairs.nearest.there_N]


def _real(real: Known, limit: float | None) -> dict[str, Any]:
    """Describe real faces among themselves: the yardstick. A cosine that a stranger reaches is no sign of a copy."""
    strangers_G = _strangers(real)
    return {
        "impostors": _plain(real.pairs.between),
        "genuine": _plain(real.pairs.within),
        "nearest_other": _plain(strangers_G),
        "faces_over": _over(strangers_G, limit),
        "share_over": _share(strangers_G, limit),
    }


def _to_real_centres(stored: Stored, real: Known, limit: float | None, on: Machine) -> dict[str, Any] | None:
    """Compare images with the mean direction of each real person; None where each person has one face."""
    if real.pairs.within.count == 0:
        return None
    centres_PD = centres(real.rows_GD, real.people_G, on).rows_ID
    nearest_N = pairs.cross_pairs(stored.rows_ND, centres_PD, on).nearest.cosines_N
    return {"nearest": _plain(nearest_N), "images_over": _over(nearest_N, limit)}


def _alike(stored: Stored, real: Known, nearest: Nearest, count: int) -> list[Alike]:
    """The image of each identity that is nearest to a real face, most alike first."""
    found, shown = list[Alike](), set[int]()
    for row in pairs.by_cosine(nearest):
        if len(found) == count:
            break
        if int(stored.identities_N[row]) not in shown:
            shown.add(int(stored.identities_N[row]))
            face = pairs.partner(nearest, row, stored.rows_ND, real.rows_GD)
            found.append(Alike(float(nearest.cosines_N[row]), row, real.table.keys[real.at_G[face]]))
    return found


def _plain(cosines: Tally | Rows) -> dict[str, Any] | None:
    found = cosines.distribution() if isinstance(cosines, Tally) else distribution(cosines)
    return None if found is None else asdict(found)


def _over(cosines: Tally | Rows, limit: float | None) -> int | None:
    """Count the cosines that reach the threshold; None where there is none."""
    if limit is None:
        return None
    return cosines.at_or_above(limit) if isinstance(cosines, Tally) else int((cosines >= limit).sum())


def _share(cosines: Rows, limit: float | None) -> float | None:
    return None if limit is None or not len(cosines) else float((cosines >= limit).mean())
