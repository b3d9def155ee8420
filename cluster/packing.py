"""Stage pack on Ray Train: rows sharded over workers, which all-gather the references each step."""

import ray.train
import torch
from ray.train.torch import get_device

from cluster.metrics import watching
from cluster.session import connect
from cluster.workers import Workers, fit
from hyperface.distributed.ranks import even_sizes
from hyperface.packing import checkpoint, stage
from hyperface.packing.partition import Partition, one_process
from hyperface.progress.logs import Line, say
from hyperface.run import Run
from hyperface.run.names import REFERENCES


def pack_stage(run: Run) -> None:
    """Write the run's references and their summary; nothing to do when they are there.

    One worker without a GPU runs in this process: a group of workers takes 13 s to start.

    Raises:
        ConfigError, EmbeddingError: the gallery does not fit the configuration.
        RunError: the workers failed more than packing.max_failures times, or other references are there already.
        StorageError: the run cannot be read or written.
    """
    config = run.config.packing
    if stage.is_done(run):
        checkpoint.clear(run.store)
        say(Line("packing", f"done, {run.store.uri(REFERENCES)}"))
    elif config.num_workers == 1 and not config.gpus_per_worker:
        stage.pack_rows(run, one_process(config.num_identities), torch.device("cpu"), watch=watching(run, "packing"))
    else:
        stage.refuse_impossible(run)  # better said before workers start
        stage.bind(run)
        connect(run.config.cluster)
        fit("packing", _work, run, config)


def _work(run: Run) -> None:
    """Pack this worker's rows."""
    torch.set_num_threads(1)
    context = ray.train.get_context()
    sizes = even_sizes(run.config.packing.num_identities, context.get_world_size())
    rank = context.get_world_rank()
    watch = watching(run, "packing", rank=rank)
    stage.pack_rows(run, Partition(sizes, rank, Workers()), get_device(), watch=watch)
