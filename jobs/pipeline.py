"""The main job: embed -> pack -> synthesize -> report. The same command again resumes, or finds everything done."""

from hyperface.config import Config
from jobs.start import start


def main(config: Config) -> None:
    from cluster.embedding import embed_stage
    from cluster.packing import pack_stage
    from cluster.preflight import try_models
    from cluster.session import driving
    from cluster.synthesis import synthesize_stage
    from hyperface.packing import keep_away
    from hyperface.run.names import DATASET, REPORT
    from hyperface.synthesis.steering import check_targets
    from jobs import report

    check_targets(config)
    keep_away.read(config.packing, config.storage)  # what is wrong with them is better said before faces are embedded
    with driving(config) as run:
        try_models(run)
        embed_stage(run)
        pack_stage(run)
        synthesize_stage(run)
    report.main(config)
    print(f"\ndataset  {run.store.uri(DATASET)}\nreport   {run.store.uri(REPORT)}")


if __name__ == "__main__":
    start(main, "jobs.pipeline")
