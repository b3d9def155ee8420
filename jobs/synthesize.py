"""Synthesise the dataset: references -> generator -> quality gate -> shards, index and data card."""

from hyperface.config import Config
from jobs.start import start


def main(config: Config) -> None:
    from cluster.session import driving
    from cluster.synthesis import synthesize_stage

    with driving(config) as run:
        synthesize_stage(run)


if __name__ == "__main__":
    start(main, "jobs.synthesize")
