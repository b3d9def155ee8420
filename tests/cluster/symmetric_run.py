"""A stand-in for `ray` in a Slurm step: `ray symmetric-run` as it is on the head node of a job, but for how it ends.

It starts Ray as that does, waits for it by that command's own function, runs the entrypoint, and ends the Ray that it
started, where the command itself would end every Ray of the machine. Prints the address that was found.
"""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import ray
from ray.scripts.symmetric_run import check_cluster_ready, curate_and_validate_ray_start_args

RAY = str(Path(sys.executable).with_name("ray"))


def main(words: list[str]) -> int:
    at = words.index("--")
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    port, client_port, agent_port = (one.getsockname()[1] for one in held)
    for one in held:
        one.close()
    ports = [f"--port={port}", f"--ray-client-server-port={client_port}", f"--dashboard-agent-listen-port={agent_port}"]
    own = ["--head", "--block", "--node-ip-address=127.0.0.1", "--include-dashboard=false", *ports]
    given = curate_and_validate_ray_start_args(words[:at])
    with Path(os.environ["OUT"], "head.log").open("wb") as log:
        head = subprocess.Popen([RAY, "start", *own, *given], stdout=log, stderr=log)
        try:
            while b"Ray runtime started" not in Path(log.name).read_bytes():
                assert head.poll() is None, "Ray did not start"
                time.sleep(0.1)
            check_cluster_ready(1)
            print("found" if ray.get_runtime_context().gcs_address.endswith(f":{port}") else "not found", flush=True)
            ray.shutdown()
            return subprocess.call(words[at + 1 :])
        finally:
            head.terminate()
            head.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[2:]))
