"""Check before a run begins that the models that draw its images are there, and fit each other, where its actors will
be."""

import time

from cluster.one_task import in_a_task
from cluster.renderer import MakeModels
from hyperface.config import Config
from hyperface.models.loading import load_models, needs_files
from hyperface.progress.logs import Line, say
from hyperface.run import Run
from hyperface.run.names import REFERENCES
from hyperface.synthesis.shards import check_models


def try_models(run: Run, make_models: MakeModels = load_models) -> None:
    """Load the models of the synthesis once on a node that its actors may get: a file that is missing there, or another
    one, is better said before faces are embedded and packed. Nothing to do for what ships with the code, nor when the
    references are there: the synthesis is next, and says it itself.

    Raises:
        ConfigError, ModelError: as `load_models` and `check_models`.
        RunError: as `in_a_task`.
    """
    config = run.config
    if run.store.exists(REFERENCES) or not needs_files(config):
        return
    say(Line("pipeline", "tries the models of the synthesis"))
    began = time.monotonic()
    in_a_task(
        _try, config, make_models, stage="synthesize", cluster=config.cluster, gpus=config.synthesis.gpus_per_actor
    )
    say(Line("pipeline", f"they load and fit each other, {time.monotonic() - began:.0f} s"))


def _try(config: Config, make_models: MakeModels) -> None:
    check_models(config, make_models(config))
