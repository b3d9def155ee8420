"""The keys of attribute control: what is refused and how, and what runs from before them are."""

import pytest

from hyperface import config
from hyperface.errors import ConfigError
from hyperface.models.toy.attributes import RANGES
from hyperface.synthesis import steering

ON = ["run.dir=somewhere", "synthesis.generator=toy_diffusion", "control.targets.yaw=[-15,0,15]"]


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["control.targets.yaw=[]"], "control.targets must be finite numbers for each attribute"),
        (["control.targets.yaw=[.nan]"], "control.targets must be finite numbers for each attribute"),
        (["control.shares.yaw=[0.5,0.5]"], "control.shares must be one share for each of the attribute's"),
        (["control.shares.yaw=[0.5,0.5,0.1]"], "control.shares must be one share for each of the attribute's"),
        (["control.shares.yaw=[0,0]"], "above 0 and at most 1 in all"),
        (["control.shares.light=[1]"], "control.shares must be one share for each of the attribute's"),
        (["control.tolerance.yaw=0"], "control.tolerance must be above 0"),
        (["control.tolerance.light=3"], "control.tolerance must be above 0, of attributes that have control.targets"),
        (["control.steps=0"], "control.steps must be between 1 and 10000; it is 0"),
        (["control.learning_rate=0"], "control.learning_rate must be above 0"),
        (["control.identity_cosine=1.5"], "control.identity_cosine must be between -1 and 1"),
        (["control.attributes=onnx"], "control.attribute_path is required"),
        (["control.attributes=onnx", "control.attribute_path=x"], "control.attribute_sha256 must be the 64 hex digits"),
        (["synthesis.generator=arc2face"], "synthesis.generator must be one of toy_render, toy_diffusion"),
        (["synthesis.generator=toy_render"], "toy_render takes yaw, light and blur from the seed alone"),
        (["synthesis.generator=vec2face"], "must be toy_diffusion for the toy world's yaw and light"),
        (["synthesis.alignment=template"], "synthesis.alignment must be none with control.targets"),
    ],
)
def test_an_impossible_control_names_key_rule_and_value(overrides: list[str], named: str):
    with pytest.raises(ConfigError) as error:
        config.load(None, [*ON, *overrides])
    assert named in str(error.value)


def test_shares_without_targets_are_refused():
    with pytest.raises(ConfigError, match=r"control.shares needs control.targets"):
        config.load(None, ["run.dir=somewhere", "control.shares.yaw=[1]"])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "control.targets.yaw=[-80,0,90]",
            r"targets.yaw: must be between -35 and 35, .*; -80, 90 is not: choose",
        ),
        (
            "control.targets.smile=[1]",
            r"control.targets.smile: is no attribute that the reader knows; it reads yaw",
        ),
    ],
)
def test_a_target_that_the_reader_cannot_believe_names_key_range_and_fix(override: str, said: str):
    made = config.load(None, [*ON, override])
    with pytest.raises(ConfigError, match=said):
        steering.chosen(made.control, RANGES)


def test_what_is_wanted_is_part_of_the_identity_of_a_run_and_reads_back():
    plain, steered = config.load(None, ON[:2]), config.load(None, ON)
    assert config.differences(config.identity(plain), config.identity(steered)) == [
        "control.targets: {} -> {'yaw': [-15.0, 0.0, 15.0]}"
    ]
    assert config.from_yaml(config.to_yaml(steered)) == steered


def test_a_run_from_before_there_was_control_is_one_without():
    made = config.load(None, ON[:2])
    text = config.to_yaml(made)
    begin, end = text.index("control:\n"), text.index("dataset:\n")
    assert config.from_yaml(text[:begin] + text[end:]) == made
