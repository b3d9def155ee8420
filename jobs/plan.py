"""Plan a run, before it is paid for: time, GPU-hours, memory, network, shards, storage and cost.

`--calibrate` first measures the rates that this is worked out from, on the machines it runs on, in a few minutes;
without it they are read from `plan.rates`. `--json` prints all figures for a program.
"""

import sys
import time

from hyperface.config import Config
from jobs.start import exit_code, start

FLAGS = ("--calibrate", "--json")


def main(config: Config, flags: set[str], began: float) -> None:
    from hyperface.capacity import text
    from hyperface.capacity.estimate import estimate, refuse_unknown
    from hyperface.capacity.rates import read
    from hyperface.capacity.tables import row_counts

    refuse_unknown(config)  # better said before it is measured
    counts = row_counts(config)
    if "--calibrate" in flags:
        from cluster.calibration import calibrate
        from cluster.session import session

        with session():
            calibrate(config, began)
    rates = read(config)
    found = estimate(config, rates, *counts)
    print(text.to_json(found, rates) if "--json" in flags else text.table(found, rates))


def run_job() -> None:
    began = time.monotonic()
    flags = {word for word in sys.argv[1:] if word in FLAGS}
    sys.argv[1:] = [word for word in sys.argv[1:] if word not in FLAGS]
    start(lambda config: main(config, flags, began), "jobs.plan", "[--calibrate] [--json]")


if __name__ == "__main__":
    raise SystemExit(exit_code(run_job))
