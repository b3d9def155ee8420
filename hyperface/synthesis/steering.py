"""The choice of the images of an identity that are steered, and of their targets, and the steering of a batch with a
run's models.

torch, and what needs it, is imported where something is steered: whoever steers nothing need not load it.

J: images of an identity, B: rows of a batch, A: attributes that have targets, d: embedding dimension.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hyperface.config import Config, ControlConfig
from hyperface.dataset.schema import Attribute, Outcome
from hyperface.errors import ConfigError
from hyperface.models.protocols import AttributeRange, AttributeReader, Decoder, DifferentiableRecognizer, Models
from hyperface.run.seeds import seed_of
from hyperface.synthesis.variation import mixture

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Aim:
    """The targets of one attribute; see the fields of `ControlConfig`."""

    name: str
    column: int
    """Column of the attribute in what the reader gives."""
    known: AttributeRange
    targets: tuple[float, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Control:
    aims: tuple[Aim, ...]
    steps: int
    learning_rate: float
    identity_cosine: float
    redraw: bool
    """True where an image that misses is drawn again."""

    def image_targets(self, run_seed: int, identity: int, images: int) -> NDArray[np.float64]:
        """Return the target of each image of an identity, [J, A], NaN where there is none; each attribute is dealt for
        itself.

        Shares are as exact as whole numbers go; what is rounded up, and the order, are the seed's.
        """
        dealt = [
            mixture(
                (*aim.targets, np.nan),
                (*aim.shares, max(0.0, 1.0 - sum(aim.shares))),
                images,
                seed_of(f"control {aim.name}", run_seed, identity),
            )
            for aim in self.aims
        ]
        return np.stack(dealt, axis=1)

    def steered(
        self,
        models: Models,
        rows_Bd: NDArray[np.float32],
        seeds_B: Sequence[int],
        references_Bd: NDArray[np.float32],
        targets_BA: NDArray[np.float64],
    ) -> tuple[NDArray[np.float32], list[int]]:
        """Return (rows [B, d], steps of each); a row without a target stays as it is. Models are as `check_fit` wants
        them."""
        import torch

        from hyperface.synthesis.attribute_control import Settings, steer

        aimed_b = np.flatnonzero(np.isfinite(targets_BA).any(1)).tolist()
        steps_B = [0] * len(rows_Bd)
        if not aimed_b:
            return rows_Bd, steps_B
        generator, recognizer, reader = models.generator, models.recognizer, models.attributes
        assert isinstance(generator, Decoder), generator
        assert isinstance(recognizer, DifferentiableRecognizer), recognizer
        assert reader is not None
        columns = [aim.column for aim in self.aims]

        def read(images_BCHW: "Tensor") -> "Tensor":
            return reader.values(images_BCHW)[:, columns].cpu()

        found = steer(
            torch.from_numpy(rows_Bd[aimed_b]),
            [seeds_B[b] for b in aimed_b],
            torch.from_numpy(references_Bd[aimed_b]),
            torch.from_numpy(targets_BA[aimed_b]).float(),
            [aim.known for aim in self.aims],
            generator.decode,
            lambda images_BCHW: recognizer.features_of(images_BCHW).cpu(),
            read,
            Settings(self.steps, self.learning_rate, self.identity_cosine),
        )
        moved_Bd = rows_Bd.copy()
        moved_Bd[aimed_b] = found.rows_Bd.numpy()
        for b, steps in zip(aimed_b, found.steps_B, strict=True):
            steps_B[b] = steps
        return moved_Bd, steps_B

    def outcomes(
        self,
        reader: AttributeReader,
        images_BHWC: NDArray[np.uint8],
        targets_BA: NDArray[np.float64],
        steps_B: Sequence[int],
    ) -> list[Outcome]:
        """Return what the reader says of images as they are stored, beside what was wanted."""
        import torch

        from hyperface.models.pixels import to_signal

        with torch.no_grad():
            values_BA = reader.values(to_signal(images_BHWC))[:, [aim.column for aim in self.aims]].cpu()
        return [self._outcome(values_BA[b], targets_BA[b], steps) for b, steps in enumerate(steps_B)]

    def miss(self, outcome: Outcome) -> float:
        """Return the sum of the misses of an image's targets, in tolerances; 0 where all are met."""
        known = {aim.name: aim.known for aim in self.aims}
        return sum(
            known[name].miss(found.value, found.target) / known[name].tolerance
            for name, found in outcome.attributes.items()
            if not found.met
        )

    def _outcome(self, values_A: "Tensor", targets_A: NDArray[np.float64], steps: int) -> Outcome:
        said = {}
        for a, aim in enumerate(self.aims):
            if np.isfinite(targets_A[a]):
                value, target = float(values_A[a]), float(targets_A[a])
                met = aim.known.miss(value, target) <= aim.known.tolerance
                said[aim.name] = Attribute(target, round(value, 3), met)
        return Outcome(steps, said)


