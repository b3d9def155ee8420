"""What actors say of an error, and how it reaches the job: with its type."""

import numpy as np
import pytest

from cluster.actor_pool import _heard, stop
from hyperface.config import ConfigError
from hyperface.models.protocols import ModelError
from hyperface.run import RunError


@pytest.mark.parametrize(
    ("said", "heard"),
    [(ConfigError("bad key"), ConfigError), (ModelError("a file"), RunError), (RunError("x"), RunError)],
)
def test_an_error_of_an_actor_ends_the_job_as_what_it_was(said: Exception, heard: type[Exception]):
    batches = ({"piece": [1]}, stop(said), {"piece": [3]})
    results = _heard({name: np.array(values) for name, values in batch.items()} for batch in batches)
    assert next(results)["piece"] == [1]
    with pytest.raises(heard, match=f"^{said}$"):
        next(results)
