"""Embed the gallery: faces -> recogniser -> gallery/embeddings.parquet."""

from hyperface.config import Config
from jobs.start import start


def main(config: Config) -> None:
    from cluster.embedding import embed_stage
    from cluster.session import driving

    with driving(config) as run:
        embed_stage(run)


if __name__ == "__main__":
    start(main, "jobs.embed")
