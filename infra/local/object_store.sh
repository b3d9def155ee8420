#!/usr/bin/env bash
# A real S3 server for tests: the RADOS gateway of Ceph over one monitor and one in-memory OSD, all on loopback.
#   object_store.sh fetch                        put Debian's packages into the cache; needs apt, installs nothing
#   object_store.sh start DIR [PORT] [OWNER]     start (fetching first), print the endpoint; PORT 0: a free one;
#                                                with OWNER, a process id, everything ends when that process is gone
#   object_store.sh stop-gateway DIR             an outage: the endpoint refuses connections, the data stays
#   object_store.sh start-gateway DIR            and back, at the same endpoint
#   object_store.sh admin DIR WORDS...           radosgw-admin: suspend the user, give another key
#   object_store.sh stop DIR                     end what start began and forget the data
# The user is testkey / testsecret. The cache is HYPERFACE_OBJECT_STORE_CACHE, else ~/.cache/hyperface/object-store.
# Only processes that this script started are ended, by their ids. Without root, apt's package lists have to be there.
set -euo pipefail

cache=${HYPERFACE_OBJECT_STORE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hyperface/object-store}
root=$cache/root
[[ ! -x /usr/bin/radosgw || ! -x /usr/bin/ceph-mon || ! -x /usr/bin/ceph-osd ]] || root= # installed already

