"""The Slurm script with a real Ray: what `ray symmetric-run` starts by its words is what it then finds."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SRUN = 'until [[ $1 == bash ]]; do shift; done\n"$@"\n'


def test_the_ray_that_a_job_starts_is_the_one_that_its_driver_waits_for(tmp_path: Path):
    ray = f'exec {sys.executable} {ROOT / "tests/cluster/symmetric_run.py"} "$@"\n'
    for name, text in {"srun": SRUN, "ray": ray}.items():
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/usr/bin/env bash\n{text}")
        file.chmod(0o755)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/small.py").write_text("print('the job ran')\n")
    slurm = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_PER_TASK": "1"}
    slurm |= {"SLURM_JOB_ID": f"test-{os.getpid()}", "RAY_HEAD_IP": "127.0.0.1", "OUT": str(tmp_path)}
    environment = os.environ | slurm | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    environment.pop("RAY_ADDRESS", None)
    command = [ROOT / "infra/slurm/job.sh", "small", "any"]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    finally:
        shutil.rmtree(f"/tmp/ray-{slurm['SLURM_JOB_ID']}", ignore_errors=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["found", "the job ran"], done.stdout + done.stderr
