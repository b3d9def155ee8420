"""The Ray layer: the only home of ray. One file per stage; the mathematics lives in hyperface."""

import os
import secrets
import sys

# Ray reads these when it is imported, which every module of this package does. Not shown are lines of Ray Train that
# say nothing which its "Attempting to start training worker group" does not; colours are for terminals.
noise = "Requesting resources: |Setting up process group for: |Started training worker group|world_rank=.*local_rank="
if not sys.stdout.isatty():
    os.environ.setdefault("RAY_COLOR_PREFIX", "0")

# Nothing but `connect` starts a Ray: left to itself, a call of Ray after its end starts another one, and waits in it.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
# When Ray ends it would give up the driver's handler of SIGTERM with its own, which only prints a trace.
os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")
# Nor does a process that is told to end while its Ray starts wait for that to drain.
os.environ.setdefault("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "0")

# A Ray started in this process gets a token of its own: without one, ray.init() writes a token to the home directory,
# and later clusters want it. Not shown are complaints about a missing dashboard, which it does not have.
if "RAY_ADDRESS" not in os.environ:
    # It has no address but loopback: Ray reads this on every system, and else makes the machine's address of 127.0.0.1.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    noise += "|Failed to query Ray Train Controller actor state"
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", noise)
