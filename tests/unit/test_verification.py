"""The verification protocol against scikit-learn, and against InsightFace's own loop written out."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_curve
from sklearn.model_selection import KFold

from hyperface.models.arcface import normalised
from hyperface.verification.verification import (
    FARS,
    equal_error_rate,
    flip_sum,
    measured,
    roc,
    squared_distances,
    tar_at_far,
    ten_folds,
    thinned,
)


def pairs(genuine: int, impostors: int, overlap: float = 0.3, seed: int = 0) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Squared distances of shuffled pairs: genuine ones are nearer, mostly."""
    rng = np.random.default_rng(seed)
    distance_P = np.concatenate([rng.normal(1.0, overlap, genuine), rng.normal(1.8, overlap, impostors)])
    order_P = rng.permutation(genuine + impostors)
    return distance_P[order_P].clip(0, 4), (np.arange(genuine + impostors) < genuine)[order_P]


def insightface_accuracies(distance_P: NDArray[Any], same_P: NDArray[np.bool_]) -> tuple[list[float], list[float]]:
    """`calculate_roc` of InsightFace's verification.py, as it is written there: (accuracies, thresholds)."""
    thresholds = np.arange(0, 4, 0.01)

    def accuracy(threshold: float, rows: NDArray[Any]) -> float:
        predicted = np.less(distance_P[rows], threshold)
        right = np.sum(np.logical_and(predicted, same_P[rows]))
        return float(right + np.sum(np.logical_and(~predicted, ~same_P[rows]))) / len(rows)

    accuracies, chosen = [], []
    for train, test in KFold(n_splits=10, shuffle=False).split(np.arange(len(same_P))):
        best = int(np.argmax([accuracy(threshold, train) for threshold in thresholds]))
        chosen.append(float(thresholds[best]))
        accuracies.append(accuracy(thresholds[best], test))
    return accuracies, chosen


@pytest.mark.parametrize(("genuine", "impostors"), [(300, 300), (61, 46), (5, 5), (12, 90)])
def test_ten_folds_are_those_of_insightface_also_when_pairs_are_no_multiple_of_ten(genuine, impostors):
    distance_P, same_P = pairs(genuine, impostors)
    accuracies, thresholds = insightface_accuracies(distance_P, same_P)
    folds = ten_folds(distance_P, same_P)
    assert folds.accuracy == pytest.approx(np.mean(accuracies), abs=1e-12)
    assert folds.std == pytest.approx(np.std(accuracies), abs=1e-12)
    assert folds.thresholds == pytest.approx(thresholds, abs=1e-9)


def test_a_distance_equal_to_a_threshold_is_refused_as_it_is_at_insightface():
    thresholds = np.arange(0, 4, 0.01)
    distance_P = np.tile(thresholds[[100, 101]], 20)
    same_P = np.tile([True, False], 20)
    assert ten_folds(distance_P, same_P).thresholds == pytest.approx(insightface_accuracies(distance_P, same_P)[1])
    assert ten_folds(distance_P, same_P).thresholds == [1.01] * 10


def test_folds_are_taken_in_the_order_of_the_pairs():
    distance_P, same_P = pairs(100, 100)
    order = np.argsort(distance_P)
    assert ten_folds(distance_P, same_P) != ten_folds(distance_P[order], same_P[order])


@pytest.mark.parametrize("rounded", [6, 1])
def test_the_curve_is_that_of_scikit_learn_with_ties_and_without(rounded):
    distance_P, same_P = pairs(70, 110)
    similarity_P = np.round(1 - distance_P / 2, rounded)
    far, tar, thresholds = roc_curve(same_P, similarity_P, drop_intermediate=False)
    curve = roc(similarity_P, same_P)
    np.testing.assert_allclose(curve.far_T, far, atol=1e-12)
    np.testing.assert_allclose(curve.tar_T, tar, atol=1e-12)
    np.testing.assert_array_equal(curve.threshold_T, thresholds)


def test_true_accepts_are_read_at_the_largest_false_accept_rate_that_is_not_above_the_wanted_one():
    distance_P, same_P = pairs(500, 3000)
    similarity_P = np.round(1 - distance_P / 2, 2)
    far, tar, _ = roc_curve(same_P, similarity_P, drop_intermediate=False)
    found = tar_at_far(roc(similarity_P, same_P))
    for name in ("1e-3", "1e-2", "1e-1"):
        allowed = far <= FARS[name] + 1e-12
        assert found[name]["tar"] == pytest.approx(tar[allowed].max())
        assert found[name]["far"] == pytest.approx(far[allowed].max())
        accepted_P = similarity_P >= found[name]["threshold"]
        assert accepted_P[same_P].mean() == pytest.approx(found[name]["tar"])
        assert accepted_P[~same_P].mean() == pytest.approx(found[name]["far"])


