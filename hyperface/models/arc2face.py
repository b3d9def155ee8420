"""Arc2Face (Papantoniou et al., ECCV 2024): a face recogniser's embedding to a photograph. Only home of transformers.

Stable Diffusion 1.5 whose denoiser and text encoder were trained on "photo of a id person", with the embedding in the
place of "id". Weights are published for non-commercial research only.

Shape legend: B images, D = 512 embedding dimensions, L tokens, K encoder channels, H = W pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DPMSolverMultistepScheduler, LCMScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call

from hyperface.config import Arc2FaceConfig, local_path
from hyperface.errors import ModelError
from hyperface.models import device as devices
from hyperface.models import latent_diffusion, lora, pretrained
from hyperface.models.latent_diffusion import Autoencoder, Solver
from hyperface.reading.json_text import from_json

EMBEDDING_DIM = 512
PROMPT, PLACE = "photo of a id person", "id"

_UNET, _ENCODER = "arc2face/diffusion_pytorch_model.safetensors", "encoder/model.safetensors"
_DECODER, _TINY = "vae/diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors"
MODEL: pretrained.Wanted = (
    ("arc2face/config.json",),
    (_UNET, "arc2face/diffusion_pytorch_model.bin"),
    ("encoder/config.json",),
    (_ENCODER, "encoder/pytorch_model.bin"),
)
BASE: pretrained.Wanted = (
    ("scheduler/scheduler_config.json",),
    ("tokenizer/vocab.json",),
    ("tokenizer/merges.txt",),
)
FULL_DECODER: pretrained.Wanted = (("vae/config.json",), (_DECODER, "vae/diffusion_pytorch_model.bin"))
TINY_DECODER: pretrained.Wanted = (("config.json",), (_TINY, "diffusion_pytorch_model.bin"))

# Names in Stable Diffusion 1.5's first files, before diffusers had one attention layer for all.
_OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}

# The widest layer of the decoder has 67 million values an image: eight fill a GPU and stay clear of kernels' 2^31.
_DECODED_AT_ONCE = 8


class Arc2FaceGenerator:
    """Embeddings and seeds to photographs; a `Generator` (hyperface.models.protocols)."""

    embedding_dim = EMBEDDING_DIM

    def __init__(
        self, config: Arc2FaceConfig, steps: int = 0, guidance: float = 0.0, device: str | torch.device | None = None
    ) -> None:
        """Load from the places that the configuration names.

        Args:
            steps: steps of the solver; 0: 25 (DPM-Solver++), or 4 with `config.fast` (LCM).
            guidance: 1: none; 0: 3, or 1 with `config.fast`.
            device: None: the GPU where there is one.

        Raises:
            ModelError: a file is missing, damaged or another than `config.sha256` says, does not fit its neighbours,
                or half precision is asked of a CPU.
        """
        self._device = devices.chosen(device)
        self._dtype = devices.precision("arc2face", config.precision, self._device)
        self._steps = steps or (4 if config.fast else 25)
        self._guidance = guidance or (1.0 if config.fast else 3.0)
        files = _files(config)
        self.weights_sha256 = pretrained.digest(files)
        _compare(self.weights_sha256, config)
        self._unet = _denoiser(files, config, self._dtype, self._device)
        self._autoencoder = _autoencoder(files, config, self._dtype, self._device)
        self._solver = _solver(files["base/scheduler/scheduler_config.json"], config.fast, self._steps)
        self._project = Projector(files, self._dtype, self._device)
        self._at_once = 1 if config.decoder == "sliced" else _DECODED_AT_ONCE
        _check_fit(self._unet, self._autoencoder, self._project, files)
        self.image_size = self._unet.config.sample_size * latent_diffusion.pixels_per_latent(self._autoencoder)
        self.fingerprint = (
            f"{self.weights_sha256} {type(self._solver).__name__} {self._steps} steps, guidance {self._guidance:g}, "
            f"{config.precision}, decoder {config.decoder}"
        )

    @torch.inference_mode()
    def generate(self, embeddings_BD: NDArray[np.float32], seeds_B: Sequence[int]) -> NDArray[np.uint8]:
        """float32 unit rows [B, 512] and B seeds -> uint8 RGB [B, H, W, 3], all in one batch.

        Raises:
            ValueError: another shape.
        """
        if embeddings_BD.shape != (len(seeds_B), EMBEDDING_DIM):
            raise ValueError(
                f"Arc2FaceGenerator.generate: expected embeddings [B, {EMBEDDING_DIM}] and B seeds, got "
                f"{list(embeddings_BD.shape)} and {len(seeds_B)} seeds; embed with an ArcFace model of 512 dimensions"
            )
        if not len(seeds_B):
            return np.empty((0, self.image_size, self.image_size, 3), np.uint8)
        prompts_BLK = self._project(torch.from_numpy(np.ascontiguousarray(embeddings_BD, np.float32)))
        latents = latent_diffusion.denoise(
            self._unet, self._solver, self._steps, self._guidance, prompts_BLK, self._project.nothing_1LK, seeds_B
        )
        return latent_diffusion.paint(self._autoencoder, latents, self._at_once)


class Projector:
    """Embeddings to what the denoiser listens to: the text encoder's answer to the prompt, for a batch at once.

    The published wrapper of the text model loads no weights, silently, with transformers >= 5.6. Here the plain model
    runs, and a hook on its token embeddings puts each row, padded with zeros, in the place of "id".

    Its weights live in the host's memory and visit the device for one projection: on a GPU from pinned memory, a few
    milliseconds a batch, and nothing is copied back.
    """

    def __init__(self, files: dict[str, Path], dtype: torch.dtype, device: torch.device) -> None:
        self._dtype, self._device = dtype, device
        self._encoder = _text_encoder(files, dtype)
        tensors = {**dict(self._encoder.named_parameters()), **dict(self._encoder.named_buffers())}
        pinned = device.type == "cuda"
        self._weights = {name: t.data.pin_memory() if pinned else t.data for name, t in tensors.items()}
        self._encoder.to("meta")
        ids_L, self._place, nothing_L = _token_ids(files, self._encoder.config.max_position_embeddings)
        self._ids_1L = torch.tensor([ids_L], device=device)
        with torch.inference_mode():
            self.nothing_1LK = self._encode(torch.tensor([nothing_L], device=device))
            """The answer to an empty prompt, which guidance leads away from."""

    @property
    def channels(self) -> int:
        return int(self._encoder.config.hidden_size)

    def __call__(self, embeddings_BD: Tensor) -> Tensor:
        """Unit rows [B, D] on the host -> [B, L, K] on the device."""
        padded_BK = torch.zeros(len(embeddings_BD), self.channels, dtype=self._dtype)
        padded_BK[:, :EMBEDDING_DIM] = embeddings_BD
        placed_BK = padded_BK.to(self._device)

        def place(module: Any, arguments: Any, words_BLK: Tensor) -> Tensor:
            words_BLK = words_BLK.clone()
            words_BLK[:, self._place] = placed_BK
            return words_BLK

        hook = self._encoder.get_input_embeddings().register_forward_hook(place)
        try:
            return self._encode(self._ids_1L.expand(len(embeddings_BD), -1))
        finally:
            hook.remove()

    def _encode(self, ids_BL: Tensor) -> Tensor:
        visiting = {name: tensor.to(self._device, non_blocking=True) for name, tensor in self._weights.items()}
        answer: Tensor = functional_call(self._encoder, visiting, kwargs={"input_ids": ids_BL})[0]
        return answer


def _files(config: Arc2FaceConfig) -> dict[str, Path]:
    """Return {name: file} of everything that decides the pictures."""
    base = BASE if config.decoder == "tiny" else (*BASE, *FULL_DECODER)
    found = pretrained.find("arc2face.path", local_or_hub(config.path), config.revision, MODEL)
    of_base = pretrained.find("arc2face.base_path", local_or_hub(config.base_path), config.base_revision, base)
    found |= {f"base/{name}": path for name, path in of_base.items()}
    if config.decoder == "tiny":
        folder = local_path(config.decoder_path)
        tiny = pretrained.find("arc2face.decoder_path", folder, "", TINY_DECODER)
        found |= {f"decoder/{name}": path for name, path in tiny.items()}
    if config.fast:
        found["lora"] = Path(local_path(config.lora_path))
        if not found["lora"].is_file() or found["lora"].suffix != ".safetensors":
            raise ModelError(
                f"arc2face.lora_path: must be a .safetensors file on this machine; {config.lora_path!r} is not"
            )
    return found


def local_or_hub(path: str) -> str:
    """Return a folder as an absolute path; a word that names none stays as it is, a name on the hub."""
    folder = local_path(path)
    return folder if Path(folder).is_dir() else path


def _compare(found: str, config: Arc2FaceConfig) -> None:
    if config.sha256 and config.sha256.lower() != found:
        raise ModelError(
            f"arc2face.sha256: expected {config.sha256.lower()}, found {found} over the files of {config.path} and "
            f"{config.base_path}; fetch them again, or set arc2face.sha256 if these are the ones you mean"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        read = from_json(path.read_bytes())
        if not isinstance(read, dict):
            raise ValueError("must be an object")
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error}); fetch the model again") from error
    return read


def _denoiser(
    files: dict[str, Path], config: Arc2FaceConfig, dtype: torch.dtype, device: torch.device
) -> UNet2DConditionModel:
    unet = latent_diffusion.empty(UNet2DConditionModel, _read_json(files["arc2face/config.json"]))
    pretrained.fill(unet, pretrained.read_tensors(files[_UNET]), files[_UNET], dtype)
    if config.fast:
        lora.merge(unet, pretrained.read_tensors(files["lora"]), files["lora"])
    unet.to(device, memory_format=torch.channels_last if config.channels_last else torch.preserve_format)
    unet.fuse_qkv_projections()
    if config.compile:
        unet.compile()
    return unet


def _autoencoder(
    files: dict[str, Path], config: Arc2FaceConfig, dtype: torch.dtype, device: torch.device
) -> Autoencoder:
    kind, place, name = AutoencoderKL, "base/vae/", f"base/{_DECODER}"
    if config.decoder == "tiny":
        kind, place, name = AutoencoderTiny, "decoder/", f"decoder/{_TINY}"
    autoencoder = latent_diffusion.empty(kind, _read_json(files[f"{place}config.json"]))
    tensors = pretrained.read_tensors(files[name])
    tensors = pretrained.renamed(tensors, autoencoder.state_dict(), _OLD_ATTENTION)
    pretrained.fill(autoencoder, tensors, files[name], dtype)
    return autoencoder.to(device, memory_format=torch.channels_last if config.channels_last else torch.preserve_format)


def _solver(path: Path, fast: bool, steps: int) -> Solver:
    """DPM-Solver++ of second order (Lu et al., arXiv 2211.01095), or latent consistency (Luo et al., arXiv 2310.04378),
    on the base model's noise schedule."""
    solver = (LCMScheduler if fast else DPMSolverMultistepScheduler).from_config(_read_json(path))
    most = solver.config.original_inference_steps if fast else solver.config.num_train_timesteps
    if not 1 <= steps <= most:
        raise ModelError(f"synthesis.diffusion_steps: must be between 1 and {most} for this generator; it is {steps}")
    return solver


