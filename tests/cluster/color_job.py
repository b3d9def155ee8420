"""The synthesize job with the models of the small world, as a process that tests can signal and kill.

usage: python tests/cluster/color_job.py GENERATOR RUN_DIR [key=value ...]

GENERATOR: an expression with the names of `faults` and `small_stage`, e.g. KillingGenerator(seed=seed_of(2)).
"""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def command(generator: str, directory: Path | str, *overrides: str) -> list[str]:
    return [sys.executable, __file__, generator, str(directory), *overrides]


def started(generator: str, directory: Path | str, *overrides: str) -> subprocess.Popen[str]:
    """The job in a process of its own, with a Ray of its own of two CPUs; its output in pipes."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        command(generator, directory, "cluster.num_cpus=2", *overrides),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def main() -> None:
    import color_world
    import faults
    import small_stage

    from cluster.session import session

    generator = eval(sys.argv[1], {"os": os, **vars(color_world), **vars(faults), **vars(small_stage)})
    with session():
        small_stage.synthesize(small_stage.start(*sys.argv[2:]), generator)


if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]
    from jobs.start import exit_code

    raise SystemExit(exit_code(main))
