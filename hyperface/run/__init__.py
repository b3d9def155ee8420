"""A run directory: the name of everything in it, its configuration, provenance, records, and who may write it."""

from hyperface.run.opening import enter as enter
from hyperface.run.opening import existing_run as existing_run
from hyperface.run.opening import open_run as open_run
from hyperface.run.opening import refuse_another as refuse_another
from hyperface.run.opening import run_store as run_store
from hyperface.run.run import Run as Run