def _text_encoder(files: dict[str, Path], dtype: torch.dtype) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    encoder = CLIPTextModel(CLIPTextConfig.from_dict(_read_json(files["encoder/config.json"])))
    tensors, names = pretrained.read_tensors(files[_ENCODER]), encoder.state_dict().keys()
    # Old files number the positions 0, 1, 2, ..., and file everything under `text_model.`, as old models do.
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith(".position_ids")}
    today = any(name.startswith("text_model.") for name in names)
    if not today:
        tensors = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    elif not any(name.startswith("text_model.") for name in tensors):
        tensors = {f"text_model.{name}": tensor for name, tensor in tensors.items()}
    pretrained.fill(encoder, tensors, files[_ENCODER], dtype)
    return encoder


def _token_ids(files: dict[str, Path], length: int) -> tuple[list[int], int, list[int]]:
    """(the prompt's token ids, the position of "id" in it, those of an empty prompt), padded to `length`."""
    from transformers import CLIPTokenizer

    vocabulary = files["base/tokenizer/vocab.json"]
    try:
        tokenizer = CLIPTokenizer(str(vocabulary), str(files["base/tokenizer/merges.txt"]))
    except Exception as error:  # the tokenizers' errors have no class of their own
        raise ModelError(f"{vocabulary}: is no vocabulary for merges.txt ({error}); fetch the model again") from error

    def ids(text: str) -> list[int]:
        padded: list[int] = tokenizer(text, padding="max_length", max_length=length, truncation=True).input_ids
        return padded

    place, prompt = tokenizer.encode(PLACE, add_special_tokens=False), ids(PROMPT)
    if len(place) != 1 or prompt.count(place[0]) != 1:
        raise ModelError(f"{vocabulary}: must have one token for {PLACE!r}; give Stable Diffusion 1.5's tokenizer")
    return prompt, prompt.index(place[0]), ids("")


def _check_fit(
    unet: UNet2DConditionModel, autoencoder: Autoencoder, projector: Projector, files: dict[str, Path]
) -> None:
    listens, speaks = unet.config.cross_attention_dim, projector.channels
    if listens != speaks or speaks < EMBEDDING_DIM:
        raise ModelError(
            f"{files['encoder/config.json']}: hidden_size must be the denoiser's cross_attention_dim={listens} and at "
            f"least {EMBEDDING_DIM}; it is {speaks}; fetch arc2face/ and encoder/ from one release"
        )
    channels = autoencoder.config.latent_channels
    if unet.config.in_channels != channels:
        raise ModelError(
            f"{files['arc2face/config.json']}: in_channels={unet.config.in_channels}, but the autoencoder has "
            f"{channels} latent channels; arc2face.base_path must be Stable Diffusion 1.5"
        )
