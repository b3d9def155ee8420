"""Arc2Face's files: what is missing, left over, damaged or another is refused by name."""

import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hyperface.config import Arc2FaceConfig
from hyperface.errors import ModelError
from hyperface.models import lora, pretrained
from hyperface.models.arc2face import Arc2FaceGenerator
from tests.unit import tiny_arc2face

COMMIT = "0123456789abcdef0123456789abcdef01234567"
UNET = "model/arc2face/diffusion_pytorch_model.safetensors"
VAE = "base/vae/diffusion_pytorch_model.safetensors"
ENCODER = "model/encoder/model.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    tiny_arc2face.make(folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


def configured(folder: Path) -> Arc2FaceConfig:
    return Arc2FaceConfig(path=str(folder / "model"), base_path=str(folder / "base"), precision="float32")


def picture(config: Arc2FaceConfig) -> np.ndarray:
    row = np.eye(1, 512, dtype=np.float32)
    return Arc2FaceGenerator(config, 2).generate(row, [7])


@pytest.mark.parametrize(
    "name",
    [
        "model/arc2face/config.json",
        "model/encoder/config.json",
        UNET,
        ENCODER,
        VAE,
        "base/tokenizer/merges.txt",
        "base/scheduler/scheduler_config.json",
    ],
)
def test_a_missing_file_is_named_with_the_layout_that_is_needed(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelError) as error:
        Arc2FaceGenerator(configured(folder))
    key = "arc2face.path" if name.startswith("model") else "arc2face.base_path"
    assert str(error.value).startswith(f"{key}: {folder / name.split('/')[0]} lacks {name.split('/', 1)[1]}")
    assert "it must hold" in str(error.value)


@pytest.mark.parametrize("name", [UNET, ENCODER, VAE])
def test_a_missing_weight_and_one_too_many_are_refused_by_name(folder, name):
    tensors = load_file(folder / name)
    gone = sorted(tensors)[3]
    save_file({key: value for key, value in tensors.items() if key != gone}, folder / name)
    with pytest.raises(ModelError, match=f"does not fit .*: lacks {gone}"):
        Arc2FaceGenerator(configured(folder))
    save_file({**tensors, "stray.weight": torch.zeros(1)}, folder / name)
    with pytest.raises(ModelError, match=r"has unexpectedly stray\.weight"):
        Arc2FaceGenerator(configured(folder))
    save_file({**tensors, gone: torch.zeros(3, 5)}, folder / name)
    with pytest.raises(ModelError, match=f"has in another shape {gone}"):
        Arc2FaceGenerator(configured(folder))


def test_pytorch_files_of_tensors_serve_where_there_is_no_safetensors(made, folder):
    for name, as_bin in (
        (UNET, "diffusion_pytorch_model.bin"),
        (VAE, "diffusion_pytorch_model.bin"),
        (ENCODER, "pytorch_model.bin"),
    ):
        torch.save(load_file(folder / name), (folder / name).with_name(as_bin))
        (folder / name).unlink()
    np.testing.assert_array_equal(picture(configured(folder)), picture(configured(made)))


def test_a_pickle_of_anything_but_tensors_is_never_run(folder, tmp_path):
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "sprung",)

    (folder / ENCODER).unlink()
    torch.save({"a": Trap()}, folder / "model/encoder/pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin: cannot be read as weights"):
        Arc2FaceGenerator(configured(folder))
    assert not (tmp_path / "sprung").exists()


def test_a_file_that_is_cut_off_is_refused_by_name(folder):
    (folder / UNET).write_bytes((folder / UNET).read_bytes()[:-1000])
    with pytest.raises(ModelError, match=r"diffusion_pytorch_model\.safetensors: cannot be read as weights"):
        Arc2FaceGenerator(configured(folder))


def test_a_damaged_config_is_refused_by_name(folder):
    (folder / "model/arc2face/config.json").write_text("{")
    with pytest.raises(ModelError, match=r"arc2face/config\.json: cannot be read as JSON"):
        Arc2FaceGenerator(configured(folder))


