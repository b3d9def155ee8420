"""The names that `hyperface` itself has: lazy, and used as hyperface/README.md says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from finished_run import finished_run

import hyperface

ROOT = Path(__file__).parents[2]
EXAMPLES = re.findall(r"```python\n(import .*?)```", (ROOT / "hyperface/README.md").read_text(), re.DOTALL)


def test_importing_the_library_takes_neither_torch_nor_ray_nor_a_tenth_of_a_second():
    code = "import hyperface, sys; raise SystemExit(bool({'torch', 'ray', 'numpy', 'omegaconf'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_every_public_name_is_there_and_has_an_example():
    assert {getattr(hyperface, name).__module__.partition(".")[0] for name in hyperface.__all__} == {"hyperface"}
    unused = [name for name in hyperface.__all__ if not any(f"hyperface.{name}" in text for text in EXAMPLES)]
    assert set(unused) <= {"Config", "Packing", "Run"}  # types of what the others give
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        hyperface.no_such_name  # noqa: B018


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_run(example: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    demo = finished_run(tmp_path / "demo") if "runs/demo" in example else None
    text = example.replace("runs/demo", str(demo)).replace("runs/mine", str(tmp_path / "mine"))
    exec(compile(text.replace("jobs/configs", str(ROOT / "jobs/configs")), "README.md", "exec"), {})
    assert not demo or "0000000-0000" in capsys.readouterr().out
