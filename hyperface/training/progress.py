"""The progress of a training: the loss, looked at now and then, recorded and said; and a stop when it is no number."""

import math
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, TypedDict

import torch
from torch import Tensor

from hyperface.distributed.place import Stepped
from hyperface.errors import RunError
from hyperface.progress.points import Every, Point, Watch, unwatched
from hyperface.run.shapes import TWO
from hyperface.training.training import Training

SAID_SECONDS = 5.0
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
        self._began_at, self._began = training.step, time.monotonic()
        self._due = Every(SAID_SECONDS)

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
            self.watch(self._point(stepped.step))
            self._sums, self._count = [], 0
        if self._due():
            self.look()
            self.say(self._line(stepped.step))

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
        self._began_at = self.training.step

    def _rate(self, step: int) -> float:
        """Return steps per second of this job."""
        return (step - self._began_at) / (time.monotonic() - self._began)

    def _point(self, step: int) -> Point:
        recorded = {name: value for name, value in self.history[-1].items() if name != "step"}
        rate = self._rate(step) * self.training.steps.batch_size
        return Point(step, self.training.last_step, {**recorded, "images_per_second": rate})

    def _line(self, step: int) -> str:
        training, rate = self.training, self._rate(step)
        eta = timedelta(seconds=round((training.last_step - step) / rate))
        speed = f"{rate * training.steps.batch_size:,.0f} images/s, ETA {eta}"
        epochs = training.last_step // training.steps.count
        return f"{self.section}: epoch {step / training.steps.count:.1f}/{epochs} loss {self.loss:.3f}, {speed}"
