"""A job that is told to end does so within three seconds, after which `ray job stop` kills: on an idle machine."""

import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "cluster"))
from color_job import started
from waiting import wait_for

GRACE_SECONDS = 3.0


def test_sigterm_in_mid_shard_ends_the_job_within_the_grace_time(tmp_path: Path):
    asked = tmp_path / "asked"
    waiting = f"WaitingGenerator(miss_every=5, seed=seed_of(2), asked='{asked}', may_go_on='{tmp_path}/never')"
    job = started(waiting, tmp_path / "run")
    wait_for(lambda: asked.exists() or job.poll() is not None)
    sent = time.monotonic()
    job.terminate()
    output = job.communicate()
    assert (job.returncode, time.monotonic() - sent < GRACE_SECONDS) == (143, True), output
