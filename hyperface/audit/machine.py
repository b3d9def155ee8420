"""The device on which rows are compared, and the progress that is reported: a million images take hours."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from hyperface.progress.meter import Meter


@dataclass(frozen=True)
class Machine:
    """A device, and a function that hears about progress."""

    device: str = "cpu"
    """Name of a torch device."""
    say: Callable[[str], None] | None = None
    """Function that is called with a line every `seconds`; None: nobody hears."""
    seconds: float = 30.0
    what: str = "rows"
    """Name of the work, as a line of progress calls it."""

    def at(self, what: str) -> "Machine":
        """Return a machine that is busy with `what`, else the same."""
        return replace(self, what=what)

    def meter(self, unit: str, total: int) -> Meter:
        """A meter of so many units of equal cost."""
        return Meter(self.what, total, unit, say=self.say or (lambda line: None), every_s=self.seconds)


CPU = Machine()
