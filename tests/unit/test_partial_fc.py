"""Partial FC on one to three ranks against the whole softmax by autograd."""

import pytest
import torch
from threaded_ranks import ranks_of
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from hyperface.distributed.ranks import Alone, even_sizes
from hyperface.training.recognizer import margins
from hyperface.training.recognizer.partial_fc import Centres, Head, Ranks, Update

CLASSES, IMAGES, DIM = 11, 8, 6
STILL = Update(learning_rate=0.0, momentum=0.0, weight_decay=0.0)


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return 5 * torch.randn(IMAGES, DIM, generator=generator), torch.randint(0, CLASSES, (IMAGES,), generator=generator)


def alone(head: Head, classes: int = CLASSES) -> Centres:
    ranks = Ranks(0, Alone(), (classes,), (IMAGES,))
    return Centres(ranks, head, DIM, seed=7, device=torch.device("cpu"))


def whole_softmax(head: Head, features: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    cosines = normalize(features) @ normalize(weight).T
    target = cosines.gather(1, labels[:, None])[:, 0]
    match head.kind:
        case "arcface":
            target = margins.arcface(target, head.margin)
        case "cosface":
            target = margins.cosface(target, head.margin)
        case "adaface":
            quality = margins.FeatureNorms().quality(features.norm(dim=1))
            target = margins.adaface(target, quality, head.margin)
    return cross_entropy(head.scale * cosines.scatter(1, labels[:, None], target[:, None]), labels)


def on_ranks(world: int, head: Head, update: Update, steps: int = 1) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(loss, own gradients, own centres afterwards) of each rank."""
    images, classes = even_sizes(IMAGES, world), even_sizes(CLASSES, world)

    def work(rank: int, group: object) -> tuple[Tensor, Tensor, Tensor]:
        ranks = Ranks(rank, group, classes, images)  # type: ignore[arg-type]
        centres = Centres(ranks, head, DIM, seed=7, device=torch.device("cpu"))
        for step in range(steps):
            features, labels = batch(step)
            loss, gradient = centres.step(features[ranks.own_images], labels[ranks.own_images], step, update)
        return loss, gradient, centres.weight_cD

    return ranks_of(world, work)


@pytest.mark.parametrize("kind", ["arcface", "cosface", "adaface"])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_loss_and_gradients_are_those_of_the_whole_softmax(kind: str, world: int):
    head = Head(kind, 16.0, 0.3)  # type: ignore[arg-type]
    features, labels = batch()
    features.requires_grad_(True)
    weight = alone(head).weight_cD.clone().requires_grad_(True)
    expected = whole_softmax(head, features, labels, weight)
    torch.autograd.backward(expected)
    found = on_ranks(world, head, Update(1.0, 0.0, 0.0))
    for loss, _, _ in found:
        torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(torch.cat([gradient for _, gradient, _ in found]), features.grad, rtol=1e-4, atol=1e-6)
    moved = torch.cat([centres for _, _, centres in found])
    torch.testing.assert_close(moved, weight.detach() - weight.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sample_rate", [1.0, 0.3])
def test_any_number_of_ranks_goes_the_same_way(sample_rate: float):
    head, update = Head("cosface", 16.0, 0.3, sample_rate), Update(0.1, 0.9, 1e-2)
    one = on_ranks(1, head, update, steps=4)
    for world in (2, 3):
        several = on_ranks(world, head, update, steps=4)
        torch.testing.assert_close(torch.cat([c for _, _, c in several]), one[0][2], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(several[0][0], one[0][0], rtol=1e-4, atol=1e-5)


def test_momentum_and_weight_decay_are_those_of_torch():
    head = Head("cosface", 16.0, 0.3)
    weight = alone(head).weight_cD.clone().requires_grad_(True)
    sgd = torch.optim.SGD([weight], lr=0.1, momentum=0.9, weight_decay=1e-2)
    for step in range(4):
        sgd.zero_grad()
        torch.autograd.backward(whole_softmax(head, *batch(step), weight))
        sgd.step()
    found = on_ranks(1, head, Update(0.1, 0.9, 1e-2), steps=4)
    torch.testing.assert_close(found[0][2], weight.detach(), rtol=1e-4, atol=1e-5)


def test_only_sampled_centres_move_and_those_of_the_batch_always_do():
    centres = alone(Head("cosface", 16.0, 0.3, sample_rate=0.01), classes=1000)
    before = centres.weight_cD.clone()
    features, labels = batch()
    centres.step(features, labels, 0, Update(0.1, 0.9, 0.0))
    moved = (centres.weight_cD != before).any(1).nonzero()[:, 0]
    assert set(labels.tolist()) <= set(moved.tolist())
    assert len(moved) < 60


def test_a_rank_without_a_class_takes_part():
    head = Head("cosface", 16.0, 0.3)

    def work(rank: int, group: object) -> Tensor:
        ranks = Ranks(rank, group, (2, 0), (4, 4))  # type: ignore[arg-type]
        centres = Centres(ranks, head, DIM, seed=7, device=torch.device("cpu"))
        features, labels = batch()
        own = ranks.own_images
        return centres.step(features[own], (labels % 2)[own], 0, STILL)[0]

    features, labels = batch()
    expected = whole_softmax(head, features, labels % 2, alone(head, classes=2).weight_cD)
    for loss in ranks_of(2, work):
        torch.testing.assert_close(loss, expected)


def test_cosines_of_ten_thousand_classes_leave_the_loss_finite():
    centres = alone(Head("arcface", 64.0, 0.5), classes=10_000)
    features, labels = batch()
    loss, gradient = centres.step(features, labels, 0, STILL)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
