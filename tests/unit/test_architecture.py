"""The rules of the house: who may import whom, one home for each heavy library, no rooms without a subject."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperface.errors import UserError

ROOT = Path(__file__).parents[2]
STAGES = {"faces.gallery", "packing", "synthesis", "training.recognizer", "training.generator", "verification", "audit"}
ROOMS = (
    *("errors", "reading", "config", "storage", "progress", "run", "distributed", "models", "faces", "dataset"),
    *("packing", "verification", "audit", "synthesis", "training", "capacity", "experiment", "report", "status"),
)
"""Everything at the top of hyperface/, in an order in which each imports only what stands before it."""
HOMES = {
    "omegaconf": {"hyperface/config/loading.py"},
    "s3fs": {"hyperface/storage/s3.py"},
    "fsspec": {"hyperface/storage/s3.py"},
    "aiobotocore": {"hyperface/storage/bounded.py"},
    "onnx": {"hyperface/models/onnx_network.py"},
    "onnxruntime": {"hyperface/models/onnx_file.py"},
    "insightface": set(),
    "scipy": {"hyperface/packing/polish.py"},
    "lmdb": {"hyperface/dataset/export/lmdb.py"},
    "diffusers": {
        "hyperface/models/arc2face.py",
        "hyperface/models/latent_diffusion.py",
        "hyperface/models/toy/diffusion_generator.py",
    },
    "transformers": {"hyperface/models/arc2face.py"},
    "tensorboardX": {"hyperface/progress/curves.py"},
    "jinja2": {"hyperface/report/drawing.py"},
    "huggingface_hub": {"hyperface/models/pretrained.py"},
}


def sources(*packages: str) -> list[Path]:
    found = [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]
    assert found
    return found


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    """All of a file's syntax, which several rules look at."""
    return list(ast.walk(ast.parse(path.read_text())))


def imports(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_imports_point_from_jobs_to_cluster_to_hyperface():
    forbidden = {"hyperface": {"ray", "cluster", "jobs"}, "cluster": {"jobs"}, "jobs": {"ray"}}
    for package, names in forbidden.items():
        for path in sources(package):
            assert not {module.split(".")[0] for module in imports(path)} & names, path


def test_stages_never_import_each_other():
    for stage in STAGES:
        own = ROOT / "hyperface" / stage.replace(".", "/")
        files = sorted(own.rglob("*.py")) if own.is_dir() else [own.with_suffix(".py")]
        others = tuple(f"hyperface.{other}." for other in STAGES - {stage})
        for path in files:
            assert not [module for module in imports(path) if f"{module}.".startswith(others)], path


def test_every_room_of_the_library_is_listed_and_imports_only_what_stands_before_it():
    there = {
        path.stem for path in (ROOT / "hyperface").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert there - {"__init__"} == set(ROOMS)
    for at, room in enumerate(ROOMS):
        own = ROOT / "hyperface" / room
        for path in sorted(own.rglob("*.py")) if own.is_dir() else [own.with_suffix(".py")]:
            used = {module.split(".")[1] for module in imports(path) if module.startswith("hyperface.")}
            assert used & set(ROOMS) <= set(ROOMS[: at + 1]), path


def test_each_heavy_library_has_one_home():
    for path in sources("hyperface", "cluster", "jobs"):
        name = path.relative_to(ROOT).as_posix()
        for module in imports(path):
            assert name in HOMES.get(module.split(".")[0], {name}), f"{name} imports {module}"


def test_the_errors_that_a_user_can_mend_are_one_family_in_one_file():
    for path in sources("hyperface", "cluster", "jobs"):
        for node in nodes(path):
            if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Tuple):
                caught = {name.id for name in node.type.elts if isinstance(name, ast.Name)}
                listed = caught & {kind.__name__ for kind in UserError.__subclasses__()}
                assert len(listed) < 3, f"{path}:{node.lineno}: catch UserError"
    homes = {kind.__module__ for kind in UserError.__subclasses__()}
    assert homes == {"hyperface.errors"}


def test_importing_a_job_imports_neither_torch_nor_ray():
    names = [f"jobs.{path.stem}" for path in sources("jobs") if path.stem != "__init__"]
    code = f"import sys, {', '.join(names)}; print({{'torch', 'ray', 'diffusers'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "set()\n", done.stdout + done.stderr


def test_no_room_is_called_utils_common_helpers_or_misc():
    names = {part for path in sources("hyperface", "cluster", "jobs", "tests") for part in path.with_suffix("").parts}
    assert not names & {"utils", "util", "common", "helpers", "helper", "misc"}


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every string that stands for itself: of a module, class or function, and under a name."""
    for node in nodes(path):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value.strip()


def test_no_docstring_leaves_its_subject_to_the_name_beside_it():
    for path in sources("hyperface", "cluster", "jobs", "tests"):
        found = [line for line, text in docstrings(path) if text.startswith(("Of ", "What "))]
        assert not found, f"{path}:{found}: say it in a sentence with a subject, or name the unit"


def test_no_file_of_the_product_is_longer_than_four_hundred_lines():
    long = [str(path) for path in sources("hyperface", "cluster", "jobs") if len(path.read_text().splitlines()) > 400]
    assert not long


@pytest.mark.parametrize(
    ("importing", "library"),
    [
        *(("hyperface.synthesis.shards", "torch"), ("hyperface.status", "torch"), ("hyperface.packing", "scipy")),
    ],
)
def test_nobody_waits_for_a_library_that_is_not_needed(importing: str, library: str):
    """torch takes two seconds of each start, and one of each end: `ray job stop` waits for three."""
    look = f"import sys, {importing}; raise SystemExit('{library}' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], cwd=ROOT, check=False).returncode == 0
