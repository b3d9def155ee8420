"""Train a generator, Vec2Face, on the run's dataset or another one -> generator/NAME/. The same command resumes."""

from hyperface.config import Config
from jobs.start import start


def main(config: Config) -> None:
    from cluster.session import driving
    from cluster.training import train_generator_stage

    with driving(config) as run:
        train_generator_stage(run)


if __name__ == "__main__":
    start(main, "jobs.train_generator")
