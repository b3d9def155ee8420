"""Vec2Face: its masks, its arithmetic written out plainly, weights under published names and under ours."""

import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hyperface.config import Vec2FaceConfig
from hyperface.errors import ConfigError, ModelError
from hyperface.models import vec2face_published
from hyperface.models.pretrained import read_tensors
from hyperface.models.vec2face import Made, Vec2FaceGenerator, to_bytes
from hyperface.models.vec2face_network import (
    SIZES,
    MaskRatio,
    Vec2FaceNetwork,
    draw_masks,
    sized,
)
from tests.unit import tiny_vec2face as tiny

DIM = SIZES["small"].embedding_dim
TRAINED_MASKS, DRAWN_MASKS = MaskRatio(0.5, 1.0, 0.75, 0.25), MaskRatio(0.1, 1.0, 0.15, 0.25)
SEEDS = (7, 11, 2**63 - 1)


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return tiny.random_tensors(tiny.small_shapes())


@pytest.fixture(scope="module")
def config(tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Vec2FaceConfig:
    return tiny.save(tensors, tmp_path_factory.mktemp("published") / "vec2face.pth")


@pytest.fixture(scope="module")
def generator(config: Vec2FaceConfig) -> Vec2FaceGenerator:
    return Vec2FaceGenerator(config, device="cpu")


def rows(count: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.mark.parametrize(("size", "width", "depth"), [("base", 768, 12), ("large", 1024, 24), ("huge", 1280, 32)])
def test_every_published_weight_has_its_place_in_the_network(size: str, width: int, depth: int):
    with torch.device("meta"):
        network = Vec2FaceNetwork(SIZES[size])  # type: ignore[index]
        theirs = {name: torch.empty(shape) for name, shape in tiny.published_shapes(width, depth).items()}
    ours = {name: tensor.shape for name, tensor in vec2face_published.renamed(theirs).items()}
    assert ours == {name: tensor.shape for name, tensor in network.state_dict().items()}
    left_out = {name for name in theirs if name.startswith(vec2face_published.LEFT_OUT)}
    assert {vec2face_published.published(name) for name in ours} == theirs.keys() - left_out


def norm(x: Tensor, tensors: dict[str, Tensor], name: str) -> Tensor:
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
    return (x - mean) / (variance + 1e-6).sqrt() * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def linear(x: Tensor, tensors: dict[str, Tensor], name: str) -> Tensor:
    return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]


def block(x_MW: Tensor, tensors: dict[str, Tensor], name: str, heads: int) -> Tensor:
    """One image's tokens, one head at a time."""
    width = x_MW.shape[1]
    three = linear(norm(x_MW, tensors, f"{name}.norm1"), tensors, f"{name}.attn.qkv").split(width, 1)
    found = []
    for head in range(heads):
        q, k, v = (part[:, head * width // heads : (head + 1) * width // heads] for part in three)
        found.append((q @ k.T / math.sqrt(width / heads)).softmax(1) @ v)
    x_MW = x_MW + linear(torch.cat(found, 1), tensors, f"{name}.attn.proj")
    hidden = linear(norm(x_MW, tensors, f"{name}.norm2"), tensors, f"{name}.mlp.fc1")
    gelu = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return x_MW + linear(gelu, tensors, f"{name}.mlp.fc2")


def group_norm(x: Tensor, tensors: dict[str, Tensor], name: str, groups: int) -> Tensor:
    parts = x.reshape(groups, -1)
    spread = (parts.var(1, correction=0, keepdim=True) + 1e-6).sqrt()
    scaled = ((parts - parts.mean(1, keepdim=True)) / spread).reshape(x.shape)
    return scaled * tensors[f"{name}.weight"][:, None, None] + tensors[f"{name}.bias"][:, None, None]


def swish(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def convolved(x: Tensor, tensors: dict[str, Tensor], name: str) -> Tensor:
    weight = tensors[f"{name}.weight"]
    return torch.nn.functional.conv2d(x[None], weight, tensors.get(f"{name}.bias"), padding=weight.shape[2] // 2)[0]


def residual(x: Tensor, tensors: dict[str, Tensor], name: str, groups: int) -> Tensor:
    way = x
    for number in (1, 2):
        way = convolved(
            swish(group_norm(way, tensors, f"{name}.norm{number}", groups)), tensors, f"{name}.conv{number}"
        )
    return way + (convolved(x, tensors, f"{name}.nin_shortcut") if f"{name}.nin_shortcut.weight" in tensors else x)


@torch.no_grad()
def image_by_hand(tensors: dict[str, Tensor], feature_D: Tensor, kept: list[int], masked: list[bool]) -> Tensor:
    """One image from the published names, one token at a time."""
    a = SIZES["small"]
    feature_W = linear(feature_D[None], tensors, "latent_prior_proj_f")[0]
    sequence = [feature_W]
    for n in range(a.tokens):
        token = feature_W * tensors["feature_token.weight"][n, 0] + tensors["feature_token.bias"][n]
        sequence.append(feature_W if masked[n] else token)
    x = torch.stack(sequence) + tensors["token_emb.position_embeddings.weight"]
    x = norm(x, tensors, "token_emb.LayerNorm")[[0, *(n + 1 for n in kept)]]
    for i in range(a.depth):
        x = block(x, tensors, f"blocks.{i}", a.heads)
    x = linear(norm(x, tensors, "norm"), tensors, "decoder_embed")
    filled = [x[0]] + [x[1 + kept.index(n)] if n in kept and not masked[n] else x[0] for n in range(a.tokens)]
    x = torch.stack(filled) + tensors["decoder_pos_embed_learned"][0]
    for i in range(a.decoder_depth):
        x = block(x, tensors, f"decoder_blocks.{i}", a.decoder_heads)
    x = linear(norm(x, tensors, "decoder_norm")[1:], tensors, "im_decoder_proj")
    image = convolved(x.T.reshape(-1, a.grid, a.grid), tensors, "im_decoder.conv_in")
    for number in (1, 2):
        image = residual(image, tensors, f"im_decoder.mid.block_{number}", a.groups)
    for level in reversed(range(len(a.channels))):
        for number in range(a.residuals):
            image = residual(image, tensors, f"im_decoder.up.{level}.block.{number}", a.groups)
        if level:
            image = image.repeat_interleave(2, 1).repeat_interleave(2, 2)
            image = convolved(image, tensors, f"im_decoder.up.{level}.upsample.conv")
    return convolved(swish(group_norm(image, tensors, "im_decoder.norm_out", a.groups)), tensors, "im_decoder.conv_out")


def test_an_image_is_what_the_arithmetic_of_the_paper_gives(tensors: dict[str, Tensor], generator: Vec2FaceGenerator):
    features = torch.from_numpy(rows(3) * 20)
    masks = draw_masks(SEEDS, SIZES["small"].tokens, DRAWN_MASKS)
    drawn = generator.decode(features, SEEDS)
    for b in range(3):
        by_hand = image_by_hand(tensors, features[b], masks.kept_BK[b].tolist(), masks.masked_BN[b].tolist())
        assert by_hand.std() > 0.1
        assert torch.allclose(drawn[b], by_hand.clamp(-1, 1), atol=1e-4)


def test_an_image_depends_on_its_row_and_seed_alone(generator: Vec2FaceGenerator):
    three = generator.generate(rows(3), SEEDS).astype(int)
    for b in range(3):
        alone = generator.generate(rows(3)[[b]], SEEDS[b : b + 1]).astype(int)
        assert np.abs(three[b] - alone[0]).max() <= 1
    turned = generator.generate(rows(3)[::-1], SEEDS[::-1]).astype(int)
    assert np.abs(three - turned[::-1]).max() <= 1
    other = generator.generate(rows(3), [1, 2, 3]).astype(int)
    assert np.abs(three - other).mean() > 1


def test_a_direction_gets_the_length_of_the_training_and_a_feature_keeps_its_own(config: Vec2FaceConfig):
    generator = Vec2FaceGenerator(replace(config, norm=30.0), device="cpu")
    directions = rows(2)
    assert np.array_equal(generator.generate(directions, SEEDS[:2]), generator.generate(directions * 30, SEEDS[:2]))
    assert not np.array_equal(generator.generate(directions, SEEDS[:2]), generator.generate(directions * 20, SEEDS[:2]))


def test_gradients_pass_from_the_image_to_its_row_and_no_other(generator: Vec2FaceGenerator):
    features = torch.from_numpy(rows(2) * 22).requires_grad_()
    loss = generator.decode(features, SEEDS[:2])[0].square().sum()
    [gradient] = torch.autograd.grad(loss, features)
    assert gradient[0].norm() > 0
    assert gradient[1].norm() == 0


def test_no_rows_give_no_images_and_another_width_is_refused(generator: Vec2FaceGenerator):
    assert generator.generate(rows(0), []).shape == (0, 64, 64, 3)
    with pytest.raises(ValueError, match=r"expected embeddings \[B, 128\] and B seeds, got \[2, 64\]"):
        generator.generate(rows(2)[:, :64], SEEDS[:2])


def test_a_picture_that_is_no_number_is_black_and_the_others_whole(generator: Vec2FaceGenerator):
    broken = rows(2)
    broken[1] = np.nan
    drawn = generator.generate(broken, SEEDS[:2])
    assert not drawn[1].any()
    assert drawn[0].any()


@pytest.mark.parametrize("ratio", [DRAWN_MASKS, TRAINED_MASKS, MaskRatio(0.0, 0.5, 0.2, 0.1)])
def test_masks_have_the_shares_of_a_truncated_normal_distribution(ratio: MaskRatio):
    tokens, count = 49, 2000
    masks = draw_masks(range(count), tokens, ratio)
    hidden = math.ceil(tokens * ratio.low)
    assert masks.kept_BK.shape == (count, tokens - hidden)
    seen = torch.zeros(count, tokens, dtype=torch.bool).scatter(1, masks.kept_BK, True)
    assert bool((seen.sum(1) == tokens - hidden).all())  # no token twice
    assert bool((masks.masked_BN | seen).all())  # what the encoder does not see is masked
    drawn = np.random.default_rng(0).normal(ratio.mean, ratio.spread, 400_000)
    drawn = np.ceil(tokens * drawn[(drawn >= ratio.low) & (drawn <= ratio.high)]) / tokens
    shares = masks.masked_BN.double().mean(1).numpy()
    assert abs(shares.mean() - drawn.mean()) < 4 * drawn.std() / math.sqrt(count)
    for quantile in (0.1, 0.5, 0.9):
        assert abs(np.quantile(shares, quantile) - np.quantile(drawn, quantile)) < 0.045
    each = masks.masked_BN.double().mean(0)
    assert each.max() - each.min() < 0.1  # no place is preferred


def test_weights_of_our_training_draw_the_same_from_their_file(tmp_path: Path):
    torch.manual_seed(0)
    network = Vec2FaceNetwork(sized("small", 16, 32)).eval()
    made = Made("small", 16, 32, norm=5.0)
    path = tmp_path / "generator.safetensors"
    path.write_bytes(to_bytes(network, made))
    generator = Vec2FaceGenerator(tiny.named(path, norm=99.0), device="cpu")
    assert (generator.embedding_dim, generator.image_size, generator.norm) == (16, 32, 5.0)
    row = torch.nn.functional.normalize(torch.ones(1, 16))
    masks = draw_masks([3], 4, DRAWN_MASKS)
    with torch.no_grad():
        wanted = network(row * 5.0 * (4.0 / 5.0), masks)[0]  # to components of 1
    assert torch.allclose(generator.decode(row, [3]), wanted.clamp(-1, 1), atol=1e-5)


def test_a_file_with_another_hash_is_refused_before_it_is_read(config: Vec2FaceConfig):
    with pytest.raises(ModelError, match=r"vec2face\.pth: expected SHA-256 0{64}, found [0-9a-f]{64}"):
        Vec2FaceGenerator(replace(config, sha256="0" * 64))
    with pytest.raises(ModelError, match="cannot be read"):
        Vec2FaceGenerator(replace(config, path=f"{config.path}.none"))


def test_weights_of_another_size_name_the_first_weight_both_shapes_and_the_fix(tmp_path: Path):
    shapes = tiny.published_shapes(1024, 24)
    large = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}  # no memory
    config = tiny.save(large, tmp_path / "large.pth", "base")
    with pytest.raises(ModelError) as error:
        Vec2FaceGenerator(config)
    assert "position (token_emb.position_embeddings.weight as published)" in str(error.value)
    assert "[50, 1024]; vec2face.size=base wants [50, 768]; set vec2face.size=large" in str(error.value)


def test_our_weights_of_another_size_are_refused(tmp_path: Path):
    path = tmp_path / "generator.safetensors"
    path.write_bytes(to_bytes(Vec2FaceNetwork(sized("small", 16, 32)), Made("small", 16, 32, 5.0)))
    with pytest.raises(ModelError, match=r"size small, not vec2face\.size=base; set vec2face\.size=small"):
        Vec2FaceGenerator(tiny.named(path, "base"))


def test_missing_and_other_weights_are_named(tensors: dict[str, Tensor], tmp_path: Path):
    changed = {name: t for name, t in tensors.items() if name != "blocks.1.attn.qkv.weight"} | {"pose.a": torch.ones(1)}
    with pytest.raises(ModelError) as error:
        Vec2FaceGenerator(tiny.save(changed, tmp_path / "changed.pth"))
    assert "it lacks encoder.1.qkv.weight (blocks.1.attn.qkv.weight as published)" in str(error.value)
    assert "it also has pose.a" in str(error.value)


class Armed:
    """An object that acts when its pickle is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("BOOM",)


def test_a_pickle_with_code_is_never_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sink = io.BytesIO()
    torch.save({"model_vec2face": {}, "args": Armed()}, sink)
    path = tmp_path / "armed.pth"
    path.write_bytes(sink.getvalue())
    with pytest.raises(ModelError, match="cannot be read as weights"):
        Vec2FaceGenerator(tiny.named(path))
    assert "BOOM" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("other", "name"), [(np.float32(1), r"numpy\.\S+\.scalar"), (Path("x"), r"pathlib\.\w+"), (Armed(), "print")]
)
def test_a_file_of_other_objects_says_which_and_what_to_ask_for(tmp_path: Path, other: object, name: str):
    sink = io.BytesIO()
    torch.save({"model_vec2face": {}, "best": other}, sink)
    path = tmp_path / "best.pth"
    path.write_bytes(sink.getvalue())
    wanted = rf"best\.pth: cannot be read as weights: it holds other objects than tensors \({name}\), which are never "
    wanted += r"run; ask for a file of plain tensors, or for \.safetensors$"
    for read in (lambda: Vec2FaceGenerator(tiny.named(path)), lambda: read_tensors(path)):
        with pytest.raises(ModelError, match=wanted):
            read()


@pytest.mark.parametrize(("path", "said"), [("http://a/b.pth", "scheme 'http'"), ("s3:///b.pth", "names no bucket")])
def test_a_path_that_no_file_is_read_from_is_refused_by_its_key(path: str, said: str):
    with pytest.raises(ConfigError, match=rf"^vec2face\.path: {path.rpartition('/')[0]}\S*: {said}"):
        Vec2FaceGenerator(Vec2FaceConfig(path=path, sha256="0" * 64))


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x02 no pickle", b"PK\x03\x04 no archive", b"\x08" + b"\0" * 7 + b"{}      "]
)
def test_a_damaged_file_is_refused(tmp_path: Path, data: bytes):
    path = tmp_path / "damaged"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="damaged") as error:
        Vec2FaceGenerator(tiny.named(path))
    assert not {"\x1b", "\n"} & set(str(error.value))
    assert "weights_only" not in str(error.value), "no advice to run what is in the file"


def test_half_precision_is_near_and_float16_is_refused_on_a_cpu(config: Vec2FaceConfig, generator: Vec2FaceGenerator):
    with pytest.raises(ModelError, match=r"float16 needs a GPU.*vec2face\.precision=float32"):
        Vec2FaceGenerator(replace(config, precision="float16"), device="cpu")
    half = Vec2FaceGenerator(replace(config, precision="bfloat16"), device="cpu")
    difference = half.generate(rows(2), SEEDS[:2]).astype(int) - generator.generate(rows(2), SEEDS[:2])
    assert 0 < np.abs(difference).mean() < 8


def test_a_size_for_images_that_tokens_do_not_cover_is_refused():
    with pytest.raises(ValueError, match="multiple of 16 pixels a side; they have 40"):
        sized("small", 128, 40)
