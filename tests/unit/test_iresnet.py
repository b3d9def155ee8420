"""The networks that are trained: the field's sizes and names, and what they refuse."""

import pytest
import torch
from torch.nn.functional import normalize

from hyperface.models import iresnet
from hyperface.models.iresnet import Backbone


@pytest.mark.parametrize(("backbone", "millions"), [("iresnet18", 24.03), ("iresnet50", 43.59), ("iresnet100", 65.15)])
def test_the_published_networks_have_their_published_numbers_of_parameters(backbone: Backbone, millions: float):
    with torch.device("meta"):  # numbers without values: tens of millions take seconds to draw
        network = iresnet.build(backbone, 112, 512)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_parameters_have_the_names_of_arcface_torch():
    with torch.device("meta"):
        names = set(iresnet.build("iresnet50", 112, 512).state_dict())
    wanted = {"conv1.weight", "bn1.running_mean", "prelu.weight", "layer1.0.downsample.0.weight", "layer3.13.bn3.bias"}
    assert wanted | {"layer2.0.conv2.weight", "bn2.weight", "fc.weight", "features.running_var"} <= names


@pytest.mark.parametrize(("backbone", "size"), [("small", 64), ("iresnet18", 48)])
def test_a_network_gives_an_embedding_of_each_image_whatever_its_batch(backbone: Backbone, size: int):
    network = iresnet.build(backbone, size, 32).eval()
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        together, alone = network(images), torch.cat([network(image[None]) for image in images])
    assert together.shape == (3, 32)
    torch.testing.assert_close(normalize(together), normalize(alone), rtol=1e-3, atol=1e-3)


def test_squeeze_and_excitation_adds_attention_to_every_block():
    with torch.device("meta"):
        names = iresnet.build("iresnet18", 112, 32, se=True).state_dict()
    assert sum(name.endswith("se.fc1.weight") for name in names) == 8


def test_the_scale_of_the_last_normalisation_is_not_trained():
    assert not iresnet.build("small", 32, 8).features.weight.requires_grad  # type: ignore[union-attr]


def test_a_size_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="must have a multiple of 16 pixels a side; they have 40"):
        iresnet.build("iresnet18", 40, 8)
