"""Synthesise the dataset: references -> generator -> quality gate -> shards, index and data card."""

from hyperface.config import Config
from jobs.start import start


def main(config: Config) -> None:
    from cluster.session import session
    from cluster.synthesis import synthesize_stage
    from hyperface.run import open_run

    with session():
        synthesize_stage(open_run(config))


if __name__ == "__main__":
    start(main, "jobs.synthesize")
