"""The packing on one GPU, where there is one: the same result as on a CPU, and no wait inside a step."""

import numpy as np
import pytest
import torch

from hyperface.config import PackingConfig
from hyperface.packing import pack, result, solver, sphere
from hyperface.packing.partition import one_process
from hyperface.packing.problem import Inputs, pose

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

SEPARATIONS = ["closest_pair", "nearest", "logsumexp"]
N, DIM = 3000, 64
GALLERY_GD = sphere.random_points(N, DIM, 0)


@pytest.mark.parametrize("separation", SEPARATIONS)
def test_the_trajectory_is_that_of_a_cpu(separation):
    config = PackingConfig(N, separation, steps=20)
    on_cpu, on_gpu = (
        pack(GALLERY_GD, config, seed=0, gallery_GD=GALLERY_GD, device=device) for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(on_gpu.references_ND, on_cpu.references_ND, atol=1e-4)


@pytest.mark.parametrize("separation", SEPARATIONS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_no_step_waits_for_the_device(separation, precision):
    config = PackingConfig(N, separation, steps=20, precision=precision)
    posed = pose(Inputs(GALLERY_GD, GALLERY_GD, GALLERY_GD[:50], GALLERY_GD[50:90]), config, 0, torch.device("cuda"))
    state, _ = result.begin(posed, one_process(N))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in solver.iterate(state, posed.problem, one_process(N)):
            pass
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert state.step == 20
