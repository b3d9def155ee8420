"""One shard: what passes the gate, what is drawn again, what is rejected, and that none of it is lost."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from color_world import ColorGenerator, ColorRecognizer, references
from numpy.typing import NDArray

from hyperface.dataset import jpeg
from hyperface.dataset.plan import Plan, image_seed
from hyperface.errors import RenderError
from hyperface.models.protocols import Models
from hyperface.synthesis.drawing import Drawing, Identities
from hyperface.synthesis.quality import Gate
from hyperface.synthesis.render import RenderedShard, render_shard
from hyperface.synthesis.variation import Variation

PLAN = Plan(seed=1, num_identities=6, images_per_identity=10, images_per_shard=40)
DRAWING = Drawing(Variation(beta=0.01), Gate(min_cosine=0.9), batch_size=7, max_attempts=3, jpeg_quality=95)
IDENTITIES = Identities(references(6))
RECOGNIZER = ColorRecognizer()


def rendered(generator: ColorGenerator, drawing: Drawing = DRAWING, shard: int = 0) -> RenderedShard:
    return render_shard(PLAN, shard, IDENTITIES, Models(generator, RECOGNIZER), drawing)


def test_a_shard_holds_its_planned_images_in_order():
    shard = rendered(ColorGenerator())
    assert [s.key for s in shard.samples] == PLAN.keys(0)
    assert not shard.rejects
    assert (shard.statistics.draws, shard.statistics.redraws, shard.statistics.refused) == (40, 0, {})
    assert {s.attempt for s in shard.samples} == {0}
    assert all(s.seed == image_seed(1, s.identity, s.image_index, 0) for s in shard.samples)
    assert len(rendered(ColorGenerator(), shard=1).samples) == 20


def test_the_references_of_a_part_that_begins_later_are_its_own_rows():
    first = rendered(ColorGenerator())
    later = render_shard(replace(PLAN, first_identity=6), 0, IDENTITIES, Models(ColorGenerator(), RECOGNIZER), DRAWING)
    assert [s.identity - 6 for s in later.samples] == [s.identity for s in first.samples]
    assert [s.key for s in later.samples] == replace(PLAN, first_identity=6).keys(0)
    assert not {s.seed for s in later.samples} & {s.seed for s in first.samples}
    for sample in later.samples:
        assert sample.cosine == pytest.approx(float(sample.embedding_d @ references(6)[sample.identity - 6]), abs=1e-6)


def test_cosine_and_embedding_describe_the_stored_image():
    for sample in rendered(ColorGenerator(), replace(DRAWING, jpeg_quality=30)).samples:
        (embedded,) = RECOGNIZER.embed(jpeg.decode(sample.jpeg)[None])
        assert (sample.embedding_d == embedded).all()
        assert sample.cosine == pytest.approx(float(embedded @ references(6)[sample.identity]), abs=1e-6)


def test_an_image_that_misses_the_gate_is_drawn_again_with_another_seed():
    shard = rendered(ColorGenerator(miss_every=3), replace(DRAWING, max_attempts=30))
    again = [s for s in shard.samples if s.attempt > 0]
    assert len(shard.samples) == 40
    assert len(again) > 5
    for sample in again:
        seeds = [image_seed(1, sample.identity, sample.image_index, a) for a in range(sample.attempt + 1)]
        assert sample.seed == seeds[-1]
        assert all(seed % 3 == 0 for seed in seeds[:-1])
    assert shard.statistics.redraws == sum(s.attempt for s in shard.samples)


def test_an_image_that_never_passes_is_a_reject_with_its_best_cosine():
    shard = rendered(ColorGenerator(miss_every=2))
    kept, rejected = {s.key for s in shard.samples}, {r.key for r in shard.rejects}
    assert rejected
    assert kept | rejected == set(PLAN.keys(0))
    assert not kept & rejected
    assert all(s.cosine >= 0.9 for s in shard.samples)
    for reject in shard.rejects:
        assert reject.attempts == 3
        assert (reject.reason, reject.error) == ("cosine", "")
        assert reject.best_cosine is not None
        assert -1 <= reject.best_cosine < -0.9


def test_a_generator_that_fails_for_some_images_loses_no_other():
    fine, broken = rendered(ColorGenerator()), rendered(ColorGenerator(fail_every=4))
    assert broken.statistics.refused["error"] > 0
    assert len(broken.samples) + len(broken.rejects) == 40
    first = {s.key: s for s in fine.samples}
    for sample in broken.samples:
        if sample.attempt == 0:
            assert sample.jpeg == first[sample.key].jpeg
    failing = [r for r in broken.rejects if r.error]
    assert all("latents of seed" in r.error and r.reason == "error" for r in failing)


def test_an_image_that_only_raises_is_rejected_without_a_cosine():
    poison = PLAN.keys(0)[5]
    shard = rendered(_Poisoned(seeds=frozenset(_seeds(poison))))
    (reject,) = shard.rejects
    assert (reject.key, reject.best_cosine) == (poison, None)
    assert "ValueError: poison" in reject.error
    assert len(shard.samples) == 39


def test_an_embedding_that_is_not_finite_is_a_failed_draw():
    shard = render_shard(PLAN, 0, IDENTITIES, Models(ColorGenerator(), _SometimesBlind()), DRAWING)
    assert shard.statistics.refused["no_embedding"] > 0
    assert len(shard.samples) + len(shard.rejects) == 40
    assert all(np.isfinite(s.embedding_d).all() for s in shard.samples)


def test_a_generator_that_fails_for_every_image_is_an_error_of_the_shard():
    with pytest.raises(RenderError, match=r"shard 0: not one image could be drawn.*latents"):
        rendered(ColorGenerator(fail_every=1))


def test_an_error_that_is_not_the_images_goes_up():
    with pytest.raises(RuntimeError, match=r"^out of memory$"):
        rendered(_Poisoned(seeds=frozenset(_seeds(PLAN.keys(0)[5])), error=RuntimeError("out of memory")))


def test_a_second_rendering_gives_the_same_shard():
    one, two = (rendered(ColorGenerator(miss_every=3)) for _ in range(2))
    assert [(s.key, s.seed, s.cosine, s.jpeg) for s in one.samples] == [
        (s.key, s.seed, s.cosine, s.jpeg) for s in two.samples
    ]
    assert (one.rejects, one.statistics) == (two.rejects, two.statistics)


def test_the_generator_draws_the_next_batch_while_the_last_one_is_embedded():
    models = _Meeting()
    shard = render_shard(PLAN, 0, IDENTITIES, Models(models, models.recognizer), DRAWING)
    assert len(shard.samples) == 40


def test_the_generator_runs_no_more_than_a_few_batches_ahead():
    generator = _Counting()
    recognizer = _Slow(generator)
    render_shard(PLAN, 0, IDENTITIES, Models(generator, recognizer), replace(DRAWING, batch_size=2))
    assert generator.calls == 20
    assert 1 < max(recognizer.ahead) <= 4


def test_the_turn_is_taken_once_and_holds_whenever_the_generator_is_called():
    turn = _Turn()
    generator = _Counting(miss_every=3, turn=turn)
    rendered = render_shard(PLAN, 0, IDENTITIES, Models(generator, RECOGNIZER), DRAWING, turn)
    assert rendered.statistics.redraws > 0
    assert (turn.entered, turn.held) == (1, False)


@dataclass(frozen=True)
class _Meeting(ColorGenerator):
    """A generator whose second call and the recogniser's first one wait for each other."""

    both: threading.Barrier = field(default_factory=lambda: threading.Barrier(2, timeout=600))
    calls: list[int] = field(default_factory=list)

    def generate(self, embeddings_BD: NDArray[np.float32], seeds_B: Sequence[int]) -> NDArray[np.uint8]:
        self.calls.append(len(seeds_B))
        if len(self.calls) == 2:
            self.both.wait()
        return super().generate(embeddings_BD, seeds_B)

    @property
    def recognizer(self) -> ColorRecognizer:
        return _Met(both=self.both)


