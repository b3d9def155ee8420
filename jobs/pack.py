"""Pack identities: gallery -> HyperFace optimisation -> packing/references.parquet and summary.json."""

from hyperface.config import Config
from jobs.start import start


def main(config: Config) -> None:
    from cluster.packing import pack_stage
    from cluster.session import session
    from hyperface.lease import only_driver
    from hyperface.run import open_run

    run = open_run(config)
    with session(), only_driver(run.store):
        pack_stage(run)


if __name__ == "__main__":
    start(main, "jobs.pack")
