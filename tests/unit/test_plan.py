"""The plan: a seeded order of images that no one has to store, and a seed for every draw."""

import itertools
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from hyperface.dataset.plan import Plan, image_seed, key, permute

PLAN = Plan(seed=3, num_identities=50, images_per_identity=7, images_per_shard=32)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 63, 64, 65, 4097, 100_000])
def test_the_order_is_a_bijection(count: int):
    positions = np.arange(count)
    numbers = permute(positions, count, seed=11)
    assert sorted(numbers.tolist()) == positions.tolist()


def test_the_order_of_a_position_does_not_depend_on_what_is_asked_with_it():
    whole = permute(np.arange(1000), 1000, seed=5)
    assert [int(permute(np.array([p]), 1000, seed=5)[0]) for p in range(0, 1000, 97)] == whole[::97].tolist()


def test_another_seed_gives_another_order():
    one, other = (permute(np.arange(10_000), 10_000, seed=seed) for seed in (0, 1))
    assert (one == other).mean() < 0.01


def test_the_order_looks_random():
    count = 100_000
    numbers = permute(np.arange(count), count, seed=7)
    assert abs(np.corrcoef(np.arange(count), numbers)[0, 1]) < 0.02
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.02
    assert abs(np.abs(np.diff(numbers)).mean() / count - 1 / 3) < 0.01
    per_shard = [len(set((part // 100).tolist())) for part in np.split(numbers, 100)]
    # 1000 draws from 1000 identities hit 1000 (1 - 1/e) = 632 of them.
    assert abs(np.mean(per_shard) - 632) < 10


def test_shards_hold_every_image_exactly_once():
    keys = [name for shard in range(PLAN.num_shards) for name in PLAN.keys(shard)]
    wanted = [key(i, j) for i, j in itertools.product(range(50), range(7))]
    assert sorted(keys) == wanted
    assert keys != wanted
    assert PLAN.num_shards == 11
    assert [PLAN.rows(shard) for shard in (0, 9, 10)] == [32, 32, 350 - 10 * 32]


def test_a_part_by_which_a_dataset_grows_has_the_order_of_a_first_part_and_identities_of_its_own():
    part = replace(PLAN, first_identity=50)
    assert (part.num_images, part.num_shards) == (PLAN.num_images, PLAN.num_shards)
    for shard in range(PLAN.num_shards):
        (own, images), (first, same_images) = part.shard(shard), PLAN.shard(shard)
        assert (own - first == 50).all()
        assert (images == same_images).all()
    last = Plan(seed=0, num_identities=2, images_per_identity=1, images_per_shard=2, first_identity=9_999_998)
    assert sorted(last.keys(0)) == ["9999998-0000", "9999999-0000"]


def test_a_plan_of_64_million_images_needs_no_more_memory_than_a_shard():
    plan = Plan(seed=0, num_identities=1_000_000, images_per_identity=64, images_per_shard=4096)
    tracemalloc.start()
    identities, images = plan.shard(plan.num_shards // 2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000
    assert len(set(zip(identities.tolist(), images.tolist(), strict=True))) == 4096
    assert identities.max() > 900_000


def test_every_draw_has_its_own_seed_within_range():
    draws = list(itertools.product((0, 1, 2**63), (0, 1, 99_999), (0, 1, 63), (0, 1, 2)))
    seeds = [image_seed(*draw) for draw in draws]
    assert len(set(seeds)) == len(draws)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62


def test_keys_order_and_seeds_are_what_released_datasets_were_made_with():
    assert key(12, 3) == "0000012-0003"
    assert image_seed(0, 12, 3, 0) == 4607171564330829287
    assert PLAN.keys(0)[:4] == ["0000026-0006", "0000013-0002", "0000028-0000", "0000017-0004"]
