"""Connect to the cluster a job belongs to, or start Ray in this process for a run without one."""

import atexit
import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator

import ray
import ray.data

from hyperface import claims
from hyperface.config import ClusterConfig, Config
from hyperface.lease import only_driver
from hyperface.one_line import one_line
from hyperface.run import Run, RunError, enter, run_store

LONGEST_PLACE = 20
"""Bytes of a temporary directory's path: Ray puts 87 behind it for its sockets, whose paths have 107 at most."""


@contextlib.contextmanager
def driving(config: Config) -> Iterator[Run]:
    """The run of a configuration, and a session, for its only driver. Raises what `open_run` and `only_driver` do."""
    store = run_store(config)
    with session(), only_driver(store), claims.driver(store) as driver:
        yield enter(store, config, driver)


@contextlib.contextmanager
def session() -> Iterator[None]:
    """End, after the block, the connection that a stage inside it made; a Ray that ran before goes on."""
    before = ray.is_initialized()
    try:
        yield
    finally:
        if not before:
            ray.shutdown()


def connect(config: ClusterConfig) -> None:
    """Connect when a stage first needs Ray: a finished run is seen to be finished without it.

    `cluster.address` or RAY_ADDRESS (set by `ray job submit`) names a running cluster; without either a Ray on loopback
    starts in this process and ends with it.

    Raises:
        RunError: Ray did not start, or cannot be reached.
    """
    if ray.is_initialized():
        return
    address = config.address or os.environ.get("RAY_ADDRESS")
    with _sigterm_kept():
        try:
            if address:
                ray.init(address=address, logging_level=logging.ERROR, logging_config=_records(config))
            else:
                _start_local(config)
        except Exception as error:  # Ray raises a bare Exception where a process of it does not come up
            ray.shutdown()
            why = one_line(error)
            if address:
                raise RunError(f"Ray cannot be reached at {address}: {why}; is that where its head is?") from error
            fix = "the machine may be busy; give the same command again"
            raise RunError(f"Ray did not start on this machine: {why}; {fix}") from error
    _quieten()


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Undo what `ray.init` does to SIGTERM: with a Ray of its own the process would wait for that to drain first."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before):
            signal.signal(signal.SIGTERM, before)


def _records(config: ClusterConfig) -> ray.LoggingConfig | None:
    """Makes workers say JSON, with the ids of their job, node and actor; `hyperface/logs.py` makes the driver."""
    return ray.LoggingConfig(encoding="JSON", log_level="INFO") if config.log_format == "json" else None


def _start_local(config: ClusterConfig) -> None:
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # where the workers of a packing or a training meet
    ray.init(
        num_cpus=config.num_cpus or None,
        include_dashboard=False,
        logging_level=logging.ERROR,
        logging_config=_records(config),
        _node_ip_address="127.0.0.1",
        _temp_dir=f"{scratch()}/ray",  # Ray opens its own directory to everybody
    )


def scratch() -> str:
    """A new directory for the files of this process, which no other user can enter; removed when the process ends.

    It lies in the temporary directory (TMPDIR), or in /tmp where Ray's sockets would have paths too long in that.
    """
    place = tempfile.gettempdir()
    if len(os.fsencode(place)) > LONGEST_PLACE:
        place = "/tmp"  # noqa: S108  mkdtemp takes no name that is there
    made = tempfile.mkdtemp(prefix="hyperface-", dir=place)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def _quieten() -> None:
    """Ray Data's own progress bars and plans give way to the stages' progress lines."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.verbose_progress = False
    # A long shard is not a hang.
    context.execution_no_progress_timeout_s = 24 * 3600
    logging.getLogger("ray.data").setLevel(
        logging.CRITICAL
    )  # its errors are raised too, and those of ours with a trace
