"""Train a generator, Vec2Face, on the run's dataset or another one -> generator/NAME/. The same command resumes."""

from hyperface.config import Config
from jobs.start import start


def main(config: Config) -> None:
    from cluster.session import session
    from cluster.training import train_generator_stage
    from hyperface.lease import only_driver
    from hyperface.run import open_run

    run = open_run(config)
    with session(), only_driver(run.store):
        train_generator_stage(run)


if __name__ == "__main__":
    start(main, "jobs.train_generator")
