"""What actors say of an error, and how it reaches the job: with its type, and without their dataset in its hands."""

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cluster.actor_pool import _results, stop
from hyperface.config import ConfigError
from hyperface.models.protocols import ModelError
from hyperface.run import RunError


class Rows:
    """As a dataset of Ray Data: batches, one after the other."""

    def __init__(self, *batches: Any) -> None:
        self.batches = [{name: np.array(values) for name, values in batch.items()} for batch in batches]

    def iter_batches(self, **_: Any) -> Iterator[Any]:
        yield from self.batches


@pytest.mark.parametrize(
    ("said", "heard"),
    [(ConfigError("bad key"), ConfigError), (ModelError("a file"), RunError), (RunError("x"), RunError)],
)
def test_an_error_of_an_actor_ends_the_job_as_what_it_was(said: Exception, heard: type[Exception]):
    results = _results(Rows({"piece": [1]}, stop(said), {"piece": [3]}))
    assert next(results)["piece"] == [1]
    with pytest.raises(heard, match=f"^{said}$"):
        next(results)


def test_an_error_does_not_keep_the_dataset_whose_actors_it_ends():
    rows = Rows(stop(RunError("damaged")))
    there, results = weakref.ref(rows), _results(rows)
    del rows
    with pytest.raises(RunError) as raised:
        next(results)
    assert there() is None, raised.traceback
