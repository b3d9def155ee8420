"""How far a training is: the loss, looked at now and then, recorded and said; and a stop when it is no number."""

import math
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from hyperface.recognition.trainer import Stepped, Training
from hyperface.run import RunError

SAID_SECONDS = 5.0
RECORDED = 200
"""About so many steps of a training are recorded, each with the mean loss since the one before."""
LOOKED_AT = 20
"""Steps between looks at the loss, for each of which the device is waited for."""


class Progress:
    """Every rank has one, and all see the same losses; `state` and `restore` carry it over a checkpoint."""

    def __init__(self, training: Training, say: Callable[[str], None]) -> None:
        self.training, self.say = training, say
        self.history: list[dict[str, float]] = []
        self.loss = math.nan
        self._unseen: list[Tensor] = []
        self._sum, self._count = 0.0, 0
        self._every = max(1, training.last_step // RECORDED)
        self._began_at, self._began = training.step, time.monotonic()
        self._said = self._began

    def add(self, stepped: Stepped) -> None:
        """A step was taken. Raises RunError as `look`."""
        self._unseen.append(stepped.loss)
        recorded = stepped.step % self._every == 0 or stepped.step == self.training.last_step
        if recorded or len(self._unseen) >= LOOKED_AT:
            self.look()
        if recorded:
            epoch = round(stepped.step / self.training.steps.count, 3)
            row = {"step": stepped.step, "epoch": epoch, "loss": round(self.loss, 5)}
            self.history.append({**row, "learning_rate": stepped.learning_rate})
            self._sum, self._count = 0.0, 0
        if time.monotonic() - self._said > SAID_SECONDS:
            self._said = time.monotonic()
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
            fix = (
                "lower train.learning_rate, raise train.warmup_epochs or set train.clip_norm, under another train.name"
            )
            raise RunError(f"train: the loss is no number any more before step {self.training.step}; {fix}")
        self._unseen = []
        self._sum, self._count = self._sum + float(seen.sum()), self._count + len(seen)
        self.loss = self._sum / self._count

    def state(self) -> dict[str, Any]:
        return {"history": self.history, "window": [self._sum, self._count]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave, once the training is where it was."""
        self.history = state["history"]
        self._sum, self._count = state["window"]
        self.loss = self.history[-1]["loss"] if self.history else math.nan
        self._began_at = self.training.step

    def _line(self, step: int) -> str:
        training, config = self.training, self.training.config
        rate = (step - self._began_at) / (time.monotonic() - self._began)
        eta = timedelta(seconds=round((training.last_step - step) / rate))
        speed = f"{rate * config.batch_size:,.0f} images/s, ETA {eta}"
        return f"train: epoch {step / training.steps.count:.1f}/{config.epochs} loss {self.loss:.3f}, {speed}"
