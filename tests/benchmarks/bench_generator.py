"""images/s of our Arc2Face path against the loop that Arc2Face publishes, with the same random weights, in one run.

    python -m tests.benchmarks.bench_generator --size tiny|sd15 [--images 64] [--batch 32] [--repeats 5] [--compile]

The published loop: one embedding projected at a time, diffusers' pipeline, 4 images of it a call, 25 steps, guidance 3.
Ours takes as many images, each with an embedding of its own, in batches. All ways take turns; the first turn of each
is not counted. `sd15` has the size of Stable Diffusion 1.5 and wants a GPU (float16); `tiny` runs anywhere.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from hyperface.config import Arc2FaceConfig
from hyperface.models.arc2face import Arc2FaceGenerator
from tests.benchmarks import record
from tests.unit import tiny_arc2face

PER_IDENTITY = 4
SIZES = {"tiny": tiny_arc2face.TINY, "sd15": tiny_arc2face.SD15}


class Published:
    """The usage example of Arc2Face's repository; a hook stands for its text model, which transformers >= 5.6 break."""

    def __init__(self, config: Arc2FaceConfig, device: str, dtype: torch.dtype) -> None:
        def load(network: Any, folder: str) -> Any:
            return network.from_pretrained(folder).to(dtype).eval()

        self.pipeline = StableDiffusionPipeline(
            vae=load(AutoencoderKL, f"{config.base_path}/vae"),
            text_encoder=load(CLIPTextModel, f"{config.path}/encoder"),
            tokenizer=CLIPTokenizer.from_pretrained(f"{config.base_path}/tokenizer", model_max_length=77),
            unet=load(UNet2DConditionModel, f"{config.path}/arc2face"),
            scheduler=DPMSolverMultistepScheduler.from_config(tiny_arc2face.SCHEDULER),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).to(device)
        self.pipeline.set_progress_bar_config(disable=True)

    @torch.no_grad()
    def project(self, embedding_D: np.ndarray) -> torch.Tensor:
        """The prompt of one embedding, [1, 77, 768]."""
        tokenizer, encoder = self.pipeline.tokenizer, self.pipeline.text_encoder
        ids = tokenizer("photo of a id person", padding="max_length", return_tensors="pt").input_ids
        place = ids[0] == tokenizer.encode("id", add_special_tokens=False)[0]
        value = torch.nn.functional.pad(torch.from_numpy(embedding_D).to(encoder.device, encoder.dtype), (0, 256))

        def replaced(module: Any, arguments: Any, words: torch.Tensor) -> torch.Tensor:
            words = words.clone()
            words[:, place] = value
            return words

        hook = encoder.get_input_embeddings().register_forward_hook(replaced)
        prompt = encoder(ids.to(encoder.device)).last_hidden_state
        hook.remove()
        return prompt

    def draw(self, embedding_D: np.ndarray, seeds: list[int]) -> np.ndarray:
        """Images of one identity, uint8 [B, H, W, 3]."""
        made = self.pipeline(
            prompt_embeds=self.project(embedding_D),
            num_inference_steps=25,
            guidance_scale=3.0,
            num_images_per_prompt=len(seeds),
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        )
        return np.stack([np.asarray(image) for image in made.images])


def ours(generator: Arc2FaceGenerator, rows: np.ndarray, batch: int) -> None:
    for begin in range(0, len(rows), batch):
        part = rows[begin : begin + batch]
        generator.generate(part, range(begin, begin + len(part)))


def ways(folder: Path, size: str, rows: np.ndarray, batch: int, compiled: bool) -> dict[str, Callable[[], None]]:
    """{name: draws all images}; checks first that the published loop and ours draw the same picture."""
    gpu = torch.cuda.is_available()
    dtype = torch.float16 if gpu else torch.float32
    config = replace(tiny_arc2face.make(folder, SIZES[size], dtype), precision="float16" if gpu else "float32")
    tiny_arc2face.make_lora(folder / "lora.safetensors", folder, rank=64 if size == "sd15" else 2, alpha=1e-3)
    fast = replace(config, fast=True, lora_path=str(folder / "lora.safetensors"))
    published, plain = Published(config, "cuda" if gpu else "cpu", dtype), Arc2FaceGenerator(config)
    both = [picture[0].astype(float) for picture in (published.draw(rows[0], [7]), plain.generate(rows[:1], [7]))]
    assert np.abs(both[0] - both[1]).mean() < 2, "the two ways draw different pictures"

    def loop() -> None:
        for begin in range(0, len(rows), PER_IDENTITY):
            published.draw(rows[begin], list(range(begin, begin + PER_IDENTITY)))

    found = {"published loop": loop, "ours": partial(ours, plain, rows, batch)}
    named = {"ours, fast": fast}
    if compiled:
        named |= {"ours, compiled": replace(config, compile=True), "ours, fast, compiled": replace(fast, compile=True)}
    for name, settings in named.items():
        found[name] = partial(ours, Arc2FaceGenerator(settings), rows, batch)
    return found


def timed(draw: Callable[[], None]) -> tuple[float, float]:
    """(seconds, peak of the GPU's memory in GB above what all ways' weights take)."""
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated() if gpu else 0
    began = time.perf_counter()
    draw()
    if gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    return seconds, (torch.cuda.max_memory_allocated() - held) / 1e9 if gpu else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    chosen = parser.parse_args()
    assert chosen.images % PER_IDENTITY == 0
    rows = np.random.default_rng(0).standard_normal((chosen.images, 512)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rates: dict[str, list[float]] = {}
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="hyperface-bench-") as folder:
        drawn = ways(Path(folder), chosen.size, rows, chosen.batch, chosen.compile)
        for turn in range(1 + chosen.repeats):
            for name, draw in drawn.items():
                seconds, peak = timed(draw)
                if turn:
                    rates.setdefault(name, []).append(chosen.images / seconds)
                    peaks[name] = max(peak, peaks.get(name, 0.0))
    report(chosen, rates, peaks)


def report(chosen: argparse.Namespace, rates: dict[str, list[float]], peaks: dict[str, float]) -> None:
    gpu = torch.cuda.is_available()
    base = rates["published loop"]
    measured: dict[str, Any] = {f"{name}, images/s": record.spread(values) for name, values in rates.items()}
    for name, values in list(rates.items())[1:]:
        measured[f"{name}, times the published loop"] = record.spread(
            [v / b for v, b in zip(values, base, strict=True)]
        )
    if gpu:
        measured["peak GPU memory above the weights, GB"] = {name: round(peak, 2) for name, peak in peaks.items()}
    else:
        measured["peak memory of the process, GB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    settings = {
        **vars(chosen),
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "precision": "float16" if gpu else "float32",
        "threads": torch.get_num_threads(),
        "published": "25 steps, guidance 3, 4 images a call, one projection an identity",
    }
    record.write(f"generator_{chosen.size}_{'gpu' if gpu else 'cpu'}", settings, measured)


if __name__ == "__main__":
    main()
