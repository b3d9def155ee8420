"""Train a recogniser: the run's dataset, or another one -> recognition/NAME/. The same command again resumes."""

from hyperface.config import Config
from jobs.start import start


def main(config: Config) -> None:
    from cluster.session import driving
    from cluster.training import train_stage

    with driving(config) as run:
        train_stage(run)


if __name__ == "__main__":
    start(main, "jobs.train")
