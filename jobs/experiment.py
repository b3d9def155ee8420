"""Compare ways to choose identities: the same student on each of their datasets, in the toy world -> a table."""

from hyperface.config import Config
from jobs.start import start


def main(config: Config) -> None:
    from cluster.experiment import experiment_stage
    from cluster.session import driving

    with driving(config) as run:
        experiment_stage(run)


if __name__ == "__main__":
    start(main, "jobs.experiment")