@dataclass(frozen=True)
class _Met(ColorRecognizer):
    both: threading.Barrier = field(default_factory=lambda: threading.Barrier(2))
    calls: list[int] = field(default_factory=list)

    def embed(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.calls.append(len(images_BHWC))
        if len(self.calls) == 1:
            self.both.wait()
        return super().embed(images_BHWC)


class _Turn:
    entered, held = 0, False

    def __enter__(self) -> None:
        self.entered, self.held = self.entered + 1, True

    def __exit__(self, *error: object) -> None:
        self.held = False


@dataclass
class _Counting:
    """Notes its calls, and that the turn is held at each."""

    miss_every: int = 0
    turn: _Turn | None = None
    calls: int = 0
    embedding_dim, image_size, fingerprint = 12, 16, "9e" * 32

    def generate(self, embeddings_BD: NDArray[np.float32], seeds_B: Sequence[int]) -> NDArray[np.uint8]:
        assert self.turn is None or self.turn.held
        self.calls += 1
        return ColorGenerator(miss_every=self.miss_every).generate(embeddings_BD, seeds_B)


@dataclass
class _Slow:
    """Embeds a batch only when the generator no longer goes on; notes how many batches ahead it was."""

    generator: _Counting
    ahead: list[int] = field(default_factory=list)
    embedding_dim, image_size, fingerprint = 12, 16, "0e" * 32

    def embed(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        before = -1
        while before != self.generator.calls:
            before = self.generator.calls
            threading.Event().wait(0.02)
        self.ahead.append(self.generator.calls - len(self.ahead))
        return RECOGNIZER.embed(images_BHWC)


def _seeds(name: str) -> list[int]:
    identity, image = map(int, name.split("-"))
    return [image_seed(1, identity, image, attempt) for attempt in range(3)]


@dataclass(frozen=True)
class _Poisoned(ColorGenerator):
    seeds: frozenset[int] = frozenset()
    error: Exception = field(default_factory=lambda: ValueError("poison"))

    def generate(self, embeddings_BD: NDArray[np.float32], seeds_B: Sequence[int]) -> NDArray[np.uint8]:
        if self.seeds & set(seeds_B):
            raise self.error
        return super().generate(embeddings_BD, seeds_B)


class _SometimesBlind(ColorRecognizer):
    def embed(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        embedded = super().embed(images_BHWC)
        embedded[images_BHWC[:, 0, 0, 0] % 4 == 0] = np.nan
        return embedded
