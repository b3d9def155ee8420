"""The training of a recogniser: network and class centres, a step of them, and their part of a checkpoint.

Shape legend: B images of a step over all ranks, b of this rank, S pixels a side, D embedding dimension.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hyperface.config import TrainConfig
from hyperface.distributed.checkpoints import Checkpoints
from hyperface.distributed.place import Place, Stepped
from hyperface.distributed.ranks import even_sizes
from hyperface.models import iresnet
from hyperface.models.device import DTYPES
from hyperface.models.pixels import to_signal
from hyperface.models.trained import to_bytes
from hyperface.progress.logs import Line
from hyperface.run.seeds import seed_of
from hyperface.run.shapes import TWO
from hyperface.training.images import Images
from hyperface.training.recognizer.augment import NUMBERS, Augmentation, augment
from hyperface.training.recognizer.partial_fc import Centres, Head, Ranks, Update
from hyperface.training.recognizer.schedule import learning_rate
from hyperface.training.training import Training


class RecognizerTraining(Training):
    """A backbone, and this rank's part of the class centres."""

    config: TrainConfig

    def __init__(self, config: TrainConfig, images: Images, place: Place, image_size: int) -> None:
        super().__init__(config, images, place, image_size)
        each, worlds = self.steps.each, even_sizes(config.streams, place.world)
        sizes = tuple(each * streams for streams in worlds)
        self.ranks = Ranks(place.rank, place.group, even_sizes(images.num_classes, place.world), sizes)
        torch.manual_seed(seed_of("network", config.seed))
        network = iresnet.build(
            config.backbone,
            image_size,
            config.embedding_dim,
            se=config.squeeze_excitation,
            dropout=config.dropout,
        )
        self.network = network.to(place.device, memory_format=torch.channels_last)  # type: ignore[call-overload] # not in PyTorch's types
        self.parallel = place.parallel(self.network)
        self.optimizer = torch.optim.SGD(_groups(self.network, config.weight_decay), momentum=config.momentum)
        self.scaler = torch.amp.GradScaler(place.device.type, enabled=config.precision == "float16")
        head = Head(config.head, config.scale, config.margin, config.sample_rate)
        self.centres = Centres(self.ranks, head, config.embedding_dim, config.seed, place.device)

    @property
    def shared_rows(self) -> Sequence[int]:
        return self.ranks.classes

    def prepare(self, say: Callable[[str], None]) -> None:
        """Print a line where the precision costs time."""
        if self.place.device.type == "cpu" and self.config.precision != "float32":
            say(Line("train", "half precision is slow on most CPUs; there, train.precision=float32 is faster"))

    def take(self, images_bSSC: NDArray[np.uint8], labels_b: NDArray[np.int64]) -> Stepped:
        """Take one step of SGD; the loss is that of the head over the classes of all ranks."""
        config, device = self.config, self.place.device
        rate = learning_rate(config, self.step, self.steps.count)
        torch.manual_seed(seed_of("dropout", config.seed, self.step))  # a resumed training drops the same
        x = augment(to_signal(images_bSSC, device), self._numbers(), self._augmentation())
        with torch.autocast(device.type, DTYPES[config.precision], enabled=config.precision != "float32"):
            features_bD = self.parallel(x.contiguous(memory_format=torch.channels_last)).float()
        labels = torch.from_numpy(labels_b).to(device)
        update = Update(rate, config.momentum, config.weight_decay)
        loss, gradient_bD = self.centres.step(features_bD, labels, self.step, update)
        # The mean over ranks of what each sends back is to be the sum: a rank has its part of the B images.
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(features_bD, self.scaler.scale(gradient_bD * self.place.world))
        self.scaler.unscale_(self.optimizer)
        if config.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), config.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        return Stepped(self.step, loss, rate)

    def _numbers(self) -> Tensor:
        """Draw the random numbers of the own images, out of those of all images of the step."""
        generator = torch.Generator().manual_seed(seed_of("augmentation", self.config.seed, self.step))
        drawn_BR = torch.rand(self.config.batch_size, NUMBERS, generator=generator)
        return drawn_BR[self.ranks.own_images].to(self.place.device)

    def _augmentation(self) -> Augmentation:
        c = self.config
        return Augmentation(c.flip, c.erasing, c.crop, c.low_resolution, c.photometric)

    def momentum(self) -> dict[str, Tensor]:
        """Return the optimiser's state, by the names of the parameters; empty before the first step."""
        states = self.optimizer.state
        named = {name: parameter for name, parameter in self.network.named_parameters() if parameter in states}
        return {name: states[parameter]["momentum_buffer"] for name, parameter in named.items()}

    def put_momentum(self, found: dict[str, Tensor]) -> None:
        """Restore the state that `momentum` gave, in another process."""
        for name, parameter in self.network.named_parameters():
            if name in found:
                self.optimizer.state[parameter]["momentum_buffer"] = found[name].to(parameter.device).clone()

    def write(self, checkpoints: Checkpoints) -> dict[str, Any]:
        """Each rank writes its centres, rank 0 the network and its momentum."""
        centres = self.centres
        rows = {"weight": centres.weight_cD, "momentum": centres.momentum_cD}
        checkpoints.put_rows(self.step, self.ranks.own_classes, rows)
        if self.place.rank == 0:
            checkpoints.put(self.step, "network", self.network.state_dict())
            checkpoints.put(self.step, "momentum", self.momentum())
        norms = [centres.norms.mean, centres.norms.deviation]
        return {"norms": norms, "scale": self.scaler.state_dict()}

    def read(self, checkpoints: Checkpoints, step: int) -> None:
        """Take the network, its momentum and this rank's classes, whichever ranks wrote their centres."""
        marker, centres = checkpoints.marker(step, _Marker), self.centres
        self.network.load_state_dict(checkpoints.read(step, "network"))
        self.put_momentum(checkpoints.read(step, "momentum"))
        read = checkpoints.parts(step, self.ranks.own_classes)
        parts = [(rows["weight"][own], rows["momentum"][own]) for own, rows in read]
        if parts:
            weight_cD, momentum_cD = (torch.cat(column).to(self.place.device) for column in zip(*parts, strict=True))
            centres.weight_cD, centres.momentum_cD = weight_cD, momentum_cD
        centres.norms.mean, centres.norms.deviation = marker["norms"]
        if marker["scale"]:
            self.scaler.load_state_dict(marker["scale"])

    def result(self) -> tuple[bytes, dict[str, Any]]:
        """Return the backbone in the form that `hyperface/models/trained.py` reads."""
        config = self.config
        architecture = {
            "backbone": config.backbone,
            "image_size": self.image_size,
            "embedding_dim": config.embedding_dim,
            "se": config.squeeze_excitation,
        }
        return to_bytes(self.network, architecture), {}


class _Marker(TypedDict):
    norms: Annotated[list[float], TWO]
    """Mean and deviation of the lengths of features."""
    scale: dict[str, Any]


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Group the parameters: weight decay is for convolutions and the last layer, since normalisation, PReLU and biases
    have one dimension."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay, "lr": 0.0},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0, "lr": 0.0},
    ]
