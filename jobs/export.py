"""Export a finished run in a form that trainers read; the same command again goes on, or finds everything done.

usage: python -m jobs.export RUN FORMAT DESTINATION [storage.key=value ...] [publish.key=value ...]

RUN          the run.dir, or a CONFIG.yaml that names it; local or s3://
FORMAT       imagefolder   0000012/0000012-0003.jpg, a folder per identity
             recordio      train.rec, train.idx and property, as InsightFace and CVLface read them (local disk only)
             lmdb          data.mdb: key -> JPEG, with labels.csv (local disk only)
             huggingface   the folder to publish: Parquet files for datasets.load_dataset, a card, Croissant metadata
                           and checksums; the same command brings the last three up to date (keys publish.*)
DESTINATION  a directory or s3:// prefix that is empty, does not exist, or holds this export unfinished

Every format comes with classes.csv: class label (0 to classes - 1), identity in the run, images.
"""

import sys

from hyperface.errors import ConfigError
from hyperface.run.command_line import storage_of, to_publish
from jobs.start import exit_code


def main() -> None:
    arguments = sys.argv[1:]
    if len(arguments) < 3 or {"-h", "--help"} & set(arguments):
        print(__doc__)
        raise SystemExit(0 if {"-h", "--help"} & set(arguments) else 2)
    from hyperface.dataset.export import FORMATS, export_run
    from hyperface.storage import open_store

    source, kind, destination, *overrides = arguments
    if kind not in FORMATS:
        raise ConfigError(f"{kind}: is not a format; use one of {', '.join(FORMATS)}")
    run = to_publish(source, overrides)
    others = [override for override in overrides if not override.startswith("publish.")]
    export_run(run, kind, open_store(destination, storage_of(source, others)))


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
