"""References whose norms are known, in synthesis: a generator of features gets them, any other directions."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from color_world import ColorGenerator, ColorRecognizer, color_run, hashes, make_dataset, references
from numpy.typing import NDArray

from hyperface.faces.embeddings import Embeddings, to_parquet
from hyperface.models.protocols import FeatureGenerator
from hyperface.run import Run
from hyperface.run.names import REFERENCES

NORMS = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 0.95], np.float32)


@dataclass(frozen=True)
class Watched(ColorGenerator):
    """Keeps the norms of the rows that it is given."""

    norms: list[float] = field(default_factory=list)

    def generate(self, embeddings_BD: NDArray[np.float32], seeds_B: Sequence[int]) -> NDArray[np.uint8]:
        self.norms.extend(np.linalg.norm(embeddings_BD, axis=1).tolist())
        return super().generate(embeddings_BD, seeds_B)


@dataclass(frozen=True)
class OfFeatures(Watched):
    takes_norms: bool = True


def run_with_norms(folder: Path, *overrides: str) -> Run:
    run = color_run(folder, *overrides)
    run.store.put(REFERENCES, to_parquet("identity", Embeddings(list(range(6)), references(6), NORMS)))
    return run


def counts(norms: list[float]) -> dict[float, int]:
    values, times = np.unique(np.round(norms, 4), return_counts=True)
    return dict(zip(values.tolist(), times.tolist(), strict=True))


@pytest.mark.parametrize("variation", ["gaussian", "angle", "norm_preserving"])
def test_a_generator_of_features_gets_rows_of_the_norm_of_their_reference(tmp_path: Path, variation: str):
    generator = OfFeatures()
    assert isinstance(generator, FeatureGenerator)
    make_dataset(run_with_norms(tmp_path, f"synthesis.variation={variation}", "synthesis.min_cosine=-1"), generator)
    assert counts(generator.norms) == {round(float(norm), 4): 5 for norm in NORMS}


def test_the_judges_anchors_are_drawn_from_features_too(tmp_path: Path):
    generator = OfFeatures()
    run = run_with_norms(tmp_path, "synthesis.min_judge_cosine=0.1", "synthesis.min_cosine=-1")
    make_dataset(run, generator, judge=ColorRecognizer(fingerprint="ab" * 32))
    assert counts(generator.norms) == {round(float(norm), 4): 6 for norm in NORMS}


def test_any_other_generator_gets_directions_and_draws_what_it_drew_without_norms(tmp_path: Path):
    generator = Watched()
    assert not isinstance(generator, FeatureGenerator)
    make_dataset(run_with_norms(tmp_path), generator)
    assert set(counts(generator.norms)) == {1.0}
    make_dataset(color_run(tmp_path / "plain"), Watched())
    shards = [
        {n: h for n, h in hashes(r).items() if "shard" in n}
        for r in (color_run(tmp_path), color_run(tmp_path / "plain"))
    ]
    assert shards[0] == shards[1]


def test_a_generator_of_features_gets_directions_where_no_norm_is_known(tmp_path: Path):
    generator = OfFeatures()
    make_dataset(color_run(tmp_path), generator)
    assert set(counts(generator.norms)) == {1.0}