fetch() {
  [[ -z $root || -e $cache/complete ]] && return
  mkdir -p "$cache"
  exec 9>"$cache/lock" && flock 9 # two test sessions may come at once
  [[ -e $cache/complete ]] && return
  local scratch packages
  scratch=$(mktemp -d "$cache/fetch-XXXXXX")
  [[ $(id -u) != 0 ]] || apt-get update -qq
  # What a simulated installation would add to this machine: the servers, and libraries that it lacks.
  packages=$(apt-get install --simulate --no-install-recommends radosgw ceph-mon ceph-osd | awk '/^Inst/ {print $2}')
  # apt-get download gives up its rights in favour of a user who may not write here; that is all the warning says.
  (cd "$scratch" && xargs apt-get download -qq 2>/dev/null <<<"$packages")
  for package in "$scratch"/*.deb; do dpkg-deb --extract "$package" "$scratch/root"; done
  rm -rf "$root" && mv "$scratch/root" "$root" && touch "$cache/complete"
  rm -rf "$scratch"
  exec 9>&-
}

environment() {
  lib=$root/usr/lib/$(uname -m)-linux-gnu
  export LD_LIBRARY_PATH=$lib:$lib/ceph:$root${lib#"$root/usr"}:$root/usr/lib PATH=$root/usr/bin:$root/usr/sbin:$PATH
  unset CEPH_ARGS CEPH_CONF
}

configuration() { # GATEWAY_PORT MONITOR_PORT
  cat <<CONF
[global]
fsid = $(cat /proc/sys/kernel/random/uuid)
mon host = v2:127.0.0.1:$2
keyring = $run/keyring
auth allow insecure global id reclaim = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
ms bind msgr1 = false
mon allow pool size one = true
mon max pg per osd = 2000
paxos propose interval = 0.02
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 2
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 4294967296
mon data = $run/mon
osd data = $run/osd
plugin dir = $lib/ceph
erasure code dir = $lib/ceph/erasure-code
osd class dir = $lib/rados-classes
run dir = $run
log file = $run/\$name.log
admin socket =
pid file = $run/\$name.pid
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:$1
rgw thread pool size = 32
rgw enable usage log = false
CONF
}

free_ports() { # below the range from which the kernel lends ports, so that none is lent before it is bound
  python3 - <<'PY'
import random, socket

held = []
while len(held) < 2:
    try:
        held.append(socket.create_server(("127.0.0.1", random.randrange(20_000, 30_000))))
    except OSError:
        pass
print(*(s.getsockname()[1] for s in held))
PY
}

end() { # NAME...: the daemon of that name, if it still runs; its data is to be forgotten, so at once
  local name pid
  for name; do
    pid=$(cat "$run/$name.pid" 2>/dev/null) || continue
    grep -qsF "$run/" "/proc/$pid/cmdline" && kill -KILL "$pid" 2>/dev/null
    while grep -qsF "$run/" "/proc/$pid/cmdline"; do sleep 0.05; done
    rm -f "$run/$name.pid"
  done
}

stop() {
  end client.rgw osd.0 mon.a watch
  rm -rf "$run"
}

await() { # SECONDS WHAT COMMAND...
  local tries=$(($1 * 10)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((tries-- > 0)) || { echo "object store: $what did not come up; see $run/*.log" >&2; exit 1; }
    sleep 0.1
  done
}

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$(cat "$run/port")") 2>/dev/null; }

start_gateway() {
  radosgw -c "$run/ceph.conf" -n client.rgw
  await 60 "the gateway" answers
}

admin() { radosgw-admin -c "$run/ceph.conf" -n client.rgw "$@"; }

start() { # PORT OWNER
  local port monitor uuid
  fetch && environment
  stop
  mkdir -p "$run/mon" "$run/osd"
  read -r port monitor < <(free_ports)
  [[ $1 == 0 ]] || port=$1
  echo "$port" >"$run/port"
  configuration "$port" "$monitor" >"$run/ceph.conf"
  key() { ceph-authtool "$run/keyring" --create-keyring --gen-key -n "$@" >/dev/null; }
  key mon. --cap mon 'allow *'
  # --create-keyring empties the file: the others are added.
  key() { ceph-authtool "$run/keyring" --gen-key -n "$@" >/dev/null; }
  key client.rgw --cap mon 'allow rwx' --cap osd 'allow rwx'
  key osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
  uuid=$(awk '/^fsid/ {print $3}' "$run/ceph.conf")
  monmaptool --create --fsid "$uuid" --addv a "[v2:127.0.0.1:$monitor]" "$run/monmap" >/dev/null
  # A map that has the OSD already saves the command line of ceph, and Python packages with it.
  osdmaptool --createsimple 1 "$run/osdmap" --clobber >/dev/null 2>&1
  ceph-mon -c "$run/ceph.conf" -i a --mkfs --monmap "$run/monmap" --osdmap "$run/osdmap" --keyring "$run/keyring"
  ceph-mon -c "$run/ceph.conf" -i a
  ceph-osd -c "$run/ceph.conf" -i 0 --mkfs --osd-uuid "$(cat /proc/sys/kernel/random/uuid)" >/dev/null 2>&1
  ceph-osd -c "$run/ceph.conf" -i 0 >/dev/null 2>&1
  start_gateway
  admin user create --uid=test --display-name=test --access-key=testkey --secret-key=testsecret >"$run/user.log" 2>&1
  if [[ -n $2 ]]; then
    (trap '' HUP INT && watch "$2") >/dev/null 2>&1 </dev/null &
  fi
  echo "http://127.0.0.1:$port"
}

watch() { # OWNER
  tail --pid="$1" -f "$run/port" >/dev/null &
  echo $! >"$run/watch.pid"
  wait $! || true
  # When it is `stop` that ended the tail, the owner still lives, and may have started another server here.
  kill -0 "$1" 2>/dev/null || stop
}

verb=${1:-} dir=${2:-}
[[ $verb == fetch ]] && { fetch; exit; }
[[ -n $dir ]] || { sed -n '2,11s/^# \?//p' "$0" >&2; exit 2; }
mkdir -p "$dir" && dir=$(cd "$dir" && pwd)
run=$dir/run
case $verb in
  start) start "${3:-0}" "${4:-}" ;;
  stop) stop ;;
  stop-gateway) end client.rgw ;;
  start-gateway) environment && start_gateway ;;
  admin) environment && admin "${@:3}" >/dev/null ;;
  *) echo "object_store.sh: no verb $verb" >&2 && exit 2 ;;
esac
