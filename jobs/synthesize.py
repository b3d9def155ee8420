"""Synthesise the dataset: references -> generator -> quality gate -> shards, index and data card."""

from hyperface.config import Config
from jobs.start import start


def main(config: Config) -> None:
    from cluster.session import session
    from cluster.synthesis import synthesize_stage
    from hyperface.lease import only_driver
    from hyperface.run import open_run

    run = open_run(config)
    with session(), only_driver(run.store):
        synthesize_stage(run)


if __name__ == "__main__":
    start(main, "jobs.synthesize")
