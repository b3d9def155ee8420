"""The file of `ray up`, judged by Ray's own validator, and what it promises."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

FILE = Path(__file__).parents[2] / "infra/aws/cluster.yaml"


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    """Return the configuration as Ray completes it before it starts a node."""
    from ray.autoscaler._private.util import prepare_config

    return prepare_config(yaml.safe_load(FILE.read_text()))


def test_ray_accepts_it_and_refuses_one_with_a_wrong_key(config):
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import validate_config

    validate_config(config)
    with pytest.raises(ValidationError, match="worker_imag"):
        validate_config(config | {"docker": config["docker"] | {"worker_imag": "x"}})


def test_workers_are_spot_gpu_nodes_that_come_on_demand_and_the_head_computes_nothing(config):
    nodes = dict(config["available_node_types"])
    head = nodes.pop(config["head_node_type"])
    assert head["resources"] == {"CPU": 0}
    assert head["node_config"]["InstanceType"].startswith("m")
    assert "InstanceMarketOptions" not in head["node_config"]
    for node in nodes.values():
        assert node["min_workers"] == 0 < node["max_workers"]
        assert node["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert node["node_config"]["InstanceType"][:2] in ("g5", "g6")
        assert node["node_config"]["IamInstanceProfile"] != head["node_config"]["IamInstanceProfile"]
    assert config["provider"]["cache_stopped_nodes"] is False


def test_every_node_asks_for_the_token_and_no_secret_is_written_down(config):
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert config["file_mounts"] == {"/home/ray/.ray/auth_token": "~/.ray/auth_token"}
    assert not re.search(r"RAY_AUTH_TOKEN=|AWS_(SECRET|ACCESS)|AKIA|password", FILE.read_text(), re.IGNORECASE)


def test_ray_makes_no_security_group_of_its_own_which_it_would_open_to_the_world(config):
    from ray.autoscaler._private.aws.config import _configure_security_group

    # With a group to make it would ask AWS now, and fail without a region and credentials.
    ready = _configure_security_group(copy.deepcopy(config))
    groups = [node["node_config"]["SecurityGroupIds"] for node in ready["available_node_types"].values()]
    assert groups == [["sg-PLACEHOLDER"]] * 3
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][1]


def test_dependencies_are_in_the_images_and_nothing_is_installed(config):
    assert config["docker"]["head_image"] == "REGISTRY/hyperface-cpu:TAG"
    assert config["docker"]["worker_image"] == "REGISTRY/hyperface-cuda:TAG"
    assert config["setup_commands"] == config["head_setup_commands"] == config["worker_setup_commands"] == []
