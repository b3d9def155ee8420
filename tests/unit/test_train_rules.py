"""Rules of the section `train` of a configuration, each refused by its key."""

import pytest

from hyperface import config
from hyperface.errors import ConfigError

TOY = "train.recipe=toy"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train.epochs=10"], "train.milestones must be below train.epochs=10"),
        (["train.milestones=[5,5]"], "train.milestones must be ascending"),
        (["train.milestones=[0,5]"], "train.milestones must be ascending"),
        ([TOY, "train.dropout=0.2"], "train.dropout needs an IResNet"),
        ([TOY, "train.squeeze_excitation=true"], "train.squeeze_excitation needs an IResNet"),
        (["train.batch_size=100"], "train.batch_size must be a multiple of train.streams=32"),
        (["train.num_workers=33"], "train.num_workers must be between 1 and train.streams=32"),
        (["train.num_workers=2", "train.gpus_per_worker=0.5"], "train.gpus_per_worker must be 0 or at least 1"),
        (["train.sample_rate=0"], "train.sample_rate must be above 0 and at most 1"),
        (["train.warmup_epochs=27"], "train.warmup_epochs must be between 0 and train.epochs"),
        (["train.flip=1.5"], "train.flip must be a probability"),
        (["train.name=a/b"], "train.name must be letters"),
    ],
)
def test_a_value_that_cannot_be_trained_with_is_refused_by_key(overrides: list[str], said: str):
    with pytest.raises(ConfigError, match=said):
        config.load(None, ["run.dir=x", *overrides])


@pytest.mark.parametrize("overrides", [[], [TOY], [TOY, "train.epochs=10"], ["train.recipe=adaface_r50"]])
def test_recipes_are_whole_and_may_be_shortened(overrides: list[str]):
    assert config.load(None, ["run.dir=x", *overrides]).train.epochs >= 10
