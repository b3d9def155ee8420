"""Jobs that go on with a finished run, small."""

from pathlib import Path

from tests.e2e.processes import command

SMALL_EXPERIMENT = (
    *("embed.num_faces=100", "packing.num_identities=12", "packing.steps=4", "synthesis.images_per_identity=3"),
    *("train.epochs=2", "train.batch_size=8", "train.streams=2", "train.embedding_dim=16", "experiment.seeds=1"),
    *("experiment.alphas=[0.5]", "experiment.steps=[4]", "experiment.objectives=[]", "experiment.num_actors=2"),
    *("experiment.folds=1", "cluster.num_cpus=2"),
)
TRAIN = ("train.recipe=toy", "train.epochs=60", "train.batch_size=16", "train.embedding_dim=32")
TRAIN_GENERATOR = tuple(
    f"train_generator.{option}"
    for option in ("size=small", "batch_size=4", "streams=2", "epochs=2", "precision=float32", "checkpoint_every=4")
)
JOBS: dict[str, tuple[tuple[str, ...], str]] = {
    "train": (("{run}", *TRAIN, "train.checkpoint_every=5"), "recognition/*/*.safetensors"),
    "train_generator": (("{run}", *TRAIN_GENERATOR), "generator/*/*.safetensors"),
    "evaluate": (("{run}", "evaluate.model=recognizer"), "evaluation/verification/*.json"),
    "audit": (("{run}", "cluster.num_cpus=2"), "evaluation/audit.json"),
    "export": (("{run}", "imagefolder", "{run}/export"), "export/**/*"),
    "synthesize": (("{run}",), "dataset/**/*"),
    "experiment": (
        ("jobs/configs/toy_experiment.yaml", "run.dir={run}/x", *SMALL_EXPERIMENT),
        "x/experiment/summary.json",
    ),
}
"""{job: (its words, a pattern of the files that it makes)}"""


def words(job: str, directory: Path) -> list[str]:
    return command(job, *(word.replace("{run}", str(directory)) for word in JOBS[job][0]))
