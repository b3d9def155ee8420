"""Audit a finished dataset: are its identities separate, does it copy real faces, how are its traits spread?"""

from hyperface.config import Config
from jobs.start import start


def main(config: Config) -> None:
    from cluster.audit import audit_stage
    from cluster.session import session
    from hyperface.lease import only_driver
    from hyperface.run import open_run

    run = open_run(config)
    with session(), only_driver(run.store):
        audit_stage(run)


if __name__ == "__main__":
    start(main, "jobs.audit")
