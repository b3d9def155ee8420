"""Train a recogniser: the run's dataset, or another one -> recognition/NAME/. The same command again resumes."""

from hyperface.config import Config
from jobs.start import start


def main(config: Config) -> None:
    from cluster.session import session
    from cluster.training import train_stage
    from hyperface.lease import only_driver
    from hyperface.run import open_run

    run = open_run(config)
    with session(), only_driver(run.store):
        train_stage(run)


if __name__ == "__main__":
    start(main, "jobs.train")