def test_an_encoder_of_another_width_than_the_denoiser_listens_to_is_refused(folder):
    path = folder / "model/arc2face/config.json"
    narrow = {**tiny_arc2face.TINY, "unet": {**tiny_arc2face.TINY["unet"], "cross_attention_dim": 512}}
    shutil.rmtree(path.parent)
    tiny_arc2face.make(folder / "narrow", narrow)
    shutil.copytree(folder / "narrow/model/arc2face", path.parent)
    with pytest.raises(ModelError, match=r"cross_attention_dim=512 .* it is 768"):
        Arc2FaceGenerator(configured(folder))


def test_old_encoder_files_with_prefix_and_positions_load_with_nothing_missing(made, folder):
    tensors = {f"text_model.{name}": tensor for name, tensor in load_file(folder / ENCODER).items()}
    tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(tensors, folder / ENCODER)
    np.testing.assert_array_equal(picture(configured(folder)), picture(configured(made)))


def test_old_attention_names_of_the_autoencoder_are_read(made, folder):
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(folder / VAE)
    for now, before in old.items():
        tensors = {name.replace(f".{now}.", f".{before}."): tensor for name, tensor in tensors.items()}
    assert any(".proj_attn." in name for name in tensors)
    save_file(tensors, folder / VAE)
    np.testing.assert_array_equal(picture(configured(folder)), picture(configured(made)))


def test_another_sha256_is_refused_and_the_right_one_is_the_first_word_of_the_fingerprint(made, folder):
    config = configured(made)
    found = Arc2FaceGenerator(config).fingerprint.split()[0]
    assert Arc2FaceGenerator(replace(config, sha256=found.upper())).fingerprint.startswith(found)
    with pytest.raises(ModelError, match=f"arc2face.sha256: expected {'0' * 64}, found {found}"):
        Arc2FaceGenerator(replace(config, sha256="0" * 64))
    tensors = load_file(folder / VAE)
    tensors["decoder.conv_out.bias"] += 1
    save_file(tensors, folder / VAE)
    with pytest.raises(ModelError, match=r"arc2face\.sha256"):
        Arc2FaceGenerator(replace(configured(folder), sha256=found))


def test_the_sha256_is_that_of_sorted_lines_of_digest_and_name(tmp_path):
    (tmp_path / "x").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    # printf '%s  a\n%s  b\n' e3b0... e3b0... | sha256sum
    import hashlib

    expected = hashlib.sha256(f"{empty}  a\n{empty}  b\n".encode()).hexdigest()
    assert pretrained.digest({"b": tmp_path / "x", "a": tmp_path / "x"}) == expected


def test_whatever_decides_pixels_is_in_the_fingerprint(made):
    config = configured(made)
    prints = {
        Arc2FaceGenerator(config).fingerprint,
        Arc2FaceGenerator(config, 24).fingerprint,
        Arc2FaceGenerator(config, 25, 2.5).fingerprint,
        Arc2FaceGenerator(replace(config, precision="bfloat16")).fingerprint,
        Arc2FaceGenerator(replace(config, decoder="sliced")).fingerprint,
    }
    assert len(prints) == 5


def test_the_hub_needs_a_full_commit(made):
    config = replace(configured(made), path="FoivosPar/Arc2Face")
    for revision in ("", "main", COMMIT[:12]):
        with pytest.raises(ModelError, match=r"arc2face\.revision: must be the full commit of FoivosPar/Arc2Face"):
            Arc2FaceGenerator(replace(config, revision=revision))
    config = replace(configured(made), base_path="some/stable-diffusion-v1-5")
    with pytest.raises(ModelError, match=r"arc2face\.base_revision: must be the full commit"):
        Arc2FaceGenerator(config)


def test_a_path_that_is_neither_folder_nor_repository_is_refused(made, tmp_path):
    config = replace(configured(made), path=str(tmp_path / "absent"))
    with pytest.raises(ModelError, match=r"arc2face\.path: must be a folder .* 'absent|absent' is neither"):
        Arc2FaceGenerator(config)


