"""Steps on three ranks, with gloo and DDP, against one rank that has all images: the same network and centres."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from cluster.workers import Workers
from hyperface import config as configuration
from hyperface.distributed.place import Place
from hyperface.distributed.ranks import Alone
from hyperface.training.recognizer.trainer import RecognizerTraining

WORLD, BATCH, CLASSES, SIZE, STEPS = 3, 24, 11, 32, 3
OPTIONS = ("train.recipe=toy", f"train.batch_size={BATCH}", "train.streams=4", "train.embedding_dim=16")
OPTIONS += ("train.warmup_epochs=0", "train.photometric=0.5", "train.erasing=0.5", "train.sample_rate=0.5")


class Counted:
    """A dataset of which only the counts are asked."""

    num_images, num_classes, fingerprint = 240, CLASSES, ""


def training(place: Place) -> RecognizerTraining:
    config = configuration.load(None, ["run.dir=anywhere", *OPTIONS]).train
    made = RecognizerTraining(config, Counted(), place, SIZE)  # type: ignore[arg-type] # its images are never asked for
    made.network.eval()  # normalisation that does not see the batch: a rank sees a part of it only
    return made


def batch(step: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rng = np.random.default_rng(step)
    return rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8), rng.integers(0, CLASSES, BATCH)


def taken(made: RecognizerTraining) -> tuple[list[float], Tensor, Tensor]:
    """(losses, parameters, own centres) after the steps."""
    losses, own = [], made.ranks.own_images
    for step in range(STEPS):
        images, labels = batch(step)
        losses.append(float(made.take(images[own], labels[own]).loss))
    return losses, torch.cat([p.detach().flatten() for p in made.network.parameters()]), made.centres.weight_cD


def on_a_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    place = Place(rank, WORLD, Workers(), torch.device("cpu"), DistributedDataParallel)
    torch.save(taken(training(place)), f"{folder}/rank-{rank}.pt")
    distributed.destroy_process_group()


def test_three_ranks_take_the_steps_of_one(tmp_path: Path):
    begun = training(Place(0, 1, Alone(), torch.device("cpu")))
    before = torch.cat([p.detach().flatten() for p in begun.network.parameters()]).clone()
    losses, network, centres = taken(begun)
    multiprocessing.spawn(on_a_rank, (str(tmp_path),), WORLD)
    found = [torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in range(WORLD)]
    for own_losses, own_network, _ in found:
        np.testing.assert_allclose(own_losses, losses, rtol=1e-4)
        torch.testing.assert_close(own_network, network, rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(torch.cat([own for _, _, own in found]), centres, rtol=1e-3, atol=1e-4)
    assert (network - before).abs().max() > 0.05, "the steps are larger than the tolerance"
