"""A Ray with a dashboard, to which the synthesize job is submitted, and stopped by `ray job stop` in mid-shard.

usage: python tests/cluster/stopped_job.py ASKED COMMAND ...

Prints the job's log. ASKED: the file that the job makes when it is in mid-shard.
"""

import contextlib
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

RAY = str(Path(sys.executable).with_name("ray"))


def main(asked: str, entrypoint: list[str]) -> None:
    with head() as address:
        client = connected(address)
        job = submitted(client, shlex.join(entrypoint))
        while not Path(asked).exists():
            assert not client.get_job_status(job).is_terminal(), client.get_job_logs(job)
            time.sleep(0.1)
        began = time.monotonic()
        subprocess.run([RAY, "job", "stop", "--address", address, job], check=True, env=os.environ)
        print(f"{client.get_job_status(job)} in {time.monotonic() - began:.1f} s\n{client.get_job_logs(job)}")


@contextlib.contextmanager
def head() -> Iterator[str]:
    """A Ray on loopback, with ports of its own, since another Ray may have the usual ones; its dashboard's address."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    client_port, port, agent_port = (one.getsockname()[1] for one in held)
    for one in held:
        one.close()
    with tempfile.TemporaryDirectory(prefix="job-", dir="/tmp", ignore_cleanup_errors=True) as scratch:
        ports = [f"--ray-client-server-port={client_port}", f"--dashboard-agent-listen-port={agent_port}"]
        ports += ["--port=0", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}"]
        options = ["--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1", f"--temp-dir={scratch}/ray"]
        patient = os.environ | {"RAY_JOB_STOP_WAIT_TIME_S": "600"}  # on a busy machine a job's end takes its time
        with Path(scratch, "head.log").open("wb") as log:
            started = subprocess.Popen([RAY, "start", *options, *ports], stdout=log, stderr=log, env=patient)
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                started.terminate()
                started.wait()


def connected(address: str) -> "JobSubmissionClient":
    """Connect as soon as the dashboard answers."""
    from ray.job_submission import JobSubmissionClient

    deadline = time.monotonic() + 600
    while True:
        try:
            return JobSubmissionClient(address)
        except (ConnectionError, RuntimeError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def submitted(client: "JobSubmissionClient", entrypoint: str) -> str:
    """Ray answers before the agent that starts jobs is up, and says so."""
    deadline = time.monotonic() + 600
    while True:
        try:
            return client.submit_job(entrypoint=entrypoint)
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
