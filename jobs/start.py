"""Begin and end of every job: configuration first, heavy imports later, an exit code and one clear line."""

import io
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from hyperface.config import Config, local_path
from hyperface.errors import UserError
from hyperface.progress import logs
from hyperface.run import command_line
from hyperface.run.provenance import submission_id

INTERRUPTED, TERMINATED = 130, 143
GOES_ON = "the same command goes on where this one stopped"


class Terminated(SystemExit):
    """SIGTERM: what `ray job stop`, Slurm and Kubernetes send; and SIGHUP, of a terminal that is closed. They leave the
    stages like an interrupt does."""


def start(job: Callable[[Config], None], module: str, more: str = "") -> NoReturn:
    """Run a job on the configuration of the command line and exit.

    0 done, 1 failed, 2 bad input, 130 interrupted, 141 nobody reads what it prints, 143 terminated (129: by SIGHUP).

    Args:
        more: words that the job itself has taken from the command line, for the help.
    """
    purpose = (sys.modules["__main__"].__doc__ or "").strip()
    raise SystemExit(exit_code(lambda: job(_begun(command_line.from_command_line(purpose, module, more)))))


def _begun(config: Config) -> Config:
    """Begin the job's log in the form that is wanted."""
    if config.cluster.log_format == "json":
        logs.begin(local_path(config.run.dir), submission_id())
    return config


def exit_code(call: Callable[[], None]) -> int:
    """Call, and turn what a user can mend into one message on standard error; anything else keeps its traceback."""
    signals: list[int] = []
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # no name ends a job whose output cannot show it

    def terminate(number: int, frame: object) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)  # once is enough: the rest of the grace time is for leaving
        signals.append(number)
        raise Terminated(128 + number)

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, terminate)}
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # `nohup` has it ignored
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, terminate)
    try:
        with command_line.printing():
            return _ended(call, signals)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ended(call: Callable[[], None], signals: Sequence[int]) -> int:
    """Call, and say how it ended; `signals` has one once the process was to end."""
    try:
        call()
    except KeyboardInterrupt:
        logs.complain(f"interrupted: {GOES_ON}")
        return INTERRUPTED
    except SystemExit as end:
        in_ray = bool(signals) and end.code == 1  # what Ray's calls make of any SystemExit
        if not (in_ray or isinstance(end, Terminated)):
            raise
        logs.complain(f"terminated: {GOES_ON}")
        return 128 + signals[0] if signals else int(end.code or 0)
    except Exception as error:  # shown, never swallowed: in one line where a user can mend it, else with its traceback
        for cause in _causes(error):
            if isinstance(cause, UserError):
                logs.complain(f"error: {cause}")
                return cause.exit_code
        if isinstance(error, OSError) and command_line.lost_output(error):
            raise
        logs.complain(traceback.format_exc().rstrip())
        return 1
    return 0


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what lies behind it, innermost last.

    Ray wraps a worker's exception in one of its class whose text is a traceback, and keeps the first in `cause`.
    """
    seen: BaseException | None = error
    while seen is not None:
        wrapped = getattr(seen, "cause", None)
        if wrapped is None:
            yield seen
        seen = wrapped or seen.__cause__
