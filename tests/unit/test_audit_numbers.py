"""Tests of every number of an audit's record against brute force, on rows made by hand: six identities, four tables of
faces."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from album import DIM, SIZE, Album, Pixels, Rows
from audited_run import audited_run, auditor, put_faces
from numpy.typing import NDArray
from PIL import Image

from hyperface.audit import leakage
from hyperface.audit.image_embeddings import Stored
from hyperface.audit.real_table import RealTable
from hyperface.audit.record import Look, audit_run
from hyperface.audit.separation import centres
from hyperface.audit.summary import over_strangers
from hyperface.dataset import jpeg
from hyperface.dataset.source import Source
from hyperface.models.arcface import normalised

RATE = 1e-3
Record = dict[str, Any]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = tmp_path_factory.mktemp("whole")
    put_faces(folder / "faces", 3)
    keys = ("audit.false_accept_rate=0.001", "audit.controls=14", "audit.top_pairs=3")
    return auditor(audited_run(folder / "run", folder / "faces", *keys)).source


def stored(seed: int = 8) -> Stored:
    """Six identities of five images; the last one looks nearly like the first."""
    rng = np.random.default_rng(seed)
    centres_ID = rng.normal(size=(6, DIM))
    centres_ID[5] = centres_ID[0] + 0.1 * rng.normal(size=DIM)
    rows_ND = np.repeat(centres_ID, 5, axis=0) + 0.35 * rng.normal(size=(30, DIM))
    return Stored(normalised(rows_ND.astype(np.float32)), np.repeat(np.arange(6), 5), np.tile(np.arange(5), 6), [])


TABLES = {
    "gallery": Album(66, 22, seed=1),
    "other": Album(80, 40, seed=2, noise=60),
    "few": Album(6, 6, seed=3),
    "gaps": Album(70, 35, seed=4, noise=60, blind=9),
}


@pytest.fixture(scope="module")
def record(source: Source) -> Record:
    look = Look("recognizer", Pixels(), stored())
    found, _ = audit_run(source, [look], [album.table(name) for name, album in TABLES.items()], lambda _: None)
    return found


def exact(rows: Rows) -> NDArray[np.float64]:
    return rows.astype(np.float64)


@dataclass(frozen=True)
class Truth:
    """The truth about a table by brute force."""

    rows_GD: Rows
    people_G: NDArray[np.int64]

    @staticmethod
    def of(album: Album) -> "Truth":
        people_G, rows_GD = (
            np.array([int(n[:3]) for n in album.by_name]),
            Pixels().embed(np.stack([*album.by_name.values()])),
        )
        seen_G = np.isfinite(rows_GD).all(axis=1)
        return Truth(rows_GD[seen_G], people_G[seen_G])

    @property
    def strangers(self) -> NDArray[np.float64]:
        """Return the cosine of each face to the nearest of another person."""
        cosines_GG = exact(self.rows_GD) @ exact(self.rows_GD).T
        cosines_GG[self.people_G[:, None] == self.people_G] = -2
        nearest: NDArray[np.float64] = cosines_GG.max(axis=1)
        return nearest

    @property
    def impostors(self) -> NDArray[np.float64]:
        return self._pairs(self.people_G[:, None] != self.people_G)

    @property
    def genuine(self) -> NDArray[np.float64]:
        return self._pairs(self.people_G[:, None] == self.people_G)

    def _pairs(self, wanted_GG: NDArray[np.bool_]) -> NDArray[np.float64]:
        pairs: NDArray[np.float64] = (exact(self.rows_GD) @ exact(self.rows_GD).T)[np.triu(wanted_GG, 1)]
        return pairs

    @property
    def centres(self) -> NDArray[np.float64]:
        sums = np.stack([exact(self.rows_GD)[self.people_G == person].sum(0) for person in np.unique(self.people_G)])
        unit: NDArray[np.float64] = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        return unit


def of_images() -> Truth:
    return Truth(stored().rows_ND, stored().identities_N)


def test_a_threshold_is_the_lowest_that_at_most_the_rate_of_the_impostors_reaches(record: Record) -> None:
    for name in ("gallery", "other", "gaps"):
        threshold, impostors = record["leakage"][name]["recognizer"]["threshold"], Truth.of(TABLES[name]).impostors
        assert (threshold["table"], threshold["impostors"]) == (name, len(impostors))
        allowed = int(RATE * len(impostors))
        assert 0 < allowed < len(impostors)
        assert (impostors >= threshold["cosine"] + 1e-6).sum() <= allowed
        assert (impostors >= threshold["cosine"] - 1.1e-4).sum() > allowed


def test_identities_are_counted_at_the_gallerys_threshold_and_a_small_table_borrows_it(record: Record) -> None:
    leaks, network = record["leakage"], record["networks"]["recognizer"]
    thresholds = {name: leaks[name]["recognizer"]["threshold"]["cosine"] for name in TABLES}
    assert abs(thresholds["gallery"] - thresholds["other"]) > 1e-3
    assert thresholds["few"] == thresholds["gallery"]
    assert leaks["few"]["recognizer"]["threshold"]["table"] == "gallery"
    assert network["calibrated"]["cosine"] == network["at_calibrated"]["cosine"] == thresholds["gallery"]


@pytest.mark.parametrize("which", ["at_calibrated", "at_equal_error"])
def test_what_is_true_of_the_identities_at_a_threshold(record: Record, which: str) -> None:
    found, truth = record["networks"]["recognizer"][which], of_images()
    limit, between_II = found["cosine"], truth.centres @ truth.centres.T
    np.fill_diagonal(between_II, -2)
    counted: list[int] = []
    for identity in range(6):
        if not any(between_II[identity, other] >= limit for other in counted):
            counted.append(identity)
    assert (found["effective_identities"], found["identities"]) == (len(counted), 6)
    assert found["separable"] == pytest.approx((between_II.max(axis=1) < limit).mean())
    upper = np.triu(np.ones((30, 30), bool), 1)
    same = truth.people_G[:, None] == truth.people_G
    cosines = exact(truth.rows_GD) @ exact(truth.rows_GD).T
    assert found["genuine_below"] == pytest.approx((cosines[upper & same] < limit).mean())
    assert found["impostors_over"] == pytest.approx((cosines[upper & ~same] >= limit).mean())


def test_the_rows_of_these_tests_can_tell_a_wrong_count_from_a_right_one(record: Record) -> None:
    found = record["networks"]["recognizer"]
    at = (found["at_calibrated"], found["at_equal_error"])
    assert any(1 < one["effective_identities"] < 6 and 0 < one["separable"] < 1 for one in at)
    assert any(0 < one["genuine_below"] < 1 for one in at)
    assert any(0 < one["impostors_over"] < 1 for one in at)
    of = record["leakage"]["gallery"]["recognizer"]
    assert 0 < of["real"]["share_over"] < 1
    assert 0 < of["control"]["found"] < of["control"]["over"] <= 1
    assert of["images"]["pairs_over"] > 0


def test_what_is_over_the_threshold_beside_what_strangers_give(record: Record) -> None:
    images = of_images()
    for name, album in TABLES.items():
        of, truth = record["leakage"][name]["recognizer"], Truth.of(album)
        limit, cosines_NG = of["threshold"]["cosine"], exact(images.rows_GD) @ exact(truth.rows_GD).T
        nearest_N = cosines_NG.max(axis=1)
        found = of["images"]
        assert found["pairs"]["count"] == cosines_NG.size
        assert found["pairs_over"] == (cosines_NG >= limit).sum()
        assert found["pairs_expected"] == pytest.approx(RATE * cosines_NG.size)
        assert found["images_over"] == (nearest_N >= limit).sum()
        assert found["share_over"] == pytest.approx((nearest_N >= limit).mean())
        assert found["identities_over"] == len(set(images.people_G[nearest_N >= limit].tolist()))
        assert found["nearest"]["most"] == pytest.approx(nearest_N.max(), abs=1e-5)
        real, people = of["real"], len(set(truth.people_G.tolist()))
        without = len(album.by_name) - len(truth.rows_GD)
        assert (of["faces"], of["people"], of["without_embedding"]) == (len(truth.rows_GD), people, without)
        noted = f"{without} of {len(album.by_name)} faces of {name} have no embedding by the recognizer"
        assert (noted in record["not_measured"]) == (without > 0) == (name == "gaps")
        assert real["faces_over"] == (truth.strangers >= limit).sum()
        assert real["share_over"] == pytest.approx((truth.strangers >= limit).mean())
        assert real["nearest_other"]["mean"] == pytest.approx(truth.strangers.mean(), abs=1e-5)


def test_centres_are_compared_as_well(record: Record) -> None:
    images = of_images()
    for name, album in TABLES.items():
        of, truth = record["leakage"][name]["recognizer"], Truth.of(album)
        limit, by_centre = of["threshold"]["cosine"], (images.centres @ exact(truth.rows_GD).T).max(axis=1)
        assert of["centres"]["identities_over"] == (by_centre >= limit).sum()
        assert of["centres"]["nearest"]["mean"] == pytest.approx(by_centre.mean(), abs=1e-5)
        if name == "few":
            assert of["real_centres"] is None
            continue
        to_centres = (exact(images.rows_GD) @ truth.centres.T).max(axis=1)
        assert of["real_centres"]["images_over"] == (to_centres >= limit).sum()
        assert of["real_centres"]["nearest"]["mean"] == pytest.approx(to_centres.mean(), abs=1e-5)


def is_of(found: Record, cosines: NDArray[np.float64]) -> bool:
    """Return whether a distribution of the record is that of these cosines."""
    ends = (found["least"], found["mean"], found["most"])
    assert ends == pytest.approx((cosines.min(), cosines.mean(), cosines.max()), abs=2e-5)
    assert found["quantiles"]["0.5"] == pytest.approx(np.quantile(cosines, 0.5, method="inverted_cdf"), abs=2e-4)
    return bool(found["count"] == cosines.size)


def test_images_of_one_identity_and_of_two_are_counted_apart(record: Record) -> None:
    found, truth = record["networks"]["recognizer"], of_images()
    assert is_of(found["inter"], truth.impostors)
    assert is_of(found["intra"], truth.genuine)
    assert is_of(found["nearest_other"], truth.strangers)
    rows = exact(truth.rows_GD)
    others = [rows[(truth.people_G == p) & (np.arange(30) != i)].sum(0) for i, p in enumerate(truth.people_G)]
    assert is_of(
        found["to_centre"], np.array([row @ o / np.linalg.norm(o) for row, o in zip(rows, others, strict=True)])
    )
    rate, limit = found["equal_error"]["rate"], found["equal_error"]["cosine"]
    rejected, accepted = (truth.genuine < limit).mean(), (truth.impostors >= limit).mean()
    assert rate == pytest.approx((rejected + accepted) / 2)
    assert rejected == pytest.approx(accepted, abs=0.02)


def test_the_most_alike_identities_are_named(record: Record) -> None:
    found, truth = record["networks"]["recognizer"], of_images()
    cosines_II = truth.centres @ truth.centres.T
    np.fill_diagonal(cosines_II, -2)
    assert is_of(found["nearest_centre"], cosines_II.max(axis=1))
    wanted: list[tuple[int, ...]] = []
    for identity in np.argsort(-cosines_II.max(axis=1), kind="stable").tolist():
        pair = tuple(sorted((identity, int(cosines_II[identity].argmax()))))
        if not set(pair) & {shown for pairs in wanted for shown in pairs}:
            wanted.append(pair)
    rows = found["nearest_identities"]
    assert rows
    assert [tuple(row["identities"]) for row in rows] == wanted
    assert rows[0]["cosine"] == round(cosines_II.max(), 4)
    assert [row["keys"] for row in rows] == [[f"{identity:07d}-0000" for identity in pair] for pair in wanted]


def test_real_faces_among_themselves_are_the_yardstick(record: Record) -> None:
    for name, album in TABLES.items():
        real, truth = record["leakage"][name]["recognizer"]["real"], Truth.of(album)
        assert is_of(real["impostors"], truth.impostors)
        assert is_of(real["nearest_other"], truth.strangers)
        assert real["genuine"] is None if name == "few" else is_of(real["genuine"], truth.genuine)


def test_the_most_alike_pairs_are_named_one_for_an_identity(record: Record) -> None:
    images = of_images()
    for name, album in TABLES.items():
        of, names = record["leakage"][name]["recognizer"], album.seen
        rows_GD = Pixels().embed(np.stack([album.by_name[n] for n in names]))
        cosines_NG = exact(images.rows_GD) @ exact(rows_GD).T
        best = [max(range(5 * i, 5 * i + 5), key=lambda row: cosines_NG[row].max()) for i in range(6)]
        best = sorted(best, key=lambda row: -cosines_NG[row].max())[:3]
        assert is_of(of["images"]["pairs"], cosines_NG)
        assert of["top"] == [
            {
                "cosine": pytest.approx(cosines_NG[row].max(), abs=6e-5),
                "identity": row // 5,
                "synthetic": f"{row // 5:07d}-{row % 5:04d}",
                "real": names[int(cosines_NG[row].argmax())],
            }
            for row in best
        ]


def as_leaked(image: NDArray[np.uint8], shift: int, mirrored: bool) -> NDArray[np.uint8]:
    """Each pixel comes from so many to the left and above, from the edge where there is none; then JPEG 75."""
    moved = np.empty_like(image)
    for y in range(len(image)):
        for x in range(len(image)):
            moved[y, x] = image[max(0, y - shift), max(0, x - shift)]
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(moved[:, ::-1]) if mirrored else moved).save(
        file, "JPEG", quality=75, subsampling=0
    )
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("shift", [1, 2])
def test_a_planted_copy_is_moved_perhaps_mirrored_and_compressed(shift: int, mirrored: bool) -> None:
    image = next(iter(TABLES["other"].by_name.values()))
    assert np.array_equal(leakage.leaked(image, shift, mirrored), as_leaked(image, shift, mirrored))
    assert not np.array_equal(leakage.leaked(image, shift, mirrored), jpeg.decode(jpeg.encode(image, 75)))


@pytest.mark.parametrize("table", ["gallery", "gaps"])
def test_planted_copies_are_found_where_they_are_over_the_threshold_and_nearest_to_their_own_person(
    record: Record, table: str
) -> None:
    album = TABLES[table]
    truth, of = Truth.of(album), record["leakage"][table]["recognizer"]
    limit, names = of["threshold"]["cosine"], album.seen  # by person, as the table has them
    chosen = [names[i * len(names) // 14] for i in range(14)]
    every: list[tuple[float, bool]] = []
    for kind, mirrored in (("shifted", False), ("mirrored", True)):
        copies = np.stack([as_leaked(album.by_name[n], 1 + i % 2, mirrored) for i, n in enumerate(chosen)])
        cosines_CG = exact(Pixels().embed(copies)) @ exact(truth.rows_GD).T
        right = truth.people_G[cosines_CG.argmax(axis=1)] == [int(name[:3]) for name in chosen]
        over = cosines_CG.max(axis=1) >= limit
        found = of["control"]["kinds"][kind]
        assert found["right"] == pytest.approx(right.mean())
        assert found["over"] == pytest.approx(over.mean())
        assert found["found"] == pytest.approx((right & over).mean())
        assert found["nearest"]["mean"] == pytest.approx(cosines_CG.max(axis=1).mean(), abs=1e-5)
        every += zip(cosines_CG.max(axis=1).tolist(), right.tolist(), strict=True)
    control, near = of["control"], [cosine for cosine, right in every if right]
    assert (control["faces"], control["copies"]) == (14, 28)
    assert control["found"] == pytest.approx(np.mean([right and cosine >= limit for cosine, right in every]))
    assert control["right"] == pytest.approx(np.mean([right for _, right in every]))
    assert control["strangers"] == pytest.approx((truth.strangers >= limit).mean())
    assert control["as_near"] == pytest.approx(np.quantile(near, 0.05), abs=1e-5)
    nearest_N = (exact(of_images().rows_GD) @ exact(truth.rows_GD).T).max(axis=1)
    assert of["as_near"] == {
        "cosine": control["as_near"],
        "images": (nearest_N >= control["as_near"]).sum(),
        "strangers": (truth.strangers >= control["as_near"]).sum(),
    }


@dataclass(frozen=True)
class Blind(Pixels):
    """Gives a direction by chance for every picture."""

    embedding_dim: int = DIM

    def embed(self, images_BHWC: NDArray[np.uint8]) -> Rows:
        return random_rows(len(images_BHWC), int(images_BHWC.sum()))


def random_rows(count: int, seed: int, offset: float = 0.0, dim: int = DIM) -> Rows:
    """Draw random unit rows; all have `offset` in common."""
    return normalised((np.random.default_rng(seed).standard_normal((count, dim)) + offset).astype(np.float32))


def real_faces(count: int, offset: float = 0.0) -> RealTable:
    names = [str(i) for i in range(count)]

    def pictures(wanted: Sequence[Any]) -> dict[Any, NDArray[np.uint8]]:
        return {n: np.random.default_rng(int(n)).integers(0, 256, (SIZE, SIZE, 3), np.uint8) for n in wanted}

    return RealTable("gallery", list(names), np.arange(count), {"judge": random_rows(count, 1, offset)}, pictures, "")


def test_a_network_that_sees_nothing_finds_no_copy_though_many_are_near_some_face() -> None:
    real = leakage.known(real_faces(3000), "judge", 1e-3)
    control = leakage.control(real, Blind(), 50, real.threshold)
    assert control["over"] > 0.5
    assert control["strangers"] > 0.5
    assert control["found"] == control["right"] <= 0.02


def test_a_copy_without_an_embedding_is_not_right_though_its_face_comes_first() -> None:
    class Dark(Pixels):
        def embed(self, images_BHWC: NDArray[np.uint8]) -> Rows:
            return np.full((len(images_BHWC), DIM), np.nan, np.float32)

    real = leakage.known(real_faces(40), "judge", 0.05)
    control = leakage.control(real, Dark(), 1, real.threshold)
    assert (control["found"], control["right"], control["as_near"]) == (0, 0, None)


def test_a_few_copies_among_many_images_that_keep_away_are_not_called_what_strangers_give() -> None:
    real = leakage.known(real_faces(1000, offset=1), "judge", 1e-3)
    rows = random_rows(4000, 2)
    rows[:3] = real.rows_GD[:3]
    images = Stored(rows, np.arange(4000) // 10, np.arange(4000) % 10, [])
    found, _ = leakage.leakage(images, centres(rows, images.identities_N), real, real.threshold, 0.995, 3)
    assert found["images"]["share_over"] < found["real"]["share_over"]
    assert found["as_near"] == {"cosine": 0.995, "images": 3, "strangers": 0}
    assert any(over_strangers(found))
