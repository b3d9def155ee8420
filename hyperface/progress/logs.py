"""Records of a job instead of lines: cluster.log_format=json.

The driver's standard output becomes one JSON object a line. Workers say theirs by Ray's own `LoggingConfig`, which
`cluster/session.py` gives them: there a record also names its job, node, worker and actor. In text nothing changes.
"""

import atexit
import io
import json
import logging
import sys
import threading
from datetime import UTC, datetime
from typing import Any, Self, TextIO

from hyperface.reading.one_line import shown

LOG = logging.getLogger("hyperface")
LOG.setLevel(logging.WARNING)  # its own: Ray Train, and whoever else, may set the root's
_PLAIN = frozenset(vars(logging.makeLogRecord({})))
"""Attributes that every record has; the rest of one is what it is about, but for what Ray adds under names with `_`."""


def structured() -> bool:
    """Return whether this process says records: not, unless somebody has asked for them."""
    return LOG.isEnabledFor(logging.INFO)


def begin(run: str, job: str = "") -> None:
    """Say records from now on in this process, whose prints become records too.

    Args:
        run: the run directory.
        job: the Ray job's submission id; empty outside one.
    """
    handler = _Stream(sys.stdout)
    handler.setFormatter(_Json({"run": run, **({"submission_id": job} if job else {})}))
    LOG.handlers, LOG.propagate = [handler], False
    LOG.setLevel(logging.INFO)
    sys.stdout = lines = _Lines()
    atexit.register(lines.end)


def as_asked(log_format: str) -> None:
    """Say records in a worker, which calls this first, where its run asks for them, by the handler that Ray gave it."""
    LOG.setLevel(logging.INFO if log_format == "json" else logging.WARNING)


def note(message: str, level: int = logging.INFO, **about: Any) -> None:
    """Record something that happened and that no line for people says.

    Args:
        about: run, stage, shard, attempt and whatever else, by name.
    """
    if structured():
        LOG.log(level, message, extra=about)


class Line(str):
    """A line for people, `stage: text`, that knows its parts: as a record it has its stage and its fields apart."""

    stage: str
    text: str
    about: dict[str, Any]

    def __new__(cls, stage: str, text: str, **about: Any) -> Self:
        line = super().__new__(cls, f"{stage}: {text}")
        line.stage, line.text, line.about = stage, text, about
        return line


def say(line: str) -> None:
    """Say a line for people, on standard output; as a record, a `Line` has its stage and its fields apart."""
    if structured():
        if isinstance(line, Line):
            LOG.info(line.text, extra={"stage": line.stage, **line.about})
        else:
            LOG.info(line)
    else:
        sys.stdout.write(_shown(line) + "\n")  # Ray Train's own `print` would say it twice
        sys.stdout.flush()


def complain(line: str) -> None:
    """Say why a job ends: on standard error; as a record on standard output, like everything else."""
    if structured():
        LOG.error(line)
    else:
        print(_shown(line), file=sys.stderr)


class _Stream(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:
        """Raise what keeps a record from being written, as `print` does: logging would say so and go on."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise error
        super().handleError(record)


def _shown(lines: str) -> str:
    """Return the lines without what a terminal would obey: they may name files of others."""
    return "\n".join(shown(line) for line in lines.split("\n"))


class _Json(logging.Formatter):
    """A formatter with the names that Ray's JSON has."""

    def __init__(self, always: dict[str, str]) -> None:
        super().__init__()
        self.always = always

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {"asctime": when, "levelname": record.levelname, "message": record.getMessage(), **self.always}
        if record.exc_info:
            fields["exc_text"] = self.formatException(record.exc_info)
        about = {key: value for key, value in vars(record).items() if key not in _PLAIN and not key.startswith("_")}
        return json.dumps(fields | about, default=str)


class _Lines(io.TextIOBase):
    """Standard output whose lines become records."""

    def __init__(self) -> None:
        self.begun = threading.local()

    def write(self, text: str) -> int:
        *lines, self.begun.text = (getattr(self.begun, "text", "") + text).split("\n")
        for line in lines:
            if line.strip():
                say(line)
        return len(text)

    def end(self) -> None:
        """End the line that this thread printed last, though nobody ended it."""
        self.write("\n")
