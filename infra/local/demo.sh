#!/usr/bin/env bash
# The demo as a user of a cluster runs it: a Ray head on loopback, `python -m jobs.submit`, and the head stopped again.
#   infra/local/demo.sh [RUN_DIR] [key=value ...]
# Needs `ray` on PATH. Starts one Ray head and one job, and ends exactly those.
set -euo pipefail
run=${1:-runs/demo}
shift || true

# Short: Ray's socket paths may have 107 characters. Only we may enter it: Ray opens its own directory inside to everybody.
scratch=$(mktemp -d /tmp/hyperface-XXXXXX)
head=
finish() {
  # `ray stop` would end every Ray of this machine; ending the --block process ends only what it started.
  [[ -z $head ]] || { kill "$head" 2>/dev/null && wait "$head" 2>/dev/null; } || true
  rm -rf "$scratch"
}
trap finish EXIT
trap 'echo "demo: the head is stopped and the job with it; the same command goes on" >&2; exit 130' INT TERM

read -r port client_port agent_port < <(python - <<'PY'
import socket

held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(s.getsockname()[1] for s in held))
PY
)
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(python -c 'import secrets; print(secrets.token_hex(32))')}
# Ray makes the machine's own address of 127.0.0.1 where it thinks that a cluster is wanted.
export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 GLOO_SOCKET_IFNAME=lo
export RAY_API_SERVER_ADDRESS=http://127.0.0.1:$port RAY_USAGE_STATS_ENABLED=0
# The job runs in a copy of this folder, on this machine: relative paths are meant from here.
export HYPERFACE_BASE_DIR=$PWD

echo "demo: starting a Ray head on loopback (log: removed at the end)"
ray start --head --block --node-ip-address=127.0.0.1 --port=0 --ray-client-server-port="$client_port" \
  --dashboard-host=127.0.0.1 --dashboard-port="$port" --dashboard-agent-listen-port="$agent_port" \
  --temp-dir="$scratch/ray" >"$scratch/head.log" 2>&1 &
head=$!
for _ in $(seq 120); do
  ray job list >/dev/null 2>&1 && break
  kill -0 "$head" 2>/dev/null || { cat "$scratch/head.log" >&2; exit 1; }
  sleep 0.5
done

# Ray's core warns its own developers about every actor that may restart; between progress lines that reads as a failure.
python -m jobs.submit pipeline jobs/configs/toy.yaml "run.dir=$run" "$@" \
  2> >(sed -u 's/Ctrl-C leaves it running/Ctrl-C ends it, and the head/' >&2) | grep --line-buffered -v 'core_worker.cc'
