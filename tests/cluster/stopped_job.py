"""A Ray with a dashboard, to which the synthesize job is submitted, and stopped by `ray job stop` in mid-shard.

usage: python tests/cluster/stopped_job.py ASKED COMMAND ...

Prints the job's log. ASKED: the file that the job makes when it is in mid-shard.
"""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


def main(asked: str, entrypoint: list[str]) -> None:
    import ray
    from ray.job_submission import JobSubmissionClient

    with tempfile.TemporaryDirectory(prefix="job-", dir="/tmp", ignore_cleanup_errors=True) as scratch:
        here = ray.init(
            num_cpus=2, include_dashboard=True, dashboard_port=0, _temp_dir=scratch, _node_ip_address="127.0.0.1"
        )
        address = f"http://{here.dashboard_url}"
        client = JobSubmissionClient(address)
        job = submitted(client, shlex.join(entrypoint))
        while not Path(asked).exists():
            assert not client.get_job_status(job).is_terminal(), client.get_job_logs(job)
            time.sleep(0.1)
        began = time.monotonic()
        ray_command = Path(sys.executable).with_name("ray")
        subprocess.run([ray_command, "job", "stop", "--address", address, job], check=True, env=os.environ)
        print(f"{client.get_job_status(job)} in {time.monotonic() - began:.1f} s\n{client.get_job_logs(job)}")
        ray.shutdown()


def submitted(client: "JobSubmissionClient", entrypoint: str) -> str:
    """Ray answers before the agent that starts jobs is up, and says so."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return client.submit_job(entrypoint=entrypoint)
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
