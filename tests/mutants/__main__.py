"""Try every deliberate break of breaks.toml in a copy of the tree: each must fail the tests that it names.

python -m tests.mutants [words of rooms ...]
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.mutants import ROOT, breaks

PASSED, FAILED = 0, 1
"""Exit codes of pytest; any other means that the tests did not run."""
LONGEST_S = 120
"""Seconds that a test may take: what is broken may wait for what never comes, and is caught by that."""


def main(words: list[str]) -> int:
    chosen = [each for each in breaks() if not words or any(word in each["room"] for word in words)]
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch, ThreadPoolExecutor(2) as pool:
        whole = copied(Path(scratch, "whole"))
        tests = sorted({test for each in chosen for test in each["caught_by"]})
        code, said = tested(whole, tests)
        if code != PASSED:
            print(f"{said}\nmutants: the tests must pass before anything is broken")
            return 1
        tried = list(pool.map(lambda each: tried_on(Path(scratch), *each), enumerate(chosen)))
    print(f"mutants: {sum(tried)} of {len(tried)} are caught")
    return int(not all(tried))


def tried_on(scratch: Path, number: int, each: dict[str, Any]) -> bool:
    """Break a copy of the tree; whether the tests fail."""
    tree = copied(scratch / f"{number}")
    file = tree / each["file"]
    file.write_text(file.read_text().replace(each["text"], each["broken"]))
    code, said = tested(tree, each["caught_by"])
    shutil.rmtree(tree)
    caught = [line.split()[1] for line in said.splitlines() if line.startswith("FAILED ")]
    if code == FAILED:
        print(f"caught    {each['room']}: {caught[0]}", flush=True)
    else:
        print(f"{said[-3000:]}\nNOT CAUGHT  {each['room']} ({each['file']}), pytest ended with {code}", flush=True)
    return code == FAILED


def copied(to: Path) -> Path:
    """The tree as it is, without what git ignores."""
    listing = subprocess.check_output(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT)
    for name in listing.decode().splitlines():
        if (ROOT / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, to / name)
            shutil.copymode(ROOT / name, to / name)
    return to


def tested(tree: Path, tests: list[str]) -> tuple[int, str]:
    """(exit code, output) of pytest on a tree."""
    options = ["-x", "-q", "--durations=0", "-p", "no:cacheprovider", f"--timeout={LONGEST_S}"]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    here = os.environ | {"PYTHONPATH": str(tree)}  # child processes of tests import the copy too
    done = subprocess.run(command, cwd=tree, env=here, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
