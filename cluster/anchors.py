"""Before the shards, where a judge is asked: the anchors of all identities, block by block, on actors."""

import json
import traceback
from typing import Any

from numpy.typing import NDArray
from ray.exceptions import RayError

from cluster.actor_pool import fan_out
from cluster.renderer import OWN_ERRORS, MakeModels
from hyperface.config import ConfigError
from hyperface.dataset import fingerprint
from hyperface.dataset.survey import planned
from hyperface.run import Run, RunError
from hyperface.synthesis.anchors import missing_blocks
from hyperface.synthesis.shards import ShardMaker, read_references, shard_maker

MAX_FAILURES = 3
"""Times a block is tried again after its actor died: it is the same work for every block."""


class _AnchorPainter:
    """An actor: the models, one block of identities at a time."""

    def __init__(self, run: Run, make_models: MakeModels) -> None:
        import torch

        torch.set_num_threads(1)
        self.run, self.make_models = run, make_models
        self.maker: ShardMaker | None = None

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, Any]:
        (block,) = batch["piece"]
        try:
            self.maker = self.maker or shard_maker(
                self.run, read_references(self.run), self.make_models(self.run.config)
            )
            without = self.maker.make_anchors(int(block))
        except Exception as error:  # told as a row: Ray Data would wrap it, and lose its type
            own = isinstance(error, OWN_ERRORS)
            if not own:
                traceback.print_exc()
            said = str(error) if own else f"{type(error).__name__}: {error}"
            return {"result": [json.dumps({"stop": said, "refused": isinstance(error, ConfigError)})]}
        return {"result": [json.dumps({"without": without})]}


def draw_anchors(run: Run, make_models: MakeModels) -> None:
    """Draw the anchors that are missing; none without a judge.

    Raises:
        RunError: they cannot be drawn or written.
        ConfigError: the dataset was begun with other models.
    """
    synthesis = run.config.synthesis
    if synthesis.min_judge_cosine == -1:
        return
    parts = fingerprint.recorded(run.store)
    todo = missing_blocks(run.store, planned(run.config), fingerprint.digest(parts) if parts else None)
    if not todo:
        return
    print(f"synthesize: draws an anchor of each identity for the judge, in {len(todo)} blocks", flush=True)
    rows = fan_out(
        todo,
        _AnchorPainter,
        (run, make_models),
        cluster=run.config.cluster,
        actors=synthesis.num_actors,
        gpus=synthesis.gpus_per_actor,
        failures=MAX_FAILURES,
    )
    try:
        # To the end, for every block: a loop that is left early would leave its workers behind.
        batches = list(rows.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0))
    except RayError as error:
        what = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        raise RunError(f"{run}: the anchors of the judge cannot be drawn ({what}); the same command goes on") from error
    results = [json.loads(result) for batch in batches for result in batch["result"]]
    for result in results:
        if "stop" in result:
            raise (ConfigError if result["refused"] else RunError)(f"{run}: anchors of the judge: {result['stop']}")
    without = sum(result["without"] for result in results)
    if without:
        print(f"synthesize: {without} identities have no anchor, and so will have no image", flush=True)
