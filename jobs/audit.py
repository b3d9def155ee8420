"""Audit a finished dataset: are its identities separate, does it copy real faces, how are its attributes spread?"""

from hyperface.config import Config
from jobs.start import start


def main(config: Config) -> None:
    from cluster.audit import audit_stage
    from cluster.session import driving

    with driving(config) as run:
        audit_stage(run)


if __name__ == "__main__":
    start(main, "jobs.audit")
