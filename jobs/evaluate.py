"""Verify a recogniser: the one this run trained, its recogniser or judge, or any ONNX file, on sets of pairs.

`--export onnx` also writes the trained recogniser as an ONNX file that InsightFace's tools take.
"""

import sys

from hyperface.config import Config, ConfigError
from jobs.start import exit_code, start

EXPORT = "--export"


def main(config: Config, export: str = "") -> None:
    from cluster.evaluation import evaluate_stage
    from cluster.session import session
    from hyperface.lease import only_driver
    from hyperface.run import open_run

    run = open_run(config)
    with session(), only_driver(run.store):
        if export:
            from hyperface.models.onnx_export import export_trained

            export_trained(run)
        evaluate_stage(run)


def taken_export(words: list[str]) -> str:
    """Take `--export FORMAT` out of the words of a command line; its format, empty where there is none.

    Raises:
        ConfigError: another format than onnx, or none.
    """
    if EXPORT not in words:
        return ""
    at = words.index(EXPORT)
    _, *given = words[at : at + 2]
    if given != ["onnx"]:
        raise ConfigError(f"{EXPORT}: must be followed by onnx, got {given[0] if given else 'nothing'}")
    del words[at : at + 2]
    return "onnx"


def run_job() -> None:
    export = taken_export(sys.argv)
    start(lambda config: main(config, export), "jobs.evaluate")


if __name__ == "__main__":
    raise SystemExit(exit_code(run_job))
