"""Verify a recogniser: the one this run trained, its recogniser or judge, or any ONNX file, on sets of pairs.

`--export onnx` also writes the trained recogniser as an ONNX file that InsightFace's tools take; then there need be
nothing to verify it on.
"""

import sys

from hyperface.config import Config
from hyperface.errors import ConfigError
from hyperface.progress.logs import Line, say
from jobs.start import exit_code, start

EXPORT = "--export"


def main(config: Config, export: str = "") -> None:
    from cluster.evaluation import evaluate_stage
    from cluster.session import driving
    from hyperface.verification.stage import NothingToVerify

    with driving(config) as run:
        if export:
            from hyperface.models.onnx_export import export_trained

            export_trained(run)
        try:
            evaluate_stage(run)
        except NothingToVerify as nothing:
            if not export:
                raise
            say(Line("evaluate", f"nothing was verified: {nothing}"))


def taken_export(words: list[str]) -> str:
    """Take `--export FORMAT`, or `--export=FORMAT`, out of a command line; return its format, empty where there is
    none.

    Raises:
        ConfigError: another format than onnx, or none.
    """
    for at, word in enumerate(words):
        name, joined, given = word.partition("=")
        if name != EXPORT:
            continue
        given = given if joined else "".join(words[at + 1 : at + 2])
        if given != "onnx":
            raise ConfigError(f"{EXPORT}: must be followed by onnx, got {given or 'nothing'}")
        del words[at : at + (1 if joined else 2)]
        return given
    return ""


def run_job() -> None:
    export = taken_export(sys.argv)
    start(lambda config: main(config, export), "jobs.evaluate", f"[{EXPORT} onnx]")


if __name__ == "__main__":
    raise SystemExit(exit_code(run_job))
