"""Errors of actors, and how they reach the job: with their type."""

from collections.abc import Iterator

import numpy as np
import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayError, WorkerCrashedError

from cluster.actor_pool import _heard, room, stop
from cluster.turn import Stopped
from hyperface.errors import RunError, UserError


@pytest.mark.parametrize("kind", [*UserError.__subclasses__(), Stopped])
def test_an_error_of_an_actor_ends_the_job_as_what_it_was(kind: type[UserError]):
    batches = ({"piece": [1]}, stop(kind("a file\x00 of läuft")), {"piece": [3]})
    results = _heard(({name: np.array(values) for name, values in batch.items()} for batch in batches), "embed")
    assert next(results)["piece"] == [1]
    with pytest.raises(kind, match="a file\x00 of läuft") as error:
        next(results)
    assert type(error.value) is kind


@pytest.mark.parametrize("death", [ActorDiedError(), WorkerCrashedError(), OutOfMemoryError("low\non memory")])
def test_actors_that_die_too_often_end_the_job_with_one_line_that_names_the_stage_and_memory(death: RayError):
    def batches() -> Iterator[dict[str, np.ndarray]]:
        yield {"piece": np.array([1])}
        raise death

    results = _heard(batches(), "embed")
    next(results)
    with pytest.raises(RunError, match=r"^embed: actors died too often: most likely a node's memory .*goes on$"):
        next(results)


@pytest.mark.parametrize("of", ["group", "controller"])
def test_workers_that_die_too_often_end_the_job_with_one_line_that_names_the_stage_and_memory(of: str):
    # Ray Train takes seconds to import, which every process would spend that collects the tests.
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
    from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

    from cluster.workers import _last_words

    failed = WorkerHealthCheckFailedError("A worker\nfailed", ActorDiedError())
    death = WorkerGroupError("two\nlines", {1: failed}) if of == "group" else ControllerError(ActorDiedError())
    error = _last_words("packing", death, 2)
    assert isinstance(error, RunError)
    (line,) = str(error).splitlines()
    assert line.startswith("packing: gave up after 2 restarts: ")
    assert "its process died: most likely a node's memory was used up" in line


def test_room_is_counted_node_by_node_and_a_gpu_is_not_made_of_parts_of_two():
    nodes = [
        {"Alive": True, "Resources": {"CPU": 3.0, "GPU": 2.0}},
        {"Alive": True, "Resources": {"CPU": 1.5, "GPU": 1.0}},
        {"Alive": True, "Resources": {}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    assert [room(nodes, gpus) for gpus in (0, 1, 2, 0.5, 0.4, 0.1)] == [4, 3, 1, 6, 6, 30]
