"""Compare ways to choose identities: the same student on each of their datasets, in the toy world -> a table."""

from hyperface.config import Config
from jobs.start import start


def main(config: Config) -> None:
    from cluster.experiment import experiment_stage
    from cluster.session import session
    from hyperface.lease import only_driver
    from hyperface.run import open_run

    run = open_run(config)
    with session(), only_driver(run.store):
        experiment_stage(run)


if __name__ == "__main__":
    start(main, "jobs.experiment")
