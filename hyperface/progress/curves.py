"""Curves for TensorBoard, beside what a run records anyway. Only home of tensorboardX.

tensorboard/NAME/events.out.tfevents.TIME    the points since the file before; TensorBoard reads a folder as one curve

Nothing can be appended on an object store, and a file that is replaced is not followed on a local disk: so what is new
goes into a new file, at most every `EVERY_S`.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from hyperface.progress.meter import Point
from hyperface.storage import Store

CURVES = "tensorboard"
EVERY_S = 30.0
"""Seconds between files. TensorBoard looks for new ones as often."""


class Curves:
    """A `Watch` that writes the points that it gets."""

    def __init__(self, store: Store, name: str) -> None:
        """
        Args:
            name: name of the curve, a folder: the stage, and the training's name.
        """
        self._store, self._folder = store, f"{CURVES}/{name}"
        self._points: list[tuple[float, Point]] = []
        self._written = time.monotonic()

    def __call__(self, point: Point) -> None:
        """Add a point. Raises StorageError."""
        self._points.append((time.time(), point))
        if point.done >= point.total or time.monotonic() - self._written > EVERY_S:
            self._store.put(f"{self._folder}/events.out.tfevents.{time.time_ns():020d}", event_file(self._points))
            self._points, self._written = [], time.monotonic()


def event_file(points: Sequence[tuple[float, Point]]) -> bytes:
    """Return points, each with its time in seconds since 1970, as a file of TensorBoard's."""
    from tensorboardX import SummaryWriter

    with tempfile.TemporaryDirectory(prefix="hyperface-") as folder:
        writer = SummaryWriter(folder)
        for seconds, point in points:
            for name, value in {"done": point.done, **point.values}.items():
                writer.add_scalar(name, value, point.done, walltime=seconds)
        writer.close()
        (path,) = Path(folder).iterdir()
        return path.read_bytes()
