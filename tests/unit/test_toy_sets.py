"""The toy world's held-out sets: fair pairs of people of their own, kept once drawn."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hyperface.models.toy.recognizer import load_judge, load_recognizer
from hyperface.storage import open_store
from hyperface.verification import toy_sets
from hyperface.verification.pair_set import PairSet
from hyperface.verification.stage import verify_on
from hyperface.verification.toy_sets import FOLDS, PAIRS, TOY_SETS, toy_set

VIEWS, PEOPLE = 5, 40


@pytest.fixture(scope="module")
def sets() -> dict[str, PairSet]:
    return {name: toy_set(name, folds=1) for name in TOY_SETS}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folds of few people and pairs, for what does not ask how many: every picture is drawn."""
    monkeypatch.setattr(toy_sets, "IDENTITIES", 6)
    monkeypatch.setattr(toy_sets, "PAIRS", 20)


def person(position_P: NDArray[np.int64]) -> NDArray[np.int64]:
    return position_P // VIEWS


@pytest.mark.parametrize("name", TOY_SETS)
def test_a_fold_has_as_many_genuine_as_impostor_pairs_and_none_twice(sets: dict[str, PairSet], name: str) -> None:
    pairs = sets[name]
    assert (pairs.same_P.sum(), (~pairs.same_P).sum()) == (PAIRS, PAIRS)
    assert np.array_equal(person(pairs.first_P) == person(pairs.second_P), pairs.same_P)
    assert len({frozenset(pair) for pair in zip(pairs.first_P, pairs.second_P, strict=True)}) == 2 * PAIRS


def test_the_views_of_impostor_pairs_are_as_those_of_genuine_pairs(sets: dict[str, PairSet]) -> None:
    for name in ("pose", "light"):
        pairs = sets[name]
        views = {
            same: {
                frozenset((a % VIEWS, b % VIEWS))
                for a, b in zip(pairs.first_P[kind], pairs.second_P[kind], strict=True)
            }
            for same, kind in ((True, pairs.same_P), (False, ~pairs.same_P))
        }
        assert views[True] == views[False]
        assert frozenset((0, 1)) not in views[True]  # both look to one side


@pytest.mark.usefixtures("few")
def test_folds_are_of_different_people_and_the_same_however_many_are_asked_for() -> None:
    one, two = (toy_set("hard", folds=folds) for folds in (1, 2))
    images, pairs = len(one.images), len(one.first_P)
    assert images == 6 * VIEWS
    assert np.array_equal(np.asarray(two.images)[:images], one.images)
    assert np.array_equal(two.first_P[:pairs], one.first_P)
    assert two.first_P[pairs:].min() >= images
    assert not np.array_equal(np.asarray(two.images)[images:], one.images)


def test_the_whole_set_has_three_thousand_pairs_of_each_kind_and_at_most_two_thousand_images(
    sets: dict[str, PairSet],
) -> None:
    assert {len(pairs.images) for pairs in sets.values()} == {PEOPLE * VIEWS}
    assert FOLDS * PAIRS == 3000
    assert FOLDS * PEOPLE * VIEWS == 2000


def test_impostors_of_the_hard_set_look_more_alike_than_others(sets: dict[str, PairSet]) -> None:
    judge, mean = load_judge(), {}
    for name in ("easy", "hard"):
        pairs, rows = sets[name], judge.embed(np.asarray(sets[name].images))
        cosine_P = (rows[pairs.first_P] * rows[pairs.second_P]).sum(1)
        mean[name] = float(cosine_P[~pairs.same_P].mean())
    assert mean["hard"] > mean["easy"] + 0.2


def test_recogniser_and_judge_solve_a_fold_of_each_set_well_but_for_the_hard_one(sets: dict[str, PairSet]) -> None:
    for network in (load_recognizer(), load_judge()):
        accuracy = {name: verify_on(sets[name], network, 64)["accuracy"] for name in ("pose", "hard")}
        assert accuracy["pose"] > 0.98
        assert 0.9 < accuracy["hard"] < 0.995


@pytest.mark.usefixtures("few")
def test_drawn_images_are_kept_and_damaged_ones_drawn_again(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    drawn = toy_set("easy", store, "kept", folds=1)
    (name,) = store.list("kept")
    marked = np.array(drawn.images)
    marked[0] = 7
    file = io.BytesIO()
    np.savez(file, images=marked)
    store.put(name, file.getvalue())
    assert (np.asarray(toy_set("easy", store, "kept", folds=1).images)[0] == 7).all()
    store.put(name, file.getvalue()[:1000])
    assert np.array_equal(toy_set("easy", store, "kept", folds=1).images, drawn.images)
    assert list(store.list("kept")) == [name]


def test_another_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="easy, pose, light, hard"):
        toy_set("lfw")
