"""Identities drawn one by one: against a plain loop in float64, over ranks and blocks, and what is refused."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from face_like_rows import clustered, features, free, max_cosine
from numpy.typing import NDArray
from threaded_ranks import on_ranks

from hyperface import config as configuration
from hyperface.config import PackingConfig
from hyperface.distributed.ranks import even_sizes
from hyperface.errors import ConfigError, EmbeddingError, RunError
from hyperface.faces import embeddings
from hyperface.faces.embeddings import Embeddings
from hyperface.packing import pack, result, sampling, sphere
from hyperface.packing.__main__ import main
from hyperface.packing.partition import Partition, one_process
from hyperface.packing.problem import Inputs, pose
from hyperface.packing.sampling import Candidates

CPU = torch.device("cpu")
DIM = 16
NOBODY = np.empty((0, DIM), np.float32)
CROWDED = free(300, start="rejection", start_cosine=0.6, steps=0)
"""Many candidates are rejected."""


def one_by_one(config: PackingConfig, candidates: Candidates, apart: list[tuple[NDArray[np.float32], float]]):
    """(kept rows, candidates seen) of the loop that the sample is defined by."""
    kept: list[NDArray[np.float64]] = []
    tall = [(rows.astype(np.float64), limit) for rows, limit in apart]
    for i in range(config.num_identities * config.start_candidates):
        row = candidates.rows(i, i + 1)[0][0].astype(np.float64)
        near = any(row @ other > config.start_cosine for other in kept)
        if not near and all((rows @ row <= limit).all() for rows, limit in tall):
            kept.append(row)
        if len(kept) == config.num_identities:
            return np.array(kept), i + 1
    raise AssertionError("the loop found too few")


def exact(x_D: NDArray[np.float32], y_D: NDArray[np.float32]) -> float:
    return math.fsum(x_D.astype(np.float64) * y_D.astype(np.float64))


@pytest.mark.parametrize(("start_cosine", "rejected"), [(0.5, 200), (0.55, 60), (0.6, 20), (0.9, 0)])
def test_a_sample_is_what_a_loop_over_one_candidate_after_another_keeps(start_cosine, rejected):
    config = replace(CROWDED, num_identities=120, start_cosine=start_cosine, start_candidates=200)
    wanted_ND, seen = one_by_one(config, Candidates(DIM, (4, 0)), [])
    packing = pack(NOBODY, config, seed=4)
    np.testing.assert_array_equal(packing.references_ND, wanted_ND)
    assert packing.sampled == {"start_cosine": start_cosine, "candidates": seen, "kept": 120}
    assert packing.max_cosine == packing.max_cosine_before == pytest.approx(max_cosine(wanted_ND), abs=1e-6)
    assert max_cosine(wanted_ND) <= start_cosine
    assert seen >= 120 + rejected


def test_a_sample_of_features_is_what_the_same_loop_keeps():
    rows_ND, norms_N = features(100, DIM)
    config = replace(CROWDED, num_identities=60, start="pca")
    normal = sampling.fit(rows_ND * norms_N[:, None])
    wanted_ND, seen = one_by_one(config, Candidates(DIM, (4, 0), normal), [])
    packing = pack(rows_ND, config, seed=4, norms_N=norms_N)
    np.testing.assert_array_equal(packing.references_ND, wanted_ND)
    assert packing.sampled["candidates"] == seen > 75


def test_frozen_rows_count_as_kept_and_protected_ones_have_their_own_cosine():
    frozen_FD, protected_PD = sphere.random_points(30, DIM, 1), sphere.random_points(40, DIM, 2)
    config = replace(CROWDED, num_identities=100, protected_cosine=0.5)
    apart = [(frozen_FD, 0.6), (protected_PD, 0.5 - 2e-6)]
    wanted_ND, seen = one_by_one(config, Candidates(DIM, (4, 0)), apart)
    packing = pack(NOBODY, config, seed=4, frozen_FD=frozen_FD, protected_PD=protected_PD)
    np.testing.assert_array_equal(packing.references_ND, wanted_ND)
    assert packing.sampled["candidates"] == seen
    assert packing.max_cosine <= 0.6
    assert packing.max_protected_cosine <= 0.5
    assert pack(NOBODY, config, seed=4).sampled["candidates"] < seen


@pytest.mark.parametrize("block", [1, 2, 1024])
def test_a_cosine_that_float32_cannot_tell_from_the_limit_is_decided_exactly(monkeypatch, block):
    monkeypatch.setitem(sampling.BLOCK, "cpu", block)
    rows_ND, _ = Candidates(512, (0, 0)).rows(0, 50)
    cosine = exact(rows_ND[0], rows_ND[1])
    below, above = np.nextafter(cosine, -1), np.nextafter(cosine, 1)
    config, nobody = free(2, start="rejection", steps=0), np.empty((0, 512), np.float32)
    for limit, together in ((below, False), (cosine, True), (above, True)):
        packing = pack(nobody, replace(config, start_cosine=float(limit)), seed=0)
        assert np.array_equal(packing.references_ND[1], rows_ND[1]) == together
        assert exact(*packing.references_ND) <= limit


@pytest.mark.parametrize("start", ["rejection", "pca"])
@pytest.mark.parametrize(("world", "block", "segment"), [(1, 100, 50), (2, 1024, 8192), (3, 64, 7), (7, 1000, 20)])
def test_neither_ranks_nor_blocks_change_a_sample(monkeypatch, start, world, block, segment):
    rows_ND, norms_N = features(400, DIM)
    protected_PD = sphere.random_points(30, DIM, 2)
    cosine = {"rejection": 0.6, "pca": 0.65}[start]
    config = replace(CROWDED, start=start, start_cosine=cosine, protected_cosine=0.8)
    given = {"frozen_FD": rows_ND[:20], "protected_PD": protected_PD, "norms_N": norms_N}
    alone = pack(rows_ND, config, seed=4, **given)
    monkeypatch.setitem(sampling.BLOCK, "cpu", block)
    monkeypatch.setitem(sampling.SEGMENT, "cpu", segment)

    def on_rank(shard: Partition):
        posed = pose(Inputs(rows_ND, None, rows_ND[:20], protected_PD, norms_N), config, 4, CPU, shard)
        state, before = result.begin(posed, shard)
        return result.finished(state, posed, shard, before)

    for packing in on_ranks(even_sizes(300, world), on_rank):
        np.testing.assert_array_equal(packing.references_ND, alone.references_ND)
        assert packing.sampled == alone.sampled
        assert packing.sampled["candidates"] > 360
        assert packing.max_cosine == pytest.approx(alone.max_cosine, abs=1e-6)
        if start == "pca":
            np.testing.assert_array_equal(packing.norms_N, alone.norms_N)


def test_a_smaller_sample_is_the_beginning_of_a_larger_one_and_seeds_and_parts_give_others():
    few, many, other = (
        pack(NOBODY, replace(CROWDED, num_identities=n), seed=seed).references_ND
        for n, seed in ((50, 0), (200, 0), (50, 1))
    )
    np.testing.assert_array_equal(few, many[:50])
    assert max_cosine(np.concatenate([few, other])) < 0.999
    later = pack(NOBODY, replace(CROWDED, num_identities=50, first_identity=50), seed=0, frozen_FD=few)
    assert max_cosine(np.concatenate([few, later.references_ND])) <= 0.6
    assert later.sampled["candidates"] < 100  # none of the first part's were drawn again


def test_candidates_do_not_depend_on_what_is_asked_for_at_a_time():
    candidates, again = Candidates(5, (7, 0)), Candidates(5, (7, 0))
    whole_ND, norms_N = candidates.rows(0, 3000)
    for first, last in ((2999, 3000), (0, 1), (1000, 2100), (1024, 2048), (5, 5)):
        part_ND, part_N = again.rows(first, last)
        np.testing.assert_array_equal(part_ND, whole_ND[first:last])
        np.testing.assert_array_equal(part_N, norms_N[first:last])
    assert len(np.unique(whole_ND, axis=0)) == 3000
    np.testing.assert_allclose(np.linalg.norm(whole_ND, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(whole_ND.mean(0), 0, atol=0.04)
    np.testing.assert_allclose((norms_N**2).mean(), 5, rtol=0.1)


def test_features_have_the_mean_and_the_covariance_of_the_rows_that_they_were_fitted_to(monkeypatch):
    rows_ND, norms_N = features(1000, DIM)
    monkeypatch.setattr(sampling, "FITTED", 300)
    fitted_ND = rows_ND.astype(np.float64) * norms_N[:, None]
    normal = sampling.fit(rows_ND * norms_N[:, None])
    np.testing.assert_allclose(normal.mean_D, fitted_ND.mean(0), atol=1e-6)
    np.testing.assert_allclose(normal.root_DD @ normal.root_DD, np.cov(fitted_ND.T), atol=1e-5)
    unit_ND, drawn_N = Candidates(DIM, (0, 0), normal).rows(0, 100_000)
    drawn_ND = unit_ND * drawn_N[:, None]
    np.testing.assert_allclose(drawn_ND.mean(0), fitted_ND.mean(0), atol=0.08)
    np.testing.assert_allclose(np.cov(drawn_ND.T), np.cov(fitted_ND.T), atol=0.4)


def test_the_norms_of_drawn_features_are_kept_and_directions_have_none():
    rows_ND, norms_N = features(400, DIM)
    config = replace(CROWDED, num_identities=100, start="pca", start_cosine=0.9)
    packing = pack(rows_ND, config, seed=0, norms_N=norms_N)
    normal = sampling.fit(rows_ND * norms_N[:, None])
    unit_ND, drawn_N = Candidates(DIM, (0, 0), normal).rows(0, packing.sampled["candidates"])
    position = (packing.references_ND @ unit_ND.T).argmax(1)
    np.testing.assert_array_equal(packing.norms_N, drawn_N[position])
    assert packing.norms_N.mean() == pytest.approx(norms_N.mean(), rel=0.05)
    assert pack(rows_ND, config, seed=0).norms_N is None
    assert pack(rows_ND, replace(config, start="rejection"), seed=0, norms_N=norms_N).norms_N is None


def test_a_sample_is_the_start_of_a_packing():
    config = PackingConfig(100, start="rejection", start_cosine=0.6, steps=60)
    gallery_GD = clustered(150, DIM)
    drawn, packed = (pack(gallery_GD, replace(config, steps=n), seed=0, gallery_GD=gallery_GD) for n in (0, 60))
    assert packed.sampled == drawn.sampled
    assert packed.max_cosine_before == pytest.approx(drawn.max_cosine, abs=1e-6)
    assert packed.max_cosine_before <= 0.6
    assert packed.mean_gallery_cosine > drawn.mean_gallery_cosine + 0.05


@pytest.mark.parametrize(
    ("n", "values", "said"),
    [
        (1000, {"start_cosine": 0.3}, r"must be at least 0\.3529, the bound.*1000 points in 16 dim.*it is 0\.3$"),
        (17, {"start_cosine": -0.08}, r"must be at least -0\.0625, .*17 points in 16 dim.*it is -0\.08$"),
        (1000, {"start_cosine": 0.6}, r"found 726 of 1000 .*=0\.6 .* 16384 cand.*es=20 to \d\d or.*_id.*0\.3529"),
        (300, {"start_cosine": 0.5, "start_candidates": 5}, r"of 300 .* 1500 candidates: raise .*es=5 to \d+ or"),
        (300, {"start": "pca"}, "packing.start=pca needs more rows .* has 0 in 16 dim.*num_faces.*start=rejection"),
        (300, {"start_cosine": 1.0}, r"packing\.start_cosine must be .* below 1; it is 1\.0"),
        (300, {"start_candidates": 0}, r"packing\.start_candidates must be at least 1; it is 0"),
    ],
)
def test_a_sample_that_cannot_be_is_refused_with_numbers_and_fix(n, values, said):
    with pytest.raises(ConfigError, match=said):
        pack(NOBODY, replace(CROWDED, num_identities=n, **values), seed=0)


def test_no_fewer_rows_than_dimensions_are_fitted_and_equal_ones_are_one_identity():
    rows_ND, _ = features(17, DIM)
    config = replace(CROWDED, num_identities=5, start="pca")
    with pytest.raises(ConfigError, match="the gallery has 16 in 16 dimensions"):
        pack(rows_ND[:16], config, seed=0)
    assert len(pack(rows_ND, config, seed=0).references_ND) == 5
    with pytest.raises(ConfigError, match=r"found 1 of 5 identities .* among 100 candidates"):
        pack(np.repeat(rows_ND[:1], 30, 0), config, seed=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0])
def test_rows_that_a_distribution_is_fitted_to_are_checked_as_those_of_other_starts(bad):
    rows_ND, _ = features(100, DIM)
    rows_ND[4] = bad
    with pytest.raises(
        EmbeddingError, match=r"packing start: every row must be finite and of norm 1; 1 are not: row 4"
    ):
        pack(rows_ND, replace(CROWDED, num_identities=5, start="pca"), seed=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 3e38, 0.0])
def test_norms_that_no_feature_has_are_refused_by_row(bad):
    rows_ND, norms_N = features(100, DIM)
    norms_N[7] = bad
    with pytest.raises(EmbeddingError, match=r"packing start: norms of features must be .* 1 are not: row 7 \("):
        pack(rows_ND, replace(CROWDED, num_identities=5, start="pca"), seed=0, norms_N=norms_N)


def test_rows_that_leave_no_room_are_named():
    config, rows_PD = replace(CROWDED, protected_cosine=0.0), sphere.random_points(500, DIM, 0)
    with pytest.raises(ConfigError, match=r"found 0 of 300 ") as error:
        pack(NOBODY, config, seed=0, protected_PD=rows_PD)
    assert "nor than packing.protected_cosine=0.0 to 500 protected rows, among" in str(error.value)
    assert "raise packing.protected_cosine, or protect fewer rows" in str(error.value)
    assert "start_candidates" not in str(error.value), "no number of candidates would do"
    assert "frozen" not in str(error.value)
    with pytest.raises(ConfigError, match=r"and to 500 rows of packing\.frozen, among .* or freeze fewer rows, or"):
        pack(NOBODY, replace(CROWDED, start_cosine=0.3), seed=0, frozen_FD=rows_PD)


def test_as_many_candidates_as_are_advised_are_enough_where_the_share_that_is_kept_does_not_fall():
    config = free(1000, start="rejection", start_cosine=0.95, steps=0, protected_cosine=0.0)
    rows_PD = sphere.random_points(6, DIM, 0)
    with pytest.raises(ConfigError, match=r"raise packing\.start_candidates=20 to \d+ or more") as error:
        pack(NOBODY, config, seed=0, protected_PD=rows_PD)
    advised = int(str(error.value).split("start_candidates=20 to ")[1].split()[0])
    packing = pack(NOBODY, replace(config, start_candidates=2 * advised), seed=0, protected_PD=rows_PD)
    assert packing.sampled["candidates"] == pytest.approx(1000 * advised, rel=0.3)


def test_rows_closer_than_they_may_be_do_not_pass_the_check_of_all_pairs():
    for steps in (0, 1):
        config = replace(CROWDED, num_identities=20, steps=steps)
        posed = pose(Inputs(NOBODY), config, 0, CPU)
        spoilt = replace(posed, x_ND=posed.x_ND[[*range(19), 0]])
        shard = one_process(20)
        with pytest.raises(RunError, match=r"start_cosine=0\.6 is not kept: two rows that were drawn have cosine"):
            result.finished(*_begun(spoilt, shard))


def _begun(posed, shard):
    state, before = result.begin(posed, shard)
    return state, posed, shard, before


def test_the_command_draws_from_a_number_of_dimensions_and_from_a_file_with_norms(tmp_path, monkeypatch, capsys):
    def command(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["packing", *words])
        return main()

    out = tmp_path / "drawn.npy"
    assert (
        command("32", str(out), "start=rejection", "num_identities=100", "start_cosine=0.5", "alpha=0", "steps=0") == 0
    )
    assert max_cosine(np.load(out)) <= 0.5
    assert json.loads(out.with_suffix(".json").read_text())["sampled"]["kept"] == 100
    rows_ND, norms_N = features(60, DIM)
    (tmp_path / "faces.parquet").write_bytes(
        embeddings.to_parquet("key", Embeddings([str(i) for i in range(60)], rows_ND, norms_N))
    )
    drawn = tmp_path / "features.parquet"
    assert command(str(tmp_path / "faces.parquet"), str(drawn), "start=pca", "start_cosine=0.8", "steps=0") == 0
    assert "directions only" not in capsys.readouterr().err
    bare = tmp_path / "bare.npy"
    assert command(str(tmp_path / "faces.parquet"), str(bare), "start=pca", "start_cosine=0.8", "steps=0") == 0
    assert "bare.npy: holds directions only; name a .parquet to keep the norms too" in capsys.readouterr().err
    found = embeddings.read_file(str(drawn), configuration.StorageConfig())
    assert found.norms.mean() == pytest.approx(norms_N.mean(), rel=0.2)
    assert command("32", str(tmp_path / "none.npy"), "start=pca", "num_identities=10") == 2
    assert "START=32 is a number of dimensions" in capsys.readouterr().err
