"""The demo as its user runs it: a Ray head on loopback, `python -m jobs.submit`, and nothing left running."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMALL = (
    "embed.num_faces=24",
    "packing.num_identities=6",
    "packing.steps=5",
    "synthesis.generator=toy_render",
    "synthesis.images_per_identity=2",
    "synthesis.images_per_shard=6",
)


def processes_with(token: str) -> list[int]:
    """Everything that inherited the demo's environment, whatever it is called."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if token.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def job_api(token: str, demo: subprocess.Popen[str]) -> str:
    """The address of the demo's job API, once it answers whoever has the token."""
    while demo.poll() is None:
        for pid in processes_with(token):
            with contextlib.suppress(OSError):
                environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
                for address in (pair[23:] for pair in environment if pair.startswith("RAY_API_SERVER_ADDRESS=")):
                    with contextlib.suppress(OSError):  # nobody listens yet
                        if answer(address, token) == 200:
                            return address
        time.sleep(0.2)
    raise AssertionError("the demo ended before its job API answered")


def answer(address: str, token: str = "", entrypoint: str = "") -> int:
    """The status of a listing of jobs, or of a submission."""
    body = json.dumps({"entrypoint": entrypoint}).encode() if entrypoint else None
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{address}/api/jobs/", body, headers)) as found:
            return int(found.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_demo_leaves_a_dataset_and_no_process_and_takes_no_job_without_its_token(tmp_path: Path):
    token = secrets.token_hex(32)
    environment = dict(os.environ, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}", HOME=str(tmp_path))
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE"):
        environment.pop(name, None)
    environment["RAY_AUTH_TOKEN"] = token
    command = ["infra/local/demo.sh", str(tmp_path / "run"), *SMALL]
    said = tmp_path / "said"
    with (
        said.open("w") as out,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out, text=True) as demo,
    ):
        address = job_api(token, demo)
        assert address.startswith("http://127.0.0.1:")
        for wrong in ("", "0" * 64):
            assert answer(address, wrong) in (401, 403)
            assert answer(address, wrong, f"touch {tmp_path}/taken") in (401, 403)
        assert demo.wait() == 0, said.read_text()
    assert not (tmp_path / "taken").exists()
    assert f"dataset  {tmp_path}/run/dataset" in said.read_text()
    assert (tmp_path / "run/report/index.html").exists()
    assert not (tmp_path / ".ray").exists(), "the demo must not turn token mode on for this user's other clusters"
    deadline = time.monotonic() + 600
    while (left := processes_with(token)) and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "the demo left processes running"
