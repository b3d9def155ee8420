"""Verify a run: every marker, size, row count, key and the index; with --deep every hash, label and image as well.

usage: python -m jobs.verify RUN [--deep] [storage.key=value ...]     RUN: the run.dir, or a CONFIG.yaml that names it
"""

import sys

from hyperface.errors import RunError
from hyperface.run.command_line import run_of
from jobs.start import exit_code


def main() -> None:
    arguments = [argument for argument in sys.argv[1:] if argument != "--deep"]
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__)
        raise SystemExit(0 if arguments else 2)
    from hyperface.dataset import verify

    run, deep = run_of(arguments[0], arguments[1:]), "--deep" in sys.argv
    problems = verify(run, deep=deep)
    if problems:
        raise RunError(f"{run}: {len(problems)} problem{'s' * (len(problems) > 1)}\n  " + "\n  ".join(problems))
    print(f"{run}: every shard is complete and {'every byte is' if deep else 'sizes and counts are'} as recorded")


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
