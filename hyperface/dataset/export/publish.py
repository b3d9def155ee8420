"""The files with which a Hugging Face folder is fit to be published: its card, Croissant metadata and checksums.

They are made anew by each export to the folder, also of one that is whole, from what is known by then: an audit that
came later gets into the card without a data file being written again.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from hyperface.dataset import card, licences
from hyperface.dataset.export import croissant, measured
from hyperface.dataset.source import Source
from hyperface.run.audit_shapes import Audit
from hyperface.run.names import AUDIT, PROVENANCE, SEPARATION
from hyperface.run.records import to_json
from hyperface.run.shapes import Provenance, Separation

CARD, CROISSANT, SUMS = "README.md", "croissant.json", "SHA256SUMS"
NAMES = (CARD, CROISSANT, SUMS)
DATA = "data/*.parquet"
CITED = (
    "Hatef Otroshi Shahreza and Sébastien Marcel. HyperFace: Generating Synthetic Face Recognition Datasets by "
    "Exploring Face Embedding Hypersphere. ICLR 2025, arXiv 2411.08470."
)


def files(source: Source, done: Mapping[str, Any]) -> dict[str, bytes]:
    """Return {name: bytes} of the three files.

    Args:
        done: content of `export.json`.

    Raises:
        RunError: the audit of the run cannot be read.
    """
    made = {CARD: _card(source, done).encode(), CROISSANT: to_json(_croissant(source, done))}
    sums = done["sha256"] | {name: hashlib.sha256(data).hexdigest() for name, data in made.items()}
    return {**made, SUMS: "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()}


def notes(source: Source) -> Iterator[str]:
    """Yield lines for whoever is about to publish the folder."""
    config = source.run.config
    if warning := licences.warning(config):
        yield f"note: {warning}"
    missing = [f"publish.{key}" for key in ("url", "creator") if not getattr(config.publish, key)]
    if missing:
        yield f"note: {CROISSANT} lacks what the format wants: give {' and '.join(missing)} before you publish"
    if _audit(source) is None:
        yield "note: the card has no audit of this dataset; run jobs.audit, then this export again"


def _audit(source: Source) -> Audit | None:
    """Read the audit of the dataset as it is; None where there is none."""
    store = source.run.store
    if not store.exists(AUDIT):
        return None
    found = source.run.shaped(AUDIT, Audit)
    return found if found["asked"]["dataset"] == source.index_sha256 else None


def _measured(source: Source) -> str:
    audit, run = _audit(source), source.run
    if audit is not None or not run.store.exists(SEPARATION):
        return measured.sections(audit, None)
    reported = run.shaped(SEPARATION, Separation)
    return measured.sections(None, reported if reported["asked"]["dataset"] == source.index_sha256 else None)


def _made_by(source: Source) -> dict[str, Any]:
    """Return what decided the bytes, and the code that did it."""
    run = source.run
    commit = run.shaped(PROVENANCE, Provenance)["git_sha"] if run.store.exists(PROVENANCE) else ""
    return {**source.parts, "code, commit": commit or "not recorded", "fingerprint of the dataset": source.fingerprint}


def _croissant(source: Source, done: Mapping[str, Any]) -> dict[str, Any]:
    publish = source.run.config.publish
    description = (
        f"{done['images']} synthetic faces of {done['classes']} identities, for training face recognition. References "
        "were packed on the hypersphere of a face recogniser (HyperFace, arXiv 2411.08470) and drawn by a generator "
        "conditioned on them. Files are listed with their SHA-256 in SHA256SUMS."
    )
    described = {
        "name": publish.name,
        "description": description,
        "citeAs": CITED,
        "version": "1.0.0",
        "datePublished": done["date"],
        "url": publish.url,
        "creator": publish.creator,
    }
    table = {"contentSize": f"{done['files']['classes.csv']} B", "sha256": done["sha256"]["classes.csv"]}
    return croissant.metadata(described, licences.chosen(source.run.config), table, DATA)


def _card(source: Source, done: Mapping[str, Any]) -> str:
    config, terms = source.run.config, licences.chosen(source.run.config)
    title, images, classes = config.publish.name, done["images"], done["classes"]
    looked = config.synthesis.finds_duplicates
    return f"""{card.front_matter(title, terms.id, terms.name, images, DATA)}
# {card.plain(title)}: {classes} identities, {images} images

{card.purpose(config)} References were packed on the hypersphere of a face
recogniser (HyperFace, Otroshi Shahreza and Marcel, ICLR 2025, arXiv 2411.08470) and drawn by a generator conditioned on
them. Near-duplicates that were left out: {done["duplicates_left_out"] if looked else "not looked for"}.

| column | |
|---|---|
| `image` | the face, JPEG as it was made |
| `label` | class 0 to {classes - 1} |
| `identity` | number of the identity in the run it comes from; `classes.csv` maps label to identity |
| `key` | name of the image there: identity and number |
| `seed` | of the draw: with what decides the bytes, below, it gives the image again |
| `cosine` | of the image's embedding to the reference of its identity, by the recogniser whose sphere was packed |

```python
import datasets

faces = datasets.load_dataset("PATH/TO/FOLDER", split="train")
faces[0]["image"], faces[0]["label"]
```

Images are stored in a global random order, so files may be read in sequence. `sha256sum -c SHA256SUMS` checks every
file; `croissant.json` describes them for Croissant's readers.

## Intended use

Research on face recognition: training recognisers, and measuring what training on synthetic identities gives.

Out of scope: deciding about people with a recogniser that was not tested on real faces like theirs; a benchmark of how
well real people are recognised; passing these faces off as people who exist.

{_measured(source)}

## How it was made

| what decides the bytes | |
|---|---|
{card.rows(_made_by(source))}

## Licences and limits

Licence of this dataset: `{terms.id}`{f" ({terms.name})" if terms.name else ""}.

{terms.models}

{card.limits(config)}
"""
