"""Operations and bytes of a packing, as they are planned, against those of the packing itself."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from threaded_ranks import on_ranks
from torch.utils.flop_counter import FlopCounterMode

from hyperface.capacity import packing
from hyperface.capacity.packing import Rows
from hyperface.config import PackingConfig
from hyperface.distributed.ranks import Group
from hyperface.packing import kernel, sampling, solver, sphere
from hyperface.packing.objectives.soft_maximum import BFLOAT16_COLDEST, SoftMaximum
from hyperface.packing.partition import Partition, one_process
from hyperface.packing.solver import Problem

N, D, G, F = 600, 32, 300, 100
PLAIN = PackingConfig(num_identities=N, steps=20, alpha=0.5)
CASES = {
    "soft": PLAIN,
    "nearest": replace(PLAIN, separation="nearest"),
    "soft choice": replace(PLAIN, batch_identities=200),
    "soft choice among itself": replace(PLAIN, batch_identities=200, batch_against="batch"),
    "nearest choice": replace(PLAIN, separation="nearest", batch_identities=200),
}


def rows(n: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(sphere.random_points(n, D, seed))


def step(config: PackingConfig, shard: Partition, problem: Problem) -> None:
    state = solver.fresh_state(rows(N, 0)[shard.own], config, 1.0)
    state.step = 1  # without a search of the gallery, unless rows are a choice
    solver.local_step(state, problem, shard)


def added_product(_: object, a: tuple[int, int], b: tuple[int, int], **others: object) -> int:
    """Operations of `x.addmm_(a, b)`, which torch 2.13 does not count by itself."""
    return 2 * a[0] * a[1] * b[1]


@pytest.mark.parametrize("name", CASES)
def test_the_planned_operations_of_a_step_are_those_that_torch_counts(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(kernel.TILE, "cpu", 30)  # small tiles: those on the diagonal are computed twice
    config = CASES[name]
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: added_product})
    with counter:
        step(config, one_process(N), Problem(config, 0, rows(G, 1), rows(F, 2)))
    planned = packing.step_flop(config, Rows(D, G, F))
    if config.batch_identities:
        planned += packing.search_flop(config, Rows(D, G))
    assert counter.get_total_flops() == pytest.approx(planned, rel=0.06)


class Counting:
    """A group that counts what a rank hands to it."""

    def __init__(self, group: Group) -> None:
        self.group, self.gathered, self.summed, self.most = group, 0, 0, 0

    def gather(self, own: torch.Tensor, sizes: tuple[int, ...]) -> Callable[[], torch.Tensor]:
        if own.ndim == 2 and own.shape[1] == D and len(own) > 1:  # not the numbers that ranks tell each other
            self.gathered += sum(sizes) * D * own.element_size()
        return self.group.gather(own, sizes)

    def sum(self, everything: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
        self.summed += everything.numel() * everything.element_size()
        return self.group.sum(everything, sizes)

    def max(self, everything: torch.Tensor) -> torch.Tensor:
        self.most += everything.numel() * everything.element_size()
        return self.group.max(everything)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_planned_network_of_a_step_is_what_its_ranks_exchange(name: str, precision: str):
    config = replace(CASES[name], precision=precision)

    def work(shard: Partition) -> Counting:
        counting = Counting(shard.group)
        step(config, replace(shard, group=counting), Problem(config, 0, rows(G, 1)))
        return counting

    seen = on_ranks((N // 3,) * 3, work)[0]
    wire = packing.wire(config, D, 3, 2 if precision == "bfloat16" else 4)
    assert wire.gather == pytest.approx(2 / 3 * seen.gathered)
    assert wire.reduce == pytest.approx(2 / 3 * seen.summed)
    assert wire.maxima == pytest.approx(2 * 2 / 3 * seen.most)


def test_bfloat16_steps_that_are_too_cold_for_it_are_planned_in_float32():
    config = replace(PLAIN, precision="bfloat16", num_identities=100_000, steps=400)
    cold = packing.cold_steps(config, 512)
    taus = [SoftMaximum(config).temperature(step, 512) * 512**0.5 for step in range(400)]
    assert 0 < cold < 400
    assert taus[400 - cold] < BFLOAT16_COLDEST <= taus[400 - cold - 1]
    assert packing.cold_steps(replace(config, precision="float32"), 512) == 400
    assert packing.cold_steps(replace(config, separation="nearest"), 512) == 0


def test_one_worker_sends_nothing_and_more_of_them_hold_less_each():
    assert packing.wire(PLAIN, D, 1).bytes == 0
    held = [packing.device_memory(replace(PLAIN, num_identities=10**6), Rows(512, 10**6), w).bytes for w in (2, 8, 64)]
    assert held == sorted(held, reverse=True)


def test_a_worker_of_a_million_identities_holds_the_arrays_that_its_step_needs():
    config = PackingConfig(num_identities=1_000_000, num_workers=64, gpus_per_worker=1)
    memory = packing.device_memory(config, Rows(512, 1_000_000), 64)
    matrix, own = 1_000_000 * 512 * 4, 15_625 * 512 * 4
    assert memory.problem == 2 * matrix  # the start and the gallery, whole
    assert memory.state == 3 * own + 15_625 * 28
    # what is computed for all rows, the gathered rows, gallery rows and gradient of the own ones, Adam's, two tiles
    assert memory.step == 2 * matrix + 2 * own + 8 * own + 2 * 4096**2 * 4
    uneven = packing.device_memory(config, Rows(512, 1_000_000), 63)
    assert uneven.step > memory.step + 0.9 * matrix  # rows are padded for the wire, and copied out of it


def test_bfloat16_halves_what_is_gathered():
    config = replace(PLAIN, num_identities=1_000_000)
    full, half = packing.wire(config, 512, 64, 4), packing.wire(config, 512, 64, 2)
    assert half.gather == full.gather / 2
    assert half.reduce == full.reduce
    assert np.isclose(full.gather, 63 / 64 * 2.048e9)


def test_the_planned_operations_of_a_drawn_start_are_those_that_torch_counts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sampling.BLOCK, "cpu", 20)  # within a block each pair is compared twice
    config = replace(PLAIN, start="rejection", start_cosine=0.9, protected_cosine=0.9)
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: added_product}) as counter:
        drawn = sampling.sample(
            sampling.Candidates(D, (0, 0)), config, one_process(N), torch.device("cpu"), rows(F, 1), rows(50, 2)
        )
    assert drawn.candidates < 1.01 * N
    assert counter.get_total_flops() == pytest.approx(packing.draw_flop(config, Rows(D, G, F, 50)), rel=0.1)
    assert packing.draw_flop(PLAIN, Rows(D, G)) == 0
