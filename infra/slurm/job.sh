#!/usr/bin/env bash
# A job of jobs/ on a Ray cluster of its own, one Ray node on each Slurm node:
#   sbatch [--nodes=8 ...] infra/slurm/job.sh JOB CONFIG.yaml|RUN [key=value ...]
# from a checkout on a disk that all nodes see, with its .venv, or another one on PATH. It exits as the job does, and 1
# where the job never ran; given again, the same command goes on. Options of sbatch win over these:
#SBATCH --job-name=hyperface
#SBATCH --output=%x-%j.log
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-task=1
#SBATCH --time=24:00:00
# Ray is ended by `ray stop`, which would end every other Ray of yours on a node as well.
#SBATCH --exclusive
# Two minutes before its time is over, the job is told to leave in order.
#SBATCH --signal=B:TERM@120
# A lost or preempted node begins this script again, and the job goes on.
#SBATCH --requeue
set -euo pipefail
(($# >= 2)) || { sed -n '2,5s/^# \?//p' "$0" >&2; exit 2; }
: "${SLURM_JOB_NUM_NODES:?is not set: submit this script with sbatch}"

cd "$SLURM_SUBMIT_DIR"
export PATH=$PWD/.venv/bin:$PATH PYTHONPATH=$PWD
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
# One token for this job, in the environment, which other users of a node cannot read.
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300 # seconds; Ray's 30 are few for Python on a shared disk

# The head is this node, the first of the job. By its address: its name may mean loopback here. Of several networks the
# first is taken; RAY_HEAD_IP names another.
read -r head _ <<<"${RAY_HEAD_IP:-$(hostname --all-ip-addresses)}"
scratch=$(mktemp -d /tmp/hyperface-XXXXXX)
trap 'rm -rf "$scratch"' EXIT
# Where Ray keeps its files on each node: Ray opens its own directory to everybody, so it lies in one that only we may
# enter. Not --temp-dir: `symmetric-run` itself would not find the Ray that it started.
export RAY_TMPDIR=$scratch-ray

# `ray symmetric-run` exits with 0 when Ray could not even be started, and worker nodes end as they like. So nothing counts
# but the exit code that the job itself leaves here.
cat >"$scratch/driver" <<'DRIVER'
here=${0%/*}
python -m "$@" &
echo $! >"$here/pid"
wait $!
code=$?
echo $code >"$here/code"
exit $code
DRIVER

# shellcheck disable=SC2016 # each node's own shell puts in the names
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 \
  --cpus-per-task="$SLURM_CPUS_PER_TASK" --wait=0 --kill-on-bad-exit=0 \
  bash -c 'mkdir -m 700 "$RAY_TMPDIR" || exit; code=0; "$@" || code=$?; rm -rf "$RAY_TMPDIR"; exit $code' node \
  ray symmetric-run --address="$head:6379" --min-nodes="$SLURM_JOB_NUM_NODES" \
  --num-cpus="$SLURM_CPUS_PER_TASK" -- \
  env RAY_ADDRESS="$head:6379" bash "$scratch/driver" "jobs.$1" "${@:2}" &
srun=$!
# The driver runs on this node: told directly, it leaves in order, and Ray after it. srun would kill instead.
trap 'kill -TERM "$(cat "$scratch/pid" 2>/dev/null || echo "$srun")" 2>/dev/null || true' TERM
while kill -0 "$srun" 2>/dev/null; do wait "$srun" || true; done

[[ -s $scratch/code ]] || { echo "job.sh: the job did not run: Ray did not start; the reason is above" >&2; exit 1; }
exit "$(<"$scratch/code")"