def chosen(config: ControlConfig, ranges: Mapping[str, AttributeRange] | None) -> Control | None:
    """The control that a configuration asks for; None for none.

    Args:
        ranges: {attribute: range in which its reader can be believed}, in the order of what the reader gives; None
            without a reader.

    Raises:
        ConfigError: the reader knows no such attribute, or a target is outside of its range; names key, range and fix.
    """
    if not config.steers:
        return None
    assert ranges is not None
    aims = [_aim(config, name, ranges) for name in sorted(config.targets)]
    return Control(tuple(aims), config.steps, config.learning_rate, config.identity_cosine, config.redraw)


def _aim(config: ControlConfig, name: str, ranges: Mapping[str, AttributeRange]) -> Aim:
    key, targets = f"control.targets.{name}", config.targets[name]
    if name not in ranges:
        raise ConfigError(f"{key}: is no attribute that the reader knows; it reads {', '.join(ranges)}")
    known = ranges[name]
    outside = [target for target in targets if not known.low <= target <= known.high]
    if outside:
        rule = f"must be between {known.low:g} and {known.high:g}, where its reader can be believed"
        shown = ", ".join(f"{target:g}" for target in outside)
        raise ConfigError(f"{key}: {rule}; {shown} is not: choose targets inside, or another control.attribute_path")
    tolerance = config.tolerance.get(name, known.tolerance)
    shares = config.shares.get(name) or [1 / len(targets)] * len(targets)
    near = AttributeRange(known.low, known.high, tolerance, known.at_least)
    return Aim(name, list(ranges).index(name), near, tuple(targets), tuple(shares))


def check_targets(config: Config) -> None:
    """Check what can be checked of targets before a model is loaded: of the toy world, all. Raises ConfigError."""
    if config.reader_kind == "toy":
        from hyperface.models.toy.attributes import RANGES

        chosen(config.control, RANGES)


def check_fit(models: Models, image_size: int) -> None:
    """Raise ConfigError unless gradients pass through the models, and the reader takes images of so many pixels."""
    if not isinstance(models.generator, Decoder):
        raise ConfigError("control.targets: no gradient passes through synthesis.generator; choose toy_diffusion")
    if not isinstance(models.recognizer, DifferentiableRecognizer):
        raise ConfigError("control.targets: no gradient passes through the recogniser; give one that PyTorch can run")
    assert models.attributes is not None
    if models.attributes.image_size != image_size:
        taken = models.attributes.image_size
        raise ConfigError(f"control.attribute_path: takes images of {taken} pixels; the dataset has {image_size}")
    _check_gradients(models.generator, models.generator.embedding_dim, models.recognizer, models.attributes)


def _check_gradients(
    generator: Decoder, dim: int, recognizer: DifferentiableRecognizer, reader: AttributeReader
) -> None:
    """Raise ConfigError where a model that says it lets gradients pass does not, by one small picture."""
    import torch

    with torch.enable_grad():
        row_1d = torch.full((1, dim), dim**-0.5, requires_grad=True)
        images = generator.decode(row_1d, [1])
        made = (
            ("synthesis.generator", images, "choose toy_diffusion or vec2face"),
            ("recognizer.path", recognizer.features_of(images), "give one that PyTorch can run"),
            ("control.attribute_path", reader.values(images), "give a reader whose numbers are not rounded"),
        )
    for key, output, fix in made:
        given = output.requires_grad and torch.autograd.grad(output.sum(), row_1d, None, True, allow_unused=True)[0]
        if not isinstance(given, torch.Tensor):
            rule = "must let gradients pass from its output to the embedding with control.targets; this one gives none"
            raise ConfigError(f"{key}: {rule}: {fix}")


def count(outcomes: Sequence[Outcome | None]) -> dict[str, dict[str, int]]:
    """Return {attribute: {met: images, not_met: images}} of the images that had a target; empty without control."""
    counted: dict[str, dict[str, int]] = {}
    for outcome in outcomes:
        for name, found in (outcome.attributes if outcome else {}).items():
            tally = counted.setdefault(name, {"met": 0, "not_met": 0})
            tally["met" if found.met else "not_met"] += 1
    return dict(sorted(counted.items()))
