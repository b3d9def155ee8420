"""The images: what hadolint says of them, and that dependencies are frozen and code stays out."""

import re
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sysconfig.get_path("scripts"))
DOCKERFILES = sorted((ROOT / "infra/docker").glob("*.Dockerfile"))
SHELL_SCRIPTS = [ROOT / ".ci/run", *sorted((ROOT / "infra").rglob("*.sh"))]


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Each instruction with its words; continued lines are one."""
    lines = "\n".join(line for line in dockerfile.read_text().splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines)
    return [(words[0], words[1]) for line in joined.splitlines() if (words := line.split(maxsplit=1))]


def pinned(constraints: str = "cpu.txt") -> dict[str, str]:
    """Version by name, as pip compares names."""
    lines = (ROOT / "infra/constraints" / constraints).read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_has_nothing_to_say(dockerfile):
    done = subprocess.run([SCRIPTS / "hadolint", "--no-color", dockerfile], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script):
    done = subprocess.run([SCRIPTS / "shellcheck", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_holds_frozen_dependencies_and_no_code_and_is_no_root(dockerfile):
    steps = instructions(dockerfile)
    copied = {word for name, words in steps if name in ("COPY", "ADD") for word in words.split()[:-1]}
    assert copied <= {"pyproject.toml", "infra/constraints/cpu.txt", "infra/constraints/cuda.txt"}
    installs = re.findall(r"pip install [^&]*", " ".join(words for name, words in steps if name == "RUN"))
    assert installs
    assert all("--constraint" in install for install in installs)
    assert [words for name, words in steps if name == "USER"] == ["1000"]


def test_what_an_image_is_built_from_is_named_and_all_else_is_ignored():
    for dockerfile in DOCKERFILES:
        ignored = dockerfile.with_name(dockerfile.name + ".dockerignore").read_text().splitlines()
        assert ignored[1:] == ["*", "!pyproject.toml", "!infra/constraints/*.txt"]


def test_both_images_have_one_base_whose_patch_version_is_pinned():
    bases = {words for file in DOCKERFILES for name, words in instructions(file) if name == "ARG" and "BASE" in words}
    assert len(bases) == 1
    assert re.fullmatch(r"BASE=python:3\.11\.\d+-slim-bookworm", bases.pop())


def test_every_dependency_of_the_images_is_frozen():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[\[<>=]", each)[0].replace("_", "-").lower() for each in declared} | {"boto3"}
    assert names <= set(pinned())


def test_both_images_have_one_torch_and_its_cuda_is_frozen():
    cuda = (ROOT / "infra/constraints/cuda.txt").read_text()
    assert "--constraint cpu.txt" in cuda.splitlines()
    assert not set(pinned("cuda.txt")) & set(pinned())
    assert "+" not in pinned()["torch"]
