"""The names of everything in a run directory."""

CONFIG = "config.yaml"
PROVENANCE = "provenance.json"
LEASE = "_driver.json"
GALLERY = "gallery/embeddings.parquet"
REFERENCES = "packing/references.parquet"
PACKING_SUMMARY = "packing/summary.json"
START = "packing/start.parquet"
START_SUMMARY = "packing/start.json"
CHECKPOINTS = "packing/checkpoints"
DATASET = "dataset"
DONE = "dataset/_done"
INDEX = "dataset/index.json"
FINGERPRINT = "dataset/fingerprint.json"
DATA_CARD = "dataset/README.md"
SEPARATION = "evaluation/separation.json"
RECOGNITION = "recognition"
GENERATOR = "generator"
NETWORKS = {"train": "backbone.safetensors", "train_generator": "generator.safetensors"}
"""Names of networks, {section: file}, in the folder of a training that is finished."""
VERIFICATION = "evaluation/verification"
AUDIT = "evaluation/audit.json"
AUDIT_FACES = "evaluation/audit_faces.json"
EXPERIMENT = "experiment/summary.json"
AUDIT_EMBEDDINGS = "evaluation/embeddings"
REPORT = "report/index.html"
FACES = "report/faces.json"
"""The faces that the page shows."""
EMBEDDED, PACKED = "records/embed.json", "records/packing.json"
"""Records of the values that decided a stage's result: {section: {key: value}}."""
MADE_BY = {EMBEDDED: GALLERY, PACKED: REFERENCES, PACKING_SUMMARY: REFERENCES, FINGERPRINT: FINGERPRINT}
"""Stages and their products, {record of a stage: what it made}."""
PACKING_KEYS = ("num_identities", "separation", "alpha", "start", "precision")
"""Keys of the configuration that the summary of a packing repeats."""
FILES = {CONFIG, PROVENANCE, LEASE}
DECLARED = FILES | {"begun.json", "training.json"}
"""Last parts of the names of files that say what is about to be made, in a run and in the runs of an experiment."""
FOLDERS = {
    *("gallery", "packing", "synthesis", DATASET, "evaluation", RECOGNITION, GENERATOR, "experiment", "report"),
    *("records", "plan", "tensorboard"),
}
DECIDED_BY: dict[str, set[str]] = {
    "gallery": {"run", "recognizer", "embed"},
    "packing": {"run", "recognizer", "embed", "packing"},
    **{folder: set() for folder in ("records", "plan", "tensorboard")},
}
"""Folders and what decided them, {folder: sections of the configuration that decided what is in it}. Every section
decided what the others hold."""
BEFORE = {"plan/": {"rates.json", "scratch/"}, "gallery/": {"embeddings.parquet"}}
"""Names, {folder: names in it}, of what may be there before a run begins. Its other folders may be there when they are
empty: a link to another disk."""
ANOTHER = "configuration (resume with the recorded values, or choose another run.dir)"


def record_name(stage: str) -> str:
    return f"records/{stage}.jsonl"
