"""A recogniser as the teacher of a generator: its features, the maps they are made from, and its gradient.

Shape legend: B images, S pixels a side, D feature dimension.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hyperface.config import Config
from hyperface.errors import ConfigError
from hyperface.models.protocols import DifferentiableRecognizer, FeatureRecognizer
from hyperface.storage import Store

_TOY_STAGES = (3, 6, 9)
"""The residual stages of the toy recogniser, at 16, 8 and 4 pixels."""


@dataclass(frozen=True)
class Teacher:
    recognizer: FeatureRecognizer
    features_of: Callable[[Tensor], Tensor]
    """[B, 3, S, S] in [-1, 1] -> [B, D], what `recognizer.features` gives, with its gradient."""
    stages: Sequence[nn.Module] = field(default_factory=tuple)
    """The parts of its network whose outputs are compared, coarser and coarser; none of an ONNX file."""

    def look(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(float32 [B, D] on the device of the images, the maps of `stages`)."""
        maps: list[Tensor] = []

        def keep(module: nn.Module, given: object, made: Tensor) -> None:
            maps.append(made)

        hooks = [stage.register_forward_hook(keep) for stage in self.stages]
        try:
            features_BD = self.features_of(images)
        finally:
            for hook in hooks:
                hook.remove()
        return features_BD.to(images.device).float(), maps


def load_teacher(config: Config, store: Store, device: torch.device) -> Teacher:
    """The recogniser that `train_generator.recognizer` names, on a device.

    Args:
        store: the run's storage, which holds what was trained.

    Raises:
        ConfigError: an ONNX file, whose maps have no names, and a loss that compares maps.
        ModelError: its file is missing, damaged or another.
        RunError: the training is not there or not finished.
    """
    if config.train_generator.recognizer == "trained":
        from hyperface.models.trained import load_trained

        trained = load_trained(store, config.train.name, str(device))
        names = ("stem", "layer1", "layer2", "layer3")
        stages = [getattr(trained.network, name) for name in names if hasattr(trained.network, name)]
        return Teacher(trained, trained.features_of, stages)
    if config.recognizer.kind == "toy":
        from hyperface.models.toy import recognizer as toy

        found = toy.load_recognizer()
        body = found.network.to(device).get_submodule("body")
        return Teacher(found, found.features_of, [body.get_submodule(str(place)) for place in _TOY_STAGES])
    if config.train_generator.perceptual > 0:
        fix = "set it to 0, or train a recogniser with jobs.train and set train_generator.recognizer=trained"
        raise ConfigError(f"train_generator.perceptual: needs feature maps, and an ONNX file names none; {fix}")
    from hyperface.models.loading import load_recognizer

    recognizer = load_recognizer(config.recognizer)
    assert isinstance(recognizer, DifferentiableRecognizer), recognizer
    return Teacher(recognizer, recognizer.features_of)
