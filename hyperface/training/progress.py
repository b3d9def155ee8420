"""The progress of a training: the loss, looked at now and then, recorded and said; and a stop when it is no number."""

import math
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import torch
from torch import Tensor

from hyperface.distributed.place import Stepped
from hyperface.errors import RunError
from hyperface.progress.meter import Meter, Watch, unwatched
from hyperface.run.shapes import TWO
from hyperface.training.training import Training

RECORDED = 200
"""About how many steps of a training are recorded, each with the mean loss since the one before."""
LOOKED_AT = 20
"""Number of steps between looks at the loss, for each of which the device is waited for."""


class Told(TypedDict):
    """The form of what `state` gives."""

    history: list[dict[str, float]]
    window: Annotated[list[Any], TWO]


class Progress:
    """The progress of a training, which every rank has, and all see the same losses; `state` and `restore` carry it
    over a checkpoint."""

    def __init__(
        self,
        training: Training,
        say: Callable[[str], None],
        section: str = "train",
        watch: Watch = unwatched,
    ) -> None:
        """
        Args:
            section: section of the configuration, for messages.
            watch: called with every recorded step.
        """
        self.training, self.say, self.section, self.watch = training, say, section, watch
        self.history: list[dict[str, float]] = []
        self.loss = math.nan
        self._names: tuple[str, ...] = ()
        self._unseen: list[Tensor] = []
        self._sums: list[float] = []
        """Sums of the loss and of each of its terms, over the `_count` steps since the last that was recorded."""
        self._count = 0
        self._every = max(1, training.last_step // RECORDED)
        self.meter = self._meter()

    def add(self, stepped: Stepped) -> None:
        """Count a step that was taken. Raises RunError as `look`."""
        self._names = tuple(stepped.terms)
        self._unseen.append(torch.stack([stepped.loss.detach(), *(t.detach() for t in stepped.terms.values())]))
        recorded = stepped.step % self._every == 0 or stepped.step == self.training.last_step
        if recorded or len(self._unseen) >= LOOKED_AT:
            self.look()
        if recorded:
            epoch = round(stepped.step / self.training.steps.count, 3)
            means = [round(value / self._count, 5) for value in self._sums]
            row = {"step": stepped.step, "epoch": epoch, "loss": means[0]}
            terms = dict(zip(self._names, means[1:], strict=True))
            self.history.append({**row, "learning_rate": stepped.learning_rate, **terms})
            self._sums, self._count = [], 0
        self.meter.reach(stepped.step, self._numbers() if recorded else None, self._text)

    def look(self) -> None:
        """Wait for the losses of the last steps. A state is saved after a look only: what is saved is sound.

        Raises:
            RunError: one of them is no number.
        """
        if not self._unseen:
            return
        seen = torch.stack(self._unseen).double().cpu()
        if not bool(torch.isfinite(seen).all()):
            s = self.section
            fix = f"lower {s}.learning_rate, raise {s}.warmup_epochs or set {s}.clip_norm, under another {s}.name"
            raise RunError(f"{s}: the loss is no number any more before step {self.training.step}; {fix}")
        self._unseen = []
        before = self._sums or [0.0] * seen.shape[1]
        self._sums = [a + b for a, b in zip(before, seen.sum(0).tolist(), strict=True)]
        self._count += len(seen)
        self.loss = self._sums[0] / self._count

    def state(self) -> dict[str, Any]:
        return {"history": self.history, "window": [self._sums, self._count]}

    def restore(self, state: Told) -> None:
        """Go on from what `state` gave, once the training is where it was."""
        self.history = state["history"]
        self._sums, self._count = state["window"]
        self.loss = self.history[-1]["loss"] if self.history else math.nan
        self.meter = self._meter()

    def _meter(self) -> Meter:
        training = self.training
        total, worth = training.last_step, (training.steps.batch_size, "images")
        return Meter(self.section, total, "steps", done=training.step, worth=worth, say=self.say, watch=self.watch)

    def _numbers(self) -> dict[str, float]:
        return {name: value for name, value in self.history[-1].items() if name != "step"}

    def _text(self) -> str:
        """Return what a line says besides the steps; the losses are looked at for it."""
        self.look()
        each = self.training.steps.count
        return f"epoch {self.meter.done / each:.1f}/{self.training.last_step // each}, loss {self.loss:.3f}"
