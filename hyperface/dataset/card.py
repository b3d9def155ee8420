"""The data card: `dataset/README.md`, in the form that the Hugging Face hub reads."""

import json
import re
from collections.abc import Mapping
from typing import Any

from hyperface.config import Config
from hyperface.dataset.licences import licence
from hyperface.dataset.plan import SUFFIX

SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
    (10**9, "100M<n<1B"),
)
"""Sizes as the hub writes them; a plan has fewer images than the last."""

_MEASURED = """Fairness across
groups was not measured. Labels are right by construction only as far as the cosines say."""


def purpose(config: Config) -> str:
    """Return the first sentence of a card. It promises nothing of faces that somebody supplied."""
    if config.embed.source == "toy":
        return "Faces of people who do not exist, for training face recognition."
    return (
        "Synthetic faces, for training face recognition. Identities were kept near a gallery of faces that the maker\n"
        "supplied: where those are of real people, images may resemble them; see the leakage audit, if there is one."
    )


def limits(config: Config) -> str:
    """Return the limits that every dataset has, in a paragraph."""
    whose = (
        "No image is of a real person by construction; nothing here proves that none resembles one."
        if config.embed.source == "toy"
        else "Nothing here proves that no image resembles a real person, of the gallery or not."
    )
    return f"{whose} {_MEASURED}"


def text(config: Config, index: Mapping[str, Any], fingerprint: Mapping[str, Any]) -> str:
    """Return the card of a finished dataset: what it is, how it was made, what was measured, how to load it."""
    kind, own = index["formats"][0], licence(config)  # the hub reads one format per folder: of two, the first
    head = front_matter("Synthetic faces", own.id, own.name, index["images"], f"{kind}/*.{SUFFIX[kind]}")
    return f"""{head}
# Synthetic faces: {index["identities"]} identities, {index["images"]} images

{purpose(config)} References were packed on the hypersphere of a face
recogniser (HyperFace, Otroshi Shahreza and Marcel, ICLR 2025, arXiv 2411.08470) and each was drawn up to
{index["images_per_identity"]} times by a generator conditioned on it, {_varied(config)}.

| | |
|---|---|
| identities | {index["identities"]} |
| images | {index["images"]} of {index["planned_images"]} planned |
| images that never passed the gate | {len(index["rejects"])} (listed in `index.json` under `rejects`) |
| near-duplicates | {_near_duplicates(config, index)} |
| identities with fewer images than planned | {len(index["shortfall"])} (listed under `shortfall`) |
| draws | {index["draws"]}, of which {index["redraws"]} were repeats; refused: {_refused(index)} |
{_steered(index)}\
| mean cosine of an image to its reference | {index["mean_cosine"]:.4f} (gate: {config.synthesis.min_cosine}) |
| size | {index["bytes"]} bytes in {len(index["shards"])} shards |
{_grown(index)}
The cosine is measured by the recogniser whose sphere was packed, on the stored JPEG. It says that the generator obeyed,
not that another network tells the identities apart: that needs an independent judge, see the run's report.

## Loading

```python
{_loading(index["formats"], len(index["shards"]))}
```

Images are stored in a global random order, so shards may be read in sequence. `index.json` lists every file with its
SHA-256.

## How it was made

| what decides the bytes | |
|---|---|
{rows(fingerprint)}

## Licences and limits

{own.models}

{limits(config)}

`python -m jobs.export RUN huggingface FOLDER` makes the folder to publish: its card has what was measured.
"""


def rows(parts: Mapping[str, Any]) -> str:
    """Return rows of a table of names and values, none of which is taken for markup; what is empty had no say, nor had
    the keys of a generator that drew nothing."""
    idle = () if parts.get("synthesis.generator") == "arc2face" else ("arc2face.",)
    there = {key: value for key, value in parts.items() if value not in ("", [], {}) and not key.startswith(idle)}
    return "\n".join(f"| `{key}` | {code(value)} |" for key, value in sorted(there.items()))


def code(value: Any) -> str:
    """Return a value as code in one cell of a table."""
    return f"`{' '.join(str(value).replace('`', chr(39)).replace('|', '/').split())}`"


def plain(text: str) -> str:
    """Return a text of which Markdown and HTML take nothing for markup, not even an address for a link."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~>:.])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;")


def front_matter(title: str, licence_id: str, licence_name: str, images: int, path: str) -> str:
    """Return the part of a card that the hub reads. Texts are in the form of JSON, which YAML reads as texts.

    Args:
        path: path of the data files, relative to the card.
    """
    size = next((name for limit, name in SIZES if images < limit), "1B<n<10B")
    name = f"\nlicense_name: {json.dumps(licence_name)}" if licence_name else ""
    return f"""---
pretty_name: {json.dumps(title, ensure_ascii=False)}
license: {json.dumps(licence_id)}{name}
task_categories:
- image-classification
tags:
- face-recognition
- synthetic
size_categories:
- {size}
configs:
- config_name: default
  data_files:
  - split: train
    path: {path}
---"""


def _varied(config: Config) -> str:
    s = config.synthesis
    match s.variation:
        case "gaussian":
            return f"with noise of beta {s.beta} on the\nreference for each image (Algorithm 3)"
        case "angle":
            return f"from a point at most\n{s.max_angle} degrees from the reference (after IDperturb, arXiv 2602.18831)"
        case "norm_preserving":
            return (
                f"with noise of sigma\n{s.sigmas} for the shares {s.shares} of its images (after Vec2Face, ICLR 2025)"
            )


def _steered(index: Mapping[str, Any]) -> str:
    """Return a row for each attribute that images were steered to; nothing where none was."""
    rows = [
        f"| steered to a target, {_cell(name)} | met by {found['met']} of {sum(found.values())} images as stored |\n"
        for name, found in index.get("control", {}).items()
    ]
    return "".join(rows)


def _cell(name: str) -> str:
    """Return a name that a model gave, of which a table's cell takes nothing for markup; plain names stay as they
    are."""
    return re.sub(r"[^\w ./+-]", lambda found: f"&#{ord(found[0])};", " ".join(name.split()))


def _near_duplicates(config: Config, index: Mapping[str, Any]) -> str:
    if not config.synthesis.finds_duplicates:
        return "not looked for"
    return f"{len(index['duplicates'])} are in the shards, listed under `duplicates`; exports leave them out"


def _refused(index: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(index["refused"].items())) or "none"


def _grown(index: Mapping[str, Any]) -> str:
    """Say how a part by which a dataset grew is used; nothing for a dataset that begins at identity 0."""
    first = index["first_identity"]
    if first == 0:
        return ""
    return f"""
This part adds the identities {first} to {first + index["identities"] - 1} to a dataset that holds the identities below
{first}: give a loader the shards of both, in mixed order, as one dataset; no key and no label is in both.
"""


def _loading(kinds: list[str], num_shards: int) -> str:
    image, identity = ("image", "identity") if kinds[0] == "parquet" else ("jpg", "cls")
    examples = [
        f"""import datasets

faces = datasets.load_dataset("PATH/TO/dataset", split="train")
faces[0]["{image}"], faces[0]["{identity}"]"""
    ]
    if "webdataset" in kinds:
        examples += [
            f"""import webdataset

shards = "PATH/TO/dataset/webdataset/shard-{{000000..{num_shards - 1:06d}}}.tar"
faces = webdataset.WebDataset(shards, shardshuffle=False)
for image, identity, described in faces.decode("pil").to_tuple("jpg", "cls", "json"):
    ..."""
        ]
    return "\n\n".join(examples)
