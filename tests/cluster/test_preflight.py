"""Tests that all that is wrong with the models of the synthesis is said before anything is embedded or packed; and the
end of a pool."""

import os
import re
import sys
from pathlib import Path

import color_world
import faults
import pytest
import ray
from color_world import ColorGenerator, ColorRecognizer, put_references, references
from faults import die, first
from waiting import wait_for

from cluster.actor_pool import PoolActor, fan_out
from cluster.one_task import in_a_task
from cluster.preflight import try_models
from hyperface.config import ClusterConfig, Config
from hyperface.config import load as load_config
from hyperface.errors import ConfigError, ModelError, RunError
from hyperface.models.protocols import Models
from hyperface.run import Run, open_run

pytestmark = pytest.mark.usefixtures("ray_cluster")
# The workers have no path to the tests.
for module in (color_world, faults, sys.modules[__name__]):
    ray.cloudpickle.register_pickle_by_value(module)


def begun(folder: Path) -> Run:
    """A run whose generator is a file that is not there."""
    missing = (f"vec2face.path={folder}/missing.safetensors", f"vec2face.sha256={'5e' * 32}")
    return open_run(load_config(None, [f"run.dir={folder}/run", "synthesis.generator=vec2face", *missing]))


def test_a_file_that_a_worker_lacks_is_named(tmp_path: Path):
    run = begun(tmp_path)
    with pytest.raises(ModelError, match=r"missing.safetensors"):
        try_models(run)


def misfits(_: Config) -> Models:
    return Models(ColorGenerator(embedding_dim=128), ColorRecognizer())


def test_models_that_do_not_fit_each_other_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"^synthesis.generator=vec2face: takes embeddings of 128 numbers; the recog"):
        try_models(begun(tmp_path), misfits)


def test_models_that_fit_are_let_through_and_their_process_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def told(config: Config) -> Models:
        (tmp_path / "process").write_text(str(ray.get_runtime_context().get_worker_id()))
        return color_world.make_models(config)

    try_models(begun(tmp_path), told)
    tries, fit = capsys.readouterr().out.splitlines()
    assert tries == "pipeline: tries the models of the synthesis"
    assert re.fullmatch("pipeline: they load and fit each other, [0-9]+ s", fit)
    first = (tmp_path / "process").read_text()
    try_models(begun(tmp_path), told)
    assert (tmp_path / "process").read_text() != first


def test_a_run_that_is_packed_goes_on_without_it_and_so_does_what_ships_with_the_code(tmp_path: Path):
    run = begun(tmp_path)
    put_references(run.store, references(6))
    try_models(run, misfits)
    try_models(open_run(load_config(None, [f"run.dir={tmp_path}/toy"])), misfits)


def test_another_error_of_a_task_comes_with_the_trace_of_the_worker(tmp_path: Path):
    def deep(_: Config) -> Models:
        raise ModuleNotFoundError("no module named diffusers")

    with pytest.raises(ModuleNotFoundError, match=r"in deep(.|\n)*no module named diffusers"):
        try_models(begun(tmp_path), deep)


def test_a_task_whose_process_is_lost_is_done_again_and_says_so_in_the_end(tmp_path: Path):
    def dies_once() -> str:
        if first(str(tmp_path / "died")):
            die(os.getpid())
        return "done"

    assert in_a_task(dies_once, stage="audit", cluster=ClusterConfig(), gpus=0) == "done"
    with pytest.raises(RunError, match=r"^audit: a task was lost 4 times \(WorkerCrashedError: .*; the same command"):
        in_a_task(lambda: die(os.getpid()), stage="audit", cluster=ClusterConfig(), gpus=0)


class _Worker(PoolActor):
    """A worker that says which process it is."""

    def work(self, piece: int) -> dict[str, list[int]]:
        return {"pid": [os.getpid()]}


class _Hungry(PoolActor):
    def work(self, piece: int) -> dict[str, list[int]]:
        return {"bytes": [len(bytearray(2**62))]}


def test_memory_that_a_process_does_not_get_is_one_line():
    asked = r"embed: .*asked for more memory than there is \(.*\): let fewer run at a time"
    with (
        fan_out(range(2), _Hungry, (), stage="embed", cluster=ClusterConfig(), actors=1, gpus=0, failures=0) as rows,
        pytest.raises(RunError, match=asked),
    ):
        next(rows)
    with pytest.raises(RunError, match=asked):
        in_a_task(lambda: bytearray(2**62), stage="embed", cluster=ClusterConfig(), gpus=0)


def test_a_pool_ends_with_its_block_whoever_keeps_the_error_that_ended_it():
    pids = list[int]()

    def left_early() -> None:
        with fan_out(
            range(50), _Worker, (), stage="embed", cluster=ClusterConfig(), actors=1, gpus=0, failures=0
        ) as rows:
            pids.append(int(next(rows)["pid"][0]))
            raise OSError("nobody reads what the job prints")

    with pytest.raises(OSError, match="nobody reads") as kept:
        left_early()
    wait_for(lambda: not os.path.exists(f"/proc/{pids[0]}"))
    assert kept.value