def test_a_commit_in_the_hubs_cache_is_read_without_the_hub(made, tmp_path):
    snapshot = tmp_path / "models--some--model" / "snapshots" / COMMIT
    shutil.copytree(made / "model", snapshot)
    wanted = (("encoder/config.json",), ("encoder/absent.safetensors", "encoder/model.safetensors"))
    needed = (*wanted, ("encoder/absent.safetensors",))
    for name in ("encoder/absent.safetensors",):  # how the cache remembers that the commit lacks a file
        marker = tmp_path / "models--some--model" / ".no_exist" / COMMIT / name
        marker.parent.mkdir(parents=True)
        marker.touch()
    found = pretrained.find("arc2face.path", "some/model", COMMIT, wanted, cache=str(tmp_path))
    assert found["encoder/config.json"].read_bytes() == (made / "model/encoder/config.json").read_bytes()
    assert found["encoder/absent.safetensors"].name == "model.safetensors"
    with pytest.raises(ModelError, match=f"some/model at {COMMIT} lacks encoder/absent"):
        pretrained.find("arc2face.path", "some/model", COMMIT, needed, cache=str(tmp_path))


def test_an_adapter_of_another_model_is_refused_and_changes_nothing(made, tmp_path):
    network = torch.nn.Sequential(torch.nn.Linear(4, 3))
    before = network[0].weight.clone()
    good = {"lora_unet_0.lora_down.weight": torch.ones(2, 4), "lora_unet_0.lora_up.weight": torch.ones(3, 2)}
    path = tmp_path / "lora.safetensors"
    cases = {
        r"lora_unet_7\.lora_down\.weight adapts no layer": {**good, "lora_unet_7.lora_down.weight": torch.ones(2, 4)},
        "0 has one half of its adapter": {"lora_unet_0.lora_up.weight": torch.ones(3, 2)},
        "0 has another shape": {**good, "lora_unet_0.lora_up.weight": torch.ones(5, 2)},
        "adapts no layer of Sequential": {},
    }
    for message, tensors in cases.items():
        with pytest.raises(ModelError, match=message):
            lora.merge(network, tensors, path)
    torch.testing.assert_close(network[0].weight, before, rtol=0, atol=0)
    with pytest.raises(ModelError, match=r"arc2face\.lora_path"):
        Arc2FaceGenerator(replace(configured(made), fast=True, lora_path=str(tmp_path / "absent.safetensors")))


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("lora_unet_a_b.lora_down.weight", "lora_unet_a_b.lora_up.weight"),
        ("unet.a.b.lora_A.weight", "unet.a.b.lora_B.weight"),
        ("unet.a.b.lora.down.weight", "unet.a.b.lora.up.weight"),
    ],
)
def test_adapters_are_read_under_all_three_names(down, up, tmp_path):
    network = torch.nn.ModuleDict({"a": torch.nn.ModuleDict({"b": torch.nn.Linear(4, 3)})})
    layer = network["a"]["b"]
    before = layer.weight.detach().clone()
    tensors = {down: torch.full((2, 4), 0.5), up: torch.ones(3, 2)}
    assert lora.merge(network, tensors, tmp_path) == 1
    torch.testing.assert_close(layer.weight.detach() - before, torch.ones(3, 4))


def test_a_tokenizer_without_a_token_for_the_place_is_refused(folder):
    path = folder / "base/tokenizer/merges.txt"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if line != "i d</w>") + "\n")
    with pytest.raises(ModelError, match=r"vocab\.json: must have one token for 'id'"):
        Arc2FaceGenerator(configured(folder))


def test_a_damaged_tokenizer_is_refused_by_name(folder):
    (folder / "base/tokenizer/vocab.json").write_text(json.dumps({"a": 1})[:-2])
    with pytest.raises(ModelError, match=r"tokenizer/vocab\.json: is no vocabulary"):
        Arc2FaceGenerator(configured(folder))


def test_a_damaged_pytorch_file_is_refused_by_name_whatever_its_bytes_mean(tmp_path):
    whole = tmp_path / "whole.bin"
    torch.save({"weight": torch.arange(64.0)}, whole)
    data, random = whole.read_bytes(), np.random.default_rng(0)
    for n in range(150):
        broken = bytearray(data)
        for place in random.integers(0, len(data) // 2, 8):
            broken[place] ^= int(random.integers(1, 256))
        path = tmp_path / f"{n}.bin"
        path.write_bytes(broken)
        with contextlib.suppress(ModelError):
            assert len(pretrained.read_tensors(path)) <= 1
