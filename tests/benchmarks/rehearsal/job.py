"""One stage of the rehearsal, as a process that is watched and told to end.

usage: python -m tests.benchmarks.rehearsal.job pack|synthesize RUN_URL [key=value ...]
"""

import sys

BEGINS = "the stage begins"


def main() -> None:
    from cluster.session import session
    from hyperface.run import open_run
    from tests.benchmarks.rehearsal import world

    stage, url, *overrides = sys.argv[1:]
    run = open_run(world.world(url, *overrides))
    with session():
        if stage == "pack":
            from cluster.packing import pack_stage

            pack_stage(run)
        else:
            from cluster.synthesis import synthesize_stage

            print(BEGINS, flush=True)
            synthesize_stage(run, world.make_models)


if __name__ == "__main__":
    from jobs.start import exit_code

    raise SystemExit(exit_code(main))