def test_a_rate_of_exactly_one_impostor_can_be_shown_and_a_smaller_one_cannot():
    distance_P, same_P = pairs(50, 1000)
    found = tar_at_far(roc(1 - distance_P / 2, same_P))
    assert found["1e-3"]["far"] == pytest.approx(1e-3)
    assert found["1e-4"] == {"tar": None, "reason": "not measurable (1000 impostors)"}
    assert found["1e-6"] == {"tar": None, "reason": "not measurable (1000 impostors)"}


def test_where_more_impostors_tie_than_are_allowed_none_of_them_is_accepted():
    similarity_P = np.array([0.9, 0.9, 0.8, *[0.9] * 5, *[0.1] * 95])
    same_P = np.arange(len(similarity_P)) < 3
    found = tar_at_far(roc(similarity_P, same_P))
    assert (found["1e-2"]["tar"], found["1e-2"]["far"]) == (0.0, 0.0)
    assert found["1e-1"]["tar"] == 1.0


def test_the_equal_error_rate_is_where_both_errors_meet():
    similarity_P, same_P = np.array([0.9, 0.8, 0.3, 0.7, 0.2, 0.1]), np.arange(6) < 3
    assert equal_error_rate(roc(similarity_P, same_P)) == pytest.approx(1 / 3)
    distance_P, same_P = pairs(4000, 4000, overlap=0.4)
    rate = equal_error_rate(roc(1 - distance_P / 2, same_P))
    far, tar, _ = roc_curve(same_P, -distance_P)
    nearest = np.argmin(np.abs(far - (1 - tar)))
    assert rate == pytest.approx((far[nearest] + 1 - tar[nearest]) / 2, abs=2e-4)


@pytest.mark.parametrize(("genuine", "impostors", "rate"), [(1, 1, 0.0), (30, 40, 0.0)])
def test_separated_pairs_have_no_error_and_inverted_ones_nothing_else(genuine, impostors, rate):
    same_P = np.arange(genuine + impostors) < genuine
    assert equal_error_rate(roc(np.where(same_P, 0.9, 0.1), same_P)) == rate
    assert equal_error_rate(roc(np.where(same_P, 0.1, 0.9), same_P)) == 1 - rate


def test_a_thinned_curve_has_few_points_lies_on_the_curve_and_keeps_the_end_of_few_false_accepts():
    distance_P, same_P = pairs(5000, 50_000)
    curve = roc(1 - distance_P / 2, same_P)
    few = thinned(curve)
    assert len(few["far"]) == len(few["tar"]) <= 200
    whole = set(zip(curve.far_T.tolist(), curve.tar_T.tolist(), strict=True))
    assert set(zip(few["far"], few["tar"], strict=True)) <= whole
    assert few["far"][:4] == pytest.approx([0, 1 / 50_000, 2 / 50_000, 3 / 50_000])
    assert (few["far"][-1], few["tar"][-1]) == (1, 1)
    assert few["tar"][0] == curve.tar_T[curve.far_T == 0].max()


def test_without_impostors_or_genuine_pairs_no_number_is_given_but_the_reason():
    record = measured(np.full(20, 1.0), np.ones(20, bool))
    assert (record["accuracy"], record["accuracy_std"], record["eer"], record["roc"]) == (None,) * 4
    assert record["reasons"]["accuracy"] == "not measurable (0 impostors)"
    assert all(at == {"tar": None, "reason": "not measurable (0 impostors)"} for at in record["tar_at_far"].values())
    record = measured(np.full(20, 1.0), np.zeros(20, bool))
    assert record["reasons"]["eer"] == "not measurable (0 genuine pairs)"


def test_fewer_pairs_than_folds_have_a_curve_but_no_accuracy():
    record = measured(np.array([0.5, 0.6, 1.5, 1.6]), np.array([True, True, False, False]))
    assert (record["eer"], record["accuracy"]) == (0.0, None)
    assert record["reasons"] == {"accuracy": "not measurable (4 pairs for 10 folds)"}


def test_numbers_that_are_not_finite_are_refused():
    distance_P, same_P = pairs(20, 20)
    distance_P[3] = np.nan
    for judge in (ten_folds, roc):
        with pytest.raises(ValueError, match="pair 3 has nan"):
            judge(distance_P, same_P)


def test_features_of_the_mirror_image_are_added_before_the_sum_is_normalised():
    images_BHWC = np.random.default_rng(0).integers(0, 256, (4, 2, 3, 3), np.uint8)

    def features(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert images.flags.c_contiguous
        return images.reshape(len(images), -1)[:, :5].astype(np.float32)

    mirrored = images_BHWC[:, :, [2, 1, 0]].reshape(4, -1)[:, :5]
    np.testing.assert_array_equal(
        flip_sum(features, images_BHWC), images_BHWC.reshape(4, -1)[:, :5].astype(float) + mirrored
    )


def test_squared_distances_are_two_minus_two_cosines():
    x_ND = normalised(np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32))
    first_P, second_P = np.array([0, 1, 2]), np.array([3, 4, 2])
    np.testing.assert_allclose(
        squared_distances(x_ND, first_P, second_P), 2 - 2 * (x_ND[first_P] * x_ND[second_P]).sum(1), atol=1e-6
    )
