"""Drawing the anchors of all identities before the shards, where a judge is asked: block by block, on actors."""

from collections.abc import Mapping, Sequence
from typing import Any

from ray.exceptions import RayError

from cluster.actor_pool import PoolActor, fan_out
from cluster.renderer import MakeModels
from hyperface.dataset.dataset import Dataset
from hyperface.errors import RunError, UserError
from hyperface.progress.logs import Line, say
from hyperface.reading.one_line import one_line
from hyperface.run import Run
from hyperface.synthesis.anchors import missing_blocks
from hyperface.synthesis.shards import ShardMaker, read_references, shard_maker

MAX_FAILURES = 3
"""Number of times a block is tried again after its actor died: it is the same work for every block."""


class _AnchorPainter(PoolActor):
    """An actor: the models, one block of identities at a time."""

    def __init__(self, run: Run, make_models: MakeModels) -> None:
        super().__init__()
        self.run, self.make_models = run, make_models
        self.maker: ShardMaker | None = None

    def work(self, piece: int) -> Mapping[str, Sequence[Any]]:
        self.maker = self.maker or shard_maker(self.run, read_references(self.run), self.make_models(self.run.config))
        return {"without": [self.maker.make_anchors(piece)]}


def draw_anchors(run: Run, make_models: MakeModels) -> None:
    """Draw the anchors that are missing; none without a judge.

    Raises:
        UserError: they cannot be drawn or written, or the dataset was begun with other models.
    """
    synthesis = run.config.synthesis
    if not synthesis.judged:
        return
    dataset = Dataset.of(run)
    todo = missing_blocks(dataset, dataset.fingerprint())
    if not todo:
        return
    say(Line("synthesize", f"draws an anchor of each identity for the judge, in {len(todo)} blocks"))
    try:
        with fan_out(
            todo,
            _AnchorPainter,
            (run, make_models),
            stage="synthesize",
            cluster=run.config.cluster,
            actors=synthesis.num_actors,
            gpus=synthesis.gpus_per_actor,
            failures=MAX_FAILURES,
        ) as rows:
            without = sum(int(batch["without"][0]) for batch in rows)
    except UserError as error:
        raise type(error)(f"{run}: anchors of the judge: {error}") from error
    except RayError as error:
        what = f"{type(error).__name__}: {one_line(error)}"
        raise RunError(f"{run}: the anchors of the judge cannot be drawn ({what}); the same command goes on") from error
    if without:
        say(Line("synthesize", f"{without} identities have no anchor, and so will have no image"))
