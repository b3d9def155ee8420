"""Train the toy world's models from scratch: `python -m jobs.train_toy OUT_DIR [--fast]`.

OUT_DIR receives the weights, the rendered faces and nothing else; stages whose file is there are skipped. The measured
numbers go to standard output as JSON, with the SHA-256 of every file. --fast: seconds, two steps a stage, useless
weights.
"""

import argparse
import hashlib
import json
import logging
from pathlib import Path

from jobs.start import exit_code


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out_dir", type=lambda path: Path(path).expanduser())
    parser.add_argument("--fast", action="store_true", help="two steps a stage: checks the code, not the weights")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

    from hyperface.models.toy.measure import measure
    from hyperface.models.toy.training import FAST_PLAN, Plan, train_all

    train_all(arguments.out_dir, FAST_PLAN if arguments.fast else Plan())
    numbers = measure(arguments.out_dir, identities=16 if arguments.fast else 400, check=False)
    files = sorted(arguments.out_dir.glob("*.safetensors"))
    hashes = {file.stem: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    print(json.dumps({"sha256": hashes, "numbers": numbers}, indent=2))


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
