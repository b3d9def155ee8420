"""Stages train and train_generator on Ray Train: batches and class centres divided among workers, gradients averaged by
DDP."""

from collections.abc import Callable
from functools import partial

import ray.train
import torch
from ray.train.torch import get_device

from cluster.metrics import watching
from cluster.session import connect
from cluster.workers import Workers, averaged, fit
from hyperface.distributed.place import Place
from hyperface.distributed.ranks import Alone
from hyperface.progress.logs import Line, say
from hyperface.run import Run
from hyperface.training.folder import Folder
from hyperface.training.generator import stage as generator
from hyperface.training.recognizer import stage as recognition


def train_stage(run: Run) -> None:
    """Train a recogniser and write it under recognition/NAME/; nothing to do when it is there.

    Raises:
        ConfigError: the data cannot be trained on, or a training of this name was begun with something else.
        RunError: the data is damaged, the loss is no number any more, or the workers failed too often.
        StorageError: the run cannot be read or written.
    """
    recognition.begin(run)  # what is wrong with the data is better said before workers start
    _train(Folder(run, "train"), recognition.train_rank)


def train_generator_stage(run: Run) -> None:
    """Train a generator and write it under generator/NAME/; nothing to do when it is there.

    Raises:
        ConfigError: the data cannot be trained on, the recogniser does not fit, or a training of this name was begun
            with something else.
        ModelError: the recogniser cannot be loaded.
        RunError: the data is damaged, the loss is no number any more, or the workers failed too often.
        StorageError: the run cannot be read or written.
    """
    generator.begin(run, _here())
    _train(Folder(run, "train_generator"), generator.train_rank)
    print(generator.how_to_use(run), flush=True)


def _here() -> Place:
    return Place(0, 1, Alone(), torch.device("cpu"))


def _train(folder: Folder, train_rank: Callable[..., None]) -> None:
    """Train; one worker without a GPU runs in this process: a group of workers takes 13 s to start."""
    run, config = folder.run, folder.config
    if folder.is_done():
        folder.checkpoints.clear()
        say(Line(folder.section, f"done, {run.store.uri(folder.summary)}"))
        return
    if config.num_workers == 1 and not config.gpus_per_worker:
        train_rank(run, _here(), watch=watching(run, folder.section, config.name))
        return
    connect(run.config.cluster)
    fit(folder.section, partial(_work, folder.section, config.name, train_rank), run, config)


def _work(stage: str, name: str, train_rank: Callable[..., None], run: Run) -> None:
    """Train as one worker."""
    torch.set_num_threads(1)
    context, device = ray.train.get_context(), get_device()
    place = Place(context.get_world_rank(), context.get_world_size(), Workers(), device, averaged(device))
    train_rank(run, place, watch=watching(run, stage, name, place.rank))
