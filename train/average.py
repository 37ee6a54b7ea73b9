"""Average the weights of runs: `python -m train.average A.safetensors B.safetensors -o OUT`.

Runs that start from each other lie in one basin: the mean of a run that learned something special
and of what it started from mostly keeps both (Wortsman et al., arXiv 2109.01903).
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from seggpt.errors import CheckpointError
from seggpt.weights.files import load_weights, save_weights
from seggpt.weights.tree import flatten, unflatten
from train.tool import parse_sets, run_tool


def average(paths: Sequence[Path], out: Path) -> None:
    """Write the mean of weights of one architecture, in float32, with the last one's metadata.

    Raises:
        CheckpointError: if a file cannot be used, or is of another architecture than the first.
    """
    loaded = [load_weights(path) for path in paths]
    flat = [flatten(weights.params) for weights in loaded]
    shapes = [{name: a.shape for name, a in arrays.items()} for arrays in flat]
    for path, weights, shape in zip(paths, loaded, shapes, strict=True):
        if weights.config != loaded[0].config or shape != shapes[0]:
            raise CheckpointError(f"{path}: of another architecture than {paths[0]}")
    mean = {
        name: np.mean([np.asarray(arrays[name], np.float32) for arrays in flat], axis=0)
        for name in flat[0]
    }
    sets = [parse_sets(weights.metadata.get("train_sets", "")) for weights in loaded]
    metadata = loaded[-1].metadata | {"train_sets": ",".join(sorted(set().union(*sets)))}
    save_weights(out, unflatten(mean), config=loaded[0].config, metadata=metadata)


def main(arguments: Sequence[str] | None = None) -> int:
    """Average what the arguments name; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m train.average", description=__doc__)
    parser.add_argument("weights", nargs="+", type=Path, help="files that runs wrote")
    parser.add_argument("-o", "--out", required=True, type=Path, help="file to write")
    args = parser.parse_args(arguments)
    return run_tool("average", partial(average, args.weights, args.out))


if __name__ == "__main__":
    sys.exit(main())
