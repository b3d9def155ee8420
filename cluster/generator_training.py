"""Stage train_generator on Ray Train: batches divided among workers, gradients averaged by DDP."""

import ray.train
import torch
from ray.train.torch import get_device

from cluster.metrics import watching
from cluster.session import connect
from cluster.workers import Workers, averaged, fit
from hyperface.generator import checkpoint, stage
from hyperface.ranks import Alone
from hyperface.run import Run
from hyperface.training.place import Place


def train_generator_stage(run: Run) -> None:
    """Train a generator and write it under generator/NAME/; nothing to do when it is there.

    One worker without a GPU runs in this process: a group of workers takes 13 s to start.

    Raises:
        ConfigError: the data cannot be trained on, the recogniser does not fit, or a training of this name was begun
            with something else.
        ModelError: the recogniser cannot be loaded.
        RunError: the data is damaged, the loss is no number any more, or the workers failed too often.
        StorageError: the run cannot be read or written.
    """
    config, here = run.config.train_generator, Place(0, 1, Alone(), torch.device("cpu"))
    stage.begin(run, here)  # what is wrong with the data is better said before workers start
    if stage.is_done(run):
        checkpoint.of(run).clear()
        print(f"train_generator: done, {run.store.uri(stage.summary_file(config.name))}")
        return
    if config.num_workers == 1 and not config.gpus_per_worker:
        stage.train_rank(run, here, watch=watching(run, "train_generator", config.name))
        return
    connect(run.config.cluster)
    fit("train_generator", _work, run, config)


def _work(run: Run) -> None:
    """What each worker does."""
    torch.set_num_threads(1)
    context, device = ray.train.get_context(), get_device()
    place = Place(context.get_world_rank(), context.get_world_size(), Workers(), device, averaged(device))
    name = run.config.train_generator.name
    stage.train_rank(run, place, watch=watching(run, "train_generator", name, place.rank))
