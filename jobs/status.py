"""Say what of a run is done, failing or quarantined, and which command goes on. Reads names and small files only.

usage: python -m jobs.status RUN [--json] [storage.key=value ...]     RUN: the run.dir, or a CONFIG.yaml that names it

exit code: 0 complete, 3 unfinished and nothing wrong, 1 something fails or is quarantined, 2 bad input
"""

import sys

from hyperface.run.command_line import run_of, storage_of
from jobs.start import exit_code


def main() -> None:
    arguments = [argument for argument in sys.argv[1:] if argument != "--json"]
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__)
        raise SystemExit(0 if arguments else 2)
    from hyperface.status import lines, status, to_json

    run = run_of(arguments[0], arguments[1:])
    found = status(run, storage_of(arguments[0], arguments[1:]))
    print(to_json(found) if "--json" in sys.argv else "\n".join(lines(found)))
    raise SystemExit(found.exit_code)


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
