"""A command line in this process: what the same words do in one of their own, without its imports."""

import contextlib
import io
import runpy
import subprocess
import sys
import warnings


def ran(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The exit code, the output and the complaints of `python -m MODULE WORDS ...`."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = [module, *words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return subprocess.CompletedProcess(words, int(end.code or 0), out.getvalue(), err.getvalue())
    finally:
        sys.argv = before
    return subprocess.CompletedProcess(words, 0, out.getvalue(), err.getvalue())
