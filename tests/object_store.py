"""A real S3 server for the tests: the Ceph gateway that infra/local/object_store.sh starts."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "infra" / "local" / "object_store.sh"

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testkey",
    "AWS_SECRET_ACCESS_KEY": "testsecret",
    "AWS_DEFAULT_REGION": "us-east-1",
}
"""The gateway's only user. The emulator takes any."""


@dataclass(frozen=True)
class ObjectStore:
    """A running server; it ends with `stop`, or with the process that started it."""

    endpoint: str
    directory: str

    def stop_gateway(self) -> None:
        """An outage: connections are refused, the data stays."""
        _call("stop-gateway", self.directory)

    def start_gateway(self) -> None:
        """Start the gateway again, at the same endpoint."""
        _call("start-gateway", self.directory)

    def suspend(self) -> None:
        """The user's credentials are refused from now on, as expired ones are."""
        _call("admin", self.directory, "user", "suspend", "--uid=test")

    def enable(self) -> None:
        """Let the credentials be taken again."""
        _call("admin", self.directory, "user", "enable", "--uid=test")

    def change_secret(self, secret: str) -> None:
        """The user's key has another secret from now on."""
        _call("admin", self.directory, "key", "create", "--uid=test", "--access-key=testkey", f"--secret-key={secret}")

    def stop(self) -> None:
        _call("stop", self.directory)
        shutil.rmtree(self.directory)


def start_object_store() -> ObjectStore:
    """Start a server on free ports. The first start on a machine fetches Debian's packages."""
    directory = tempfile.mkdtemp(prefix="hyperface-s3-")
    return ObjectStore(_call("start", directory, "0", str(os.getpid())), directory)


def _call(*arguments: str) -> str:
    done = subprocess.run([str(SCRIPT), *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{SCRIPT.name} {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()
