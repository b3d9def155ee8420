"""The Slurm script, with stand-ins for srun and ray: what Slurm is told of a job, and of one that never ran."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "infra/slurm/job.sh"

# As `srun`: every task of the step runs the command; one stand-in for a task is enough. Its own words end at `ray`.
SRUN = """
printf '%s\\n' "$*" >"$OUT/srun"
[[ -z ${TAKEN:-} ]] || mkdir "$RAY_TMPDIR"
until [[ $1 == bash ]]; do shift; done
"$@"
exit "${SRUN_EXIT:-$?}"
"""
# As `ray symmetric-run` of Ray 2.60: a failure to start Ray is printed, and the exit code is 0.
RAY = """
printf '%s %s\\n' "$RAY_AUTH_MODE" "$RAY_AUTH_TOKEN" >"$OUT/token"
stat --format='%a %n' "$RAY_TMPDIR" >"$OUT/scratch"
if [[ -n ${RAY_FAILS:-} ]]; then echo "Failed to start Ray: port is taken" >&2; exit 0; fi
until [[ $1 == -- ]]; do shift; done
"${@:2}"
"""
JOB = """
import os, signal, sys, time
from pathlib import Path
if sys.argv[1] == "waits":
    def leave(number, frame):
        sys.exit(5)
    signal.signal(signal.SIGTERM, leave)
    Path(os.environ["OUT"], "waits").touch()
    time.sleep(60)
print("job", os.environ["RAY_ADDRESS"], *sys.argv[1:])
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a batch script whose folder holds one job, `small`."""
    for name, text in {"srun": SRUN, "ray": RAY}.items():
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/usr/bin/env bash\n{text}")
        file.chmod(0o755)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/small.py").write_text(JOB)
    slurm = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "4"}
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    return os.environ | slurm | {"SLURM_JOB_ID": "7", "PATH": path, "OUT": str(tmp_path), "RAY_HEAD_IP": "192.0.2.1"}


def run(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *words], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("code", [0, 2, 143])
def test_slurm_is_told_the_exit_code_of_the_job(slurm, code):
    done = run(slurm, "small", str(code), "run.dir=a b")
    assert done.returncode == code, done.stderr
    assert done.stdout == f"job 192.0.2.1:6379 {code} run.dir=a b\n"


def test_a_ray_that_did_not_start_is_a_failed_job_although_ray_exits_with_0(slurm):
    done = run(slurm | {"RAY_FAILS": "yes"}, "small", "0")
    assert done.returncode == 1
    assert "port is taken" in done.stderr
    assert "Ray did not start" in done.stderr


def test_a_worker_node_that_fails_does_not_fail_the_job(slurm):
    assert run(slurm | {"SRUN_EXIT": "9"}, "small", "0").returncode == 0


def test_at_the_end_of_its_time_the_job_is_told_to_leave_and_its_exit_code_counts(slurm, tmp_path):
    script = subprocess.Popen([SCRIPT, "small", "waits"], env=slurm)
    end = time.monotonic() + 600
    while not (tmp_path / "waits").exists() and time.monotonic() < end:
        time.sleep(0.05)
    script.send_signal(signal.SIGTERM)
    assert script.wait() == 5


def test_ray_gets_a_token_of_this_job_that_no_command_line_shows(slurm, tmp_path):
    run(slurm, "small", "0")
    mode, token = (tmp_path / "token").read_text().split()
    run(slurm, "small", "0")
    again = (tmp_path / "token").read_text().split()[1]
    words = (tmp_path / "srun").read_text()
    assert mode == "token"
    assert len(token) == len(again) == 64
    assert token != again
    assert again not in words
    assert "--min-nodes=2" in words


def test_ray_keeps_its_files_where_nobody_else_may_look_and_only_until_the_job_ends(slurm, tmp_path):
    assert run(slurm, "small", "0").returncode == 0
    mode, directory = (tmp_path / "scratch").read_text().split()
    assert mode == "700"
    assert not Path(directory).exists()


def test_a_directory_that_somebody_else_put_in_the_place_of_rays_is_not_used(slurm, tmp_path):
    done = run(slurm | {"TAKEN": "yes"}, "small", "0")
    assert done.returncode == 1
    assert "File exists" in done.stderr
    assert not (tmp_path / "scratch").exists()
    Path(re.findall(r"/tmp/hyperface-\w+-ray", done.stderr)[0]).rmdir()


def test_without_a_job_the_script_says_how_it_is_used(slurm):
    done = run(slurm)
    assert done.returncode == 2
    assert "sbatch" in done.stderr
