"""The first answer: lint, types, the architecture and the tests of what changed since main, side by side.

    python -m tests.changed [BASE]

A test is of what changed if it imports the module or names the file; where no test does, those of the modules that
import it are taken. No test with a Ray is. Of many, those that are nearest and quickest by the last record of durations
are run for 15 seconds, and what is left is said.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.unit.test_architecture import ROOT, imports

ARCHITECTURE = "tests/unit/test_architecture.py"
RECORD = Path(__file__).parent / "benchmarks" / "results" / "suite.json"
SECONDS, UNKNOWN_SECONDS = 15.0, 2.0
"""Seconds for tests of what changed, and seconds taken for a file that is in no record."""


def main(base: str) -> int:
    chosen, left = within_budget(tests_of(changed(base)))
    commands = {
        "lint": "ruff check --quiet . && ruff format --check --quiet .",
        "types": "mypy",
        "tests": " ".join(["pytest", "-q", "--durations=3", ARCHITECTURE, *chosen]),
    }
    began, pipe = time.monotonic(), subprocess.PIPE
    running = {
        name: subprocess.Popen(command, shell=True, cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT, text=True)
        for name, command in commands.items()
    }
    for name, process in running.items():
        output, _ = process.communicate()
        print(f"{output if process.returncode or name == 'tests' else ''}check: {name} {process.returncode or 'ok'}")
    if left:
        print(f"check: left for `make test`: {' '.join(left)}")
    print(f"check: {time.monotonic() - began:.0f} s")
    return max(process.returncode for process in running.values())


def changed(base: str) -> set[str]:
    """Files that differ from where this branch left `base`, or are new."""
    since = _git("merge-base", "HEAD", base)[0]
    return {*_git("diff", "--name-only", since), *_git("ls-files", "--others", "--exclude-standard")}


def _git(*words: str) -> list[str]:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def tests_of(files: set[str]) -> list[str]:
    """Test files without Ray, nearest first: those that changed, then those of each changed file."""
    paths = [path for part in ("hyperface", "cluster", "jobs", "tests") for path in (ROOT / part).rglob("*.py")]
    imported = {path.relative_to(ROOT).as_posix(): set(imports(path)) for path in paths}
    found = [name for name in sorted(files) if is_test(name) and (ROOT / name).exists()]
    for name in sorted(files - set(found)):
        found += [test for test in nearest(name, imported) if test not in found]
    return [name for name in found if name != ARCHITECTURE]


def is_test(name: str) -> bool:
    return name.startswith("tests/unit/test_") and name.endswith(".py")


def nearest(name: str, imported: dict[str, set[str]]) -> list[str]:
    """The tests that import a module, or else those of the modules that do; of another file those that name it."""
    if not name.endswith(".py"):
        return [test for test in imported if is_test(test) and Path(name).name in (ROOT / test).read_text()]
    seen, wave = {name}, {name}
    while wave:
        names = {each for file in wave for each in names_of(file)}
        wave = {file for file, own in imported.items() if own & names} - seen
        if tests := sorted(filter(is_test, wave)):
            return tests
        seen |= wave
    return []


def names_of(file: str) -> Iterator[str]:
    """Yield the names by which a module is imported; those of the tests also by their last part."""
    dotted = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    yield dotted
    if dotted.startswith("tests."):
        yield dotted.rpartition(".")[2]


def within_budget(tests: list[str]) -> tuple[list[str], list[str]]:
    """(what is run, what is left), the quickest first."""
    seconds = json.loads(RECORD.read_text())["measured"]["files"] if RECORD.exists() else {}
    chosen, left, spent = list[str](), list[str](), 0.0
    for test in sorted(tests, key=lambda test: seconds.get(test, UNKNOWN_SECONDS)):
        spent += seconds.get(test, UNKNOWN_SECONDS)
        (chosen if spent < SECONDS else left).append(test)
    return chosen, left


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1] if sys.argv[1:] else "main"))
