"""The quality gate: each reason for which a draw is refused, drawn again and counted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from color_world import ColorGenerator, ColorRecognizer, color_run, hashes, make_dataset, references
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from side_judge import SideJudge

from hyperface.dataset import verify
from hyperface.dataset.plan import Plan
from hyperface.errors import ConfigError, RenderError, RunError
from hyperface.models.protocols import Crop, Models
from hyperface.run import Run
from hyperface.run.names import INDEX
from hyperface.synthesis import anchors
from hyperface.synthesis.drawing import Drawing, Identities
from hyperface.synthesis.quality import REASONS, Gate, is_blank, sharpness
from hyperface.synthesis.render import RenderedShard, render_shard
from hyperface.synthesis.shards import ShardMaker, read_references, shard_maker
from hyperface.synthesis.variation import Variation

PLAN = Plan(seed=1, num_identities=6, images_per_identity=10, images_per_shard=40)
DRAWING = Drawing(Variation(beta=0.01), Gate(min_cosine=0.9), batch_size=7, max_attempts=4, jpeg_quality=95)


@dataclass(frozen=True)
class Sometimes(ColorGenerator):
    """One seed in three is black (latents that are not finite) or grey, or smooth."""

    spoil: str = "black"

    def _image(self, embedding_d: NDArray[np.float32], seed: int) -> NDArray[np.uint8]:
        image = super()._image(embedding_d, seed)
        if seed % 3:
            return image
        if self.spoil == "smooth":
            return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(1.5)))
        return np.full_like(image, 0 if self.spoil == "black" else 90)


class EveryThird:
    """Finds no face, or two, in pictures by their first pixel, and crops nothing."""

    image_size = 16
    fingerprint = "a1" * 32

    def __init__(self, faces: int) -> None:
        self.faces = faces

    def align(self, pictures_BHWC: NDArray[np.uint8]) -> list[Crop]:
        odd = [int(picture[0, 0].sum()) % 3 == 0 for picture in pictures_BHWC]
        crops = zip(pictures_BHWC, odd, strict=True)
        return [Crop(None if o and not self.faces else p, self.faces if o else 1) for p, o in crops]


def rendered(models: Models, gate: Gate, identities: Identities | None = None) -> RenderedShard:
    return render_shard(PLAN, 0, identities or Identities(references(6)), models, replace(DRAWING, gate=gate))


def of_generator(generator: ColorGenerator) -> Models:
    return Models(generator, ColorRecognizer())


@pytest.mark.parametrize("spoil", ["black", "grey"])
def test_a_blank_picture_is_drawn_again_with_the_next_seed_and_counted(spoil: str):
    shard = rendered(of_generator(Sometimes(spoil=spoil)), DRAWING.gate)
    assert shard.statistics.refused == {"blank": shard.statistics.redraws + len(shard.rejects)}
    assert shard.statistics.refused["blank"] > 5
    assert any(sample.attempt > 0 for sample in shard.samples)
    assert all(sample.seed % 3 for sample in shard.samples)
    assert {reject.reason for reject in shard.rejects} <= {"blank"}


def test_a_blurred_image_is_refused_only_where_it_is_asked_for():
    models = of_generator(Sometimes(spoil="smooth"))
    lenient = replace(DRAWING.gate, min_cosine=0.5)
    assert rendered(models, lenient).statistics.refused == {}
    sharp = [sharpness(image) for image in ColorGenerator().generate(references(6), list(range(6)))]
    shard = rendered(models, replace(lenient, min_sharpness=min(sharp) / 2))
    assert set(shard.statistics.refused) == {"blurred"}


@pytest.mark.parametrize(
    ("faces", "one_face", "reason"), [(0, False, "no_face"), (2, True, "many_faces"), (2, False, "")]
)
def test_a_picture_without_a_face_or_with_two_is_refused(faces: int, one_face: bool, reason: str):
    models = Models(ColorGenerator(), ColorRecognizer(), EveryThird(faces))
    refused = rendered(models, replace(DRAWING.gate, one_face=one_face)).statistics.refused
    assert set(refused) == ({reason} if reason else set())


def test_the_judge_refuses_what_is_far_from_its_anchor():
    judge = SideJudge()
    anchors_Nd = judge.embed(ColorGenerator().generate(references(6), [1] * 6))
    anchors_Nd[2] *= -1
    identities = Identities(references(6), anchors_Nd)
    models = Models(ColorGenerator(), ColorRecognizer(), judge=judge)
    shard = rendered(models, replace(DRAWING.gate, min_judge_cosine=0.8), identities)
    assert set(shard.statistics.refused) == {"judge"}
    assert {(reject.identity, reject.reason) for reject in shard.rejects} == {(2, "judge")}
    assert all(reject.best_cosine > 0.9 for reject in shard.rejects), "the recogniser was content"
    assert {sample.identity for sample in shard.samples} == {0, 1, 3, 4, 5}


def test_the_anchors_of_a_part_that_begins_later_are_its_own_rows():
    anchors_Nd = SideJudge().embed(ColorGenerator().generate(references(6), [1] * 6))
    models = Models(ColorGenerator(), ColorRecognizer(), judge=SideJudge())
    drawing = replace(DRAWING, gate=replace(DRAWING.gate, min_judge_cosine=0.8))
    later = render_shard(replace(PLAN, first_identity=6), 0, Identities(references(6), anchors_Nd), models, drawing)
    assert (len(later.samples), later.statistics.refused) == (40, {})


def test_an_identity_without_an_anchor_gets_no_images():
    anchors_Nd = SideJudge().embed(ColorGenerator().generate(references(6), [1] * 6))
    anchors_Nd[4] = np.nan
    models = Models(ColorGenerator(), ColorRecognizer(), judge=SideJudge())
    gate = replace(DRAWING.gate, min_judge_cosine=0.1)
    rejects = rendered(models, gate, Identities(references(6), anchors_Nd)).rejects
    assert {(reject.identity, reject.reason) for reject in rejects} == {(4, "no_anchor")}


def test_reasons_are_known_and_sharpness_falls_with_blur():
    assert {
        "blank",
        "no_face",
        "many_faces",
        "blurred",
        "cosine",
        "no_anchor",
        "judge",
        "error",
        "no_embedding",
        "attribute",
    } == set(REASONS)
    (image,) = ColorGenerator().generate(references(1), [5])
    blurred = [np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(r))) for r in (0.5, 1, 2, 4)]
    values = [sharpness(image), *map(sharpness, blurred)]
    assert values == sorted(values, reverse=True)
    assert is_blank(np.zeros((8, 8, 3), np.uint8))
    assert not is_blank(image)


def judged_run(directory: Path) -> Run:
    return color_run(directory, "synthesis.min_judge_cosine=0.8", "recognizer.kind=toy")


def judged_maker(run: Run, generator: ColorGenerator | None = None) -> ShardMaker:
    models = Models(generator or ColorGenerator(miss_every=5), ColorRecognizer(), judge=SideJudge())
    return shard_maker(run, read_references(run), models)


def test_a_last_shard_of_one_image_may_be_a_reject():
    plan = replace(PLAN, images_per_shard=59)
    shard = render_shard(plan, 1, Identities(references(6)), of_generator(Black()), DRAWING)
    assert [reject.reason for reject in shard.rejects] == ["blank"]


def missing(run: Run) -> list[int]:
    maker = judged_maker(run)
    return anchors.missing_blocks(maker.dataset, maker.fingerprint)


def test_a_block_without_any_anchor_is_not_written_and_another_dimension_is_refused(tmp_path: Path):
    run = judged_run(tmp_path / "run")
    with pytest.raises(RunError, match=r"not one of 6 anchors could be drawn"):
        judged_maker(run, ColorGenerator(fail_every=1)).make_anchors(0)
    assert missing(run) == [0]
    judged_maker(run).make_anchors(0)
    maker = judged_maker(run)
    with pytest.raises(RunError, match=r"must hold 6 anchors of dimension 9"):
        anchors.read_anchors(maker.dataset, maker.fingerprint, 9)
    assert anchors.missing_blocks(maker.dataset, "other models") == [0]


class Black(ColorGenerator):
    """A generator that gives black pictures, as one does whose latents are never finite."""

    def generate(self, embeddings_BD: NDArray[np.float32], seeds_B: Sequence[int]) -> NDArray[np.uint8]:
        return np.zeros((len(seeds_B), 16, 16, 3), np.uint8)


def test_a_shard_that_shows_nothing_but_blank_pictures_is_an_error_not_a_dataset_of_rejects():
    with pytest.raises(RenderError, match=r"not one of 160 draws shows a face \(160 blank\)"):
        rendered(of_generator(Black()), DRAWING.gate)


def test_anchors_are_drawn_once_and_needed_before_the_first_shard(tmp_path: Path):
    run = judged_run(tmp_path / "run")
    with pytest.raises(RunError, match=r"block-000000.npy: cannot be read"):
        judged_maker(run).make(0)
    assert missing(run) == [0]
    judged_maker(run).make_anchors(0)
    assert missing(run) == []
    row = judged_maker(run).make(0)
    assert row["rows"] > 0


def test_a_dataset_begun_with_another_judge_is_refused(tmp_path: Path):
    run = judged_run(tmp_path / "run")
    judged_maker(run)
    models = Models(ColorGenerator(), ColorRecognizer(), judge=SideJudge(fingerprint="2e" * 32))
    with pytest.raises(ConfigError, match=r"judge: '1d1d.*' -> '2e2e"):
        shard_maker(run, read_references(run), models)


@dataclass(frozen=True)
class _PartlyBroken(ColorGenerator):
    def _image(self, embedding_d: NDArray[np.float32], seed: int) -> NDArray[np.uint8]:
        if np.allclose(embedding_d, references(6)[3], atol=1e-6):
            raise ValueError("cannot be drawn")
        if np.allclose(embedding_d, references(6)[5], atol=1e-6):
            return np.zeros((16, 16, 3), np.uint8)
        return super()._image(embedding_d, seed)


def test_an_anchor_that_cannot_be_drawn_is_unknown_and_costs_no_other(tmp_path: Path):
    run = judged_run(tmp_path / "run")
    maker = judged_maker(run, _PartlyBroken())
    maker.make_anchors(0)
    found = anchors.read_anchors(maker.dataset, maker.fingerprint, 10)
    assert np.isnan(found).any(1).tolist() == [False, False, False, True, False, True]
    assert np.linalg.norm(found[[0, 1, 2, 4]], axis=1) == pytest.approx(1, abs=1e-5)


@dataclass(frozen=True)
class Repeating(ColorGenerator):
    """Draws the same picture for every image of an identity but those of even seeds."""

    def generate(self, embeddings_BD: NDArray[np.float32], seeds_B: Sequence[int]) -> NDArray[np.uint8]:
        nearest = references(6)[np.argmax(embeddings_BD @ references(6).T, axis=1)]
        images = super().generate(nearest, [0] * len(seeds_B))
        for image, seed in zip(images, seeds_B, strict=True):
            if seed % 2 == 0:
                image[:] = np.roll(image, int(np.random.default_rng(seed).integers(3, 13)), axis=1)
        return images


def test_near_duplicates_are_listed_by_key_and_count_as_missing(tmp_path: Path):
    run = color_run(tmp_path / "run", "synthesis.min_cosine=-1", "synthesis.min_hash_distance=1")
    make_dataset(run, Repeating())
    index = run.get_json(INDEX)
    assert len(index["duplicates"]) >= 6
    assert index["shortfall"] == _counted(index["duplicates"])
    assert all(int(name.split("-")[1]) > 0 for name in index["duplicates"]), "the first of an identity is kept"
    assert index["images"] == 30, "they stay in their shards"
    assert verify(run, deep=True) == []
    plain = color_run(tmp_path / "plain", "synthesis.min_cosine=-1")
    make_dataset(plain, Repeating())
    assert plain.get_json(INDEX)["duplicates"] == []
    assert {k: v for k, v in hashes(plain).items() if k.endswith("tar")} == {
        k: v for k, v in hashes(run).items() if k.endswith("tar")
    }


def _counted(keys: list[str]) -> dict[str, int]:
    identities = [name.split("-")[0] for name in keys]
    return {identity: identities.count(identity) for identity in sorted(set(identities))}
