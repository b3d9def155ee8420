"""The training of Vec2Face (Wu et al., ICLR 2025): a step, and its state.

A recogniser looks at the images of a batch; the network makes them again from what it saw of each, a feature, with
most of the tokens masked. Mirroring and masks belong to a step and an image of it, whichever rank has it, so that a
training goes on from any step, with any number of workers.

Shape legend: B images of a step, b those of this rank, S pixels a side, D feature dimension.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hyperface.config import TrainGeneratorConfig
from hyperface.distributed.checkpoints import Checkpoints
from hyperface.distributed.place import Place, Stepped
from hyperface.models.device import DTYPES
from hyperface.models.pixels import to_signal
from hyperface.models.teacher import Teacher
from hyperface.models.vec2face import Made, summary_of, to_bytes
from hyperface.models.vec2face_network import MaskRatio, Masks, Vec2FaceNetwork, draw_masks, sized
from hyperface.run.seeds import seed_of
from hyperface.training import loader
from hyperface.training.generator import losses
from hyperface.training.generator.discriminator import PatchDiscriminator
from hyperface.training.images import Images
from hyperface.training.training import Training

LOSS = 2
"""Version of the loss, raised when the same recipe begins to ask for something else: no training goes on under another
loss."""
TERMS = ("pixel", "perceptual", "ssim", "token", "identity")
BETAS = (0.9, 0.99)
"""Decays of AdamW, as Vec2Face has them."""
NORM_IMAGES, _LOOKED_AT = 256, 32
"""Number of images whose features say how long features are, and how many of them are looked at together."""


class GeneratorTraining(Training):
    """A network of Vec2Face, its teacher and, where it is asked for, a discriminator."""

    config: TrainGeneratorConfig

    def __init__(
        self, config: TrainGeneratorConfig, images: Images, place: Place, image_size: int, teacher: Teacher
    ) -> None:
        super().__init__(config, images, place, image_size)
        self.teacher = teacher
        torch.manual_seed(seed_of("generator", config.seed))
        architecture = sized(config.size, teacher.recognizer.embedding_dim, image_size)
        self.network = Vec2FaceNetwork(architecture, config.dropout).to(place.device)
        self.network.image_decoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # not in PyTorch's types
        self.parallel = place.parallel(self.network)
        self.optimizer = torch.optim.AdamW(_groups(self.network, config.weight_decay), betas=BETAS)
        self.opponent = Opponent(config, place) if config.adversarial else None
        self.masks = MaskRatio(config.mask_min, config.mask_max, config.mask_mean, config.mask_std)
        self.norm = 0.0
        """Mean length of the recogniser's features; 0: not measured yet."""

    def made(self) -> Made:
        """Return the facts that the weights are to record of their training."""
        a, recognizer = self.network.architecture, self.teacher.recognizer
        return Made(self.config.size, a.embedding_dim, a.image_size, self.norm, recognizer.fingerprint)

    def prepare(self, say: Callable[[str], None]) -> None:
        """Measure how long features are, on the first images of the dataset, unless a checkpoint has it; rank 0
        says."""
        if self.norm:
            return
        count = min(NORM_IMAGES, self.images.num_images)
        steps = loader.Steps(count, min(count, _LOOKED_AT), 1)
        parts = loader.batches(self.images, steps, slice(0, 1), 0, 0, self.image_size, self.config.loader_threads)
        with torch.no_grad():
            rows = [self.teacher.look(to_signal(images, self.place.device))[0] for images, _ in parts]
        mine = torch.cat(rows).norm(dim=1).mean()
        self.norm = float(self.place.group.gather(mine[None], (1,) * self.place.world)()[0])

    def take(self, images_bSSC: NDArray[np.uint8], labels_b: NDArray[np.int64]) -> Stepped:
        """Take one step of AdamW, whoever the images show."""
        config = self.config
        rate = learning_rate(config, self.step, self.steps.count)
        wanted, masks = self._drawn(to_signal(images_bSSC, self.place.device))
        torch.manual_seed(seed_of("dropout", config.seed, self.step, self.place.rank))
        with half(config, self.place.device):
            seen_bD, seen_maps = self._seen(wanted)
            made, tokens, unmasked = self.parallel(seen_bD * self.scale, masks)
            made = made.float()
            terms = self._terms(made, wanted, seen_bD, seen_maps)
        terms["token"] = (tokens.float() - unmasked.float())[:, 1:].square().mean((1, 2))  # not the feature's own
        weighted = torch.stack([getattr(config, name) * terms[name] for name in TERMS]).sum(0)
        # The mean over ranks of what each sends back is to be the mean over the B images.
        share = len(made) * self.place.world / config.batch_size
        loss = weighted.mean() * share
        said = torch.stack([weighted, *(terms[name] for name in TERMS)]).detach().mean(1)
        if self.opponent is not None and self._late:
            loss = loss + self._adversarial(self.opponent, loss, made, share)
        self._update(loss, rate)
        if self.opponent is not None:
            late = self._late  # the discriminator learns last: the generator's gradient passed through it as it was
            doubt = self.opponent.learn(wanted, made.detach(), share, rate) if late else loss.detach().new_zeros(())
            said = torch.cat([said, doubt[None]])
        self.step += 1
        return self._stepped(said, len(made), rate)

    @property
    def scale(self) -> float:
        """Return the factor that features are multiplied by: the network sees components of about 1."""
        return self.made().scale

    def _drawn(self, images: Tensor) -> tuple[Tensor, Masks]:
        """Return the own images, some of them mirrored, and their masks."""
        config, own = self.config, self._own()
        generator = torch.Generator().manual_seed(seed_of("mirrored", config.seed, self.step))
        mirrored_b = (torch.rand(config.batch_size, generator=generator) < config.flip)[own].to(images.device)
        images = torch.where(mirrored_b[:, None, None, None], images.flip(3), images)
        seeds = [seed_of("masks", config.seed, self.step, image) for image in range(config.batch_size)[own]]
        masks = draw_masks(seeds, self.network.architecture.tokens, self.masks)
        return images, masks.to(images.device)

    def _own(self) -> slice:
        """Return the place of the own images among those of the step."""
        streams = self.place.streams(self.config.streams)
        return slice(streams.start * self.steps.each, streams.stop * self.steps.each)

    def _seen(self, wanted: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the features and maps that the recogniser sees in the images that are wanted."""
        with torch.no_grad():
            return self.teacher.look(wanted)

    def _terms(self, made: Tensor, wanted: Tensor, seen_bD: Tensor, seen_maps: list[Tensor]) -> dict[str, Tensor]:
        """Return {term: [b]}, but for that of the tokens. A term that weighs nothing is 0."""
        terms = dict.fromkeys(TERMS, made.new_zeros(len(made)))
        terms["pixel"] = (made - wanted).square().mean((1, 2, 3))
        if self.config.perceptual > 0 or self.config.identity > 0:
            found_bD, found_maps = self.teacher.look(made)
            terms["identity"] = losses.identity_distance(found_bD, seen_bD)
            if found_maps:
                terms["perceptual"] = losses.perceptual_distance(found_maps, seen_maps)
        with torch.autocast(made.device.type, enabled=False):
            if self.config.ssim > 0:
                terms["ssim"] = 1 - losses.ssim(made, wanted)
        return terms

    @property
    def _late(self) -> bool:
        """Return whether the discriminator takes part."""
        return self.step >= self.config.adversarial_from * self.last_step

    def _adversarial(self, opponent: "Opponent", loss: Tensor, made: Tensor, share: float) -> Tensor:
        """Return the adversarial term of the loss."""
        adversary = opponent.persuasion(made) * share
        last = self.network.image_decoder.exit.weight
        own = torch.stack([torch.autograd.grad(term, last, retain_graph=True)[0] for term in (loss, adversary)])
        return self.config.adversarial * self._balance(own) * adversary

    def _balance(self, gradients: Tensor) -> Tensor:
        """Balance the means over ranks of what each has: gradients of the other terms and of the adversary's."""
        others, its = self.place.group.gather(gradients[None], (1,) * self.place.world)().mean(0)
        return losses.balance(others, its)

    def _update(self, loss: Tensor, rate: float) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()

    def _stepped(self, said: Tensor, count: int, rate: float) -> Stepped:
        """Return the means over all ranks."""
        world = self.place.world
        counted = torch.cat([said, said.new_tensor([float(count)])])
        all_WT = self.place.group.gather(counted[None], (1,) * world)()
        means = (all_WT[:, :-1] * all_WT[:, -1:]).sum(0) / all_WT[:, -1].sum()
        names = (*TERMS, "discriminator") if self.opponent is not None else TERMS
        return Stepped(self.step, means[0], rate, dict(zip(names, means[1:], strict=True)))

    def write(self, checkpoints: Checkpoints) -> dict[str, Any]:
        """Rank 0 writes the networks and their moments: all ranks have the same."""
        if self.place.rank == 0:
            checkpoints.put(self.step, "network", self.network.state_dict())
            checkpoints.put(self.step, "moments", moments(self.network, self.optimizer))
            if self.opponent is not None:
                checkpoints.put(self.step, "discriminator", self.opponent.network.state_dict())
                opposing = moments(self.opponent.network, self.opponent.optimizer)
                checkpoints.put(self.step, "discriminator-moments", opposing)
        return {"norm": self.norm}

    def read(self, checkpoints: Checkpoints, step: int) -> None:
        """Take the networks and their moments."""
        self.network.load_state_dict(checkpoints.read(step, "network"))
        put_moments(self.network, self.optimizer, checkpoints.read(step, "moments"))
        if self.opponent is not None:
            self.opponent.network.load_state_dict(checkpoints.read(step, "discriminator"))
            opposing = checkpoints.read(step, "discriminator-moments")
            put_moments(self.opponent.network, self.opponent.optimizer, opposing)
        self.norm = checkpoints.marker(step, _Marker)["norm"]

    def result(self) -> tuple[bytes, dict[str, Any]]:
        """Return the network in the form that `hyperface/models/vec2face.py` reads."""
        return to_bytes(self.network, self.made()), {"network": summary_of(self.network), "norm": self.norm}


class _Marker(TypedDict):
    norm: float


class Opponent:
    """A discriminator and its optimiser."""

    def __init__(self, config: TrainGeneratorConfig, place: Place) -> None:
        self.config, self.place = config, place
        self.network = PatchDiscriminator(32 if config.size == "small" else 64).to(place.device)
        self.parallel = place.parallel(self.network)
        self.optimizer = torch.optim.AdamW(_groups(self.network, config.weight_decay), betas=BETAS)

    def persuasion(self, made: Tensor) -> Tensor:
        """Return the loss of the generator: how little real its images look."""
        self.network.requires_grad_(False)
        with half(self.config, self.place.device):
            said: Tensor = self.network(made)
        self.network.requires_grad_(True)
        return -said.float().mean()

    def learn(self, real: Tensor, made: Tensor, share: float, rate: float) -> Tensor:
        """Take one step of the discriminator; return its loss before that, on the own images."""
        with half(self.config, self.place.device):
            said: Tensor = self.parallel(torch.cat([real, made]))
        loss = losses.discriminator_loss(*said.float().chunk(2))
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss * share)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return loss.detach()


