"""What is said where there is no Ray to be had."""

import pytest

from cluster.session import connect
from hyperface.config import ClusterConfig
from hyperface.run import RunError


def test_a_ray_that_cannot_be_reached_is_an_error_of_one_line():
    with pytest.raises(RunError, match=r"^Ray cannot be reached at nowhere: .*; is that where its head is\?$"):
        connect(ClusterConfig(address="nowhere"))
