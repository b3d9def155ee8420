"""Embed the gallery: faces -> recogniser -> gallery/embeddings.parquet."""

from hyperface.config import Config
from jobs.start import start


def main(config: Config) -> None:
    from cluster.embedding import embed_stage
    from cluster.session import session
    from hyperface.run import open_run

    with session():
        embed_stage(open_run(config))


if __name__ == "__main__":
    start(main, "jobs.embed")