def half(config: TrainGeneratorConfig, device: torch.device) -> torch.autocast:
    """Return a context for forward passes in the configured precision."""
    return torch.autocast(device.type, DTYPES[config.precision], enabled=config.precision != "float32")


def learning_rate(config: TrainGeneratorConfig, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of the step, counted from 0 over all epochs: a straight warm-up, then half a cosine to
    0."""
    warm_steps, last = config.warmup_epochs * steps_per_epoch, config.epochs * steps_per_epoch
    if step < warm_steps:
        return config.learning_rate * (step + 1) / (warm_steps + 1)
    gone = (step - warm_steps) / max(1.0, last - warm_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * gone))


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Group the parameters: weight decay is for products and convolutions."""
    named = dict(network.named_parameters())
    decaying = {name for name, p in named.items() if p.dim() > 1 and not name.endswith("position")}
    return [
        {"params": [named[name] for name in named if name in decaying], "weight_decay": weight_decay, "lr": 0.0},
        {"params": [named[name] for name in named if name not in decaying], "weight_decay": 0.0, "lr": 0.0},
    ]


def moments(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's state by the names of the parameters; empty before the first step."""
    states = {name: optimizer.state[p] for name, p in network.named_parameters() if p in optimizer.state}
    return {f"{name}/{key}": value for name, state in states.items() for key, value in state.items()}


def put_moments(network: nn.Module, optimizer: torch.optim.Optimizer, found: Mapping[str, Tensor]) -> None:
    """Restore the state that `moments` gave, in another process."""
    named = dict(network.named_parameters())
    for name_and_key, value in found.items():
        name, key = name_and_key.rsplit("/", 1)
        device = "cpu" if key == "step" else named[name].device
        optimizer.state[named[name]][key] = value.to(device).clone()
