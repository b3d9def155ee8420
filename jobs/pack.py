"""Pack identities: gallery -> HyperFace optimisation -> packing/references.parquet and summary.json."""

from hyperface.config import Config
from jobs.start import start


def main(config: Config) -> None:
    from cluster.packing import pack_stage
    from cluster.session import driving

    with driving(config) as run:
        pack_stage(run)


if __name__ == "__main__":
    start(main, "jobs.pack")
