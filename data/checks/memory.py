"""Peak memory of the pipeline by number of pictures: `python -m data.checks.memory 1000 10000`.

Each number of small drawn pictures is prepared as records in a folder of its own. A process then
draws samples from all of them, decodes and batches, and says how much memory it had at most.
"""

import argparse
import io
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from data.folder import open_folders
from data.pictures import open_sources

SIDE = 64  # pixels
CLASSES = 20
BATCHES = 50


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line for each number of pictures; return the exit code."""
    args = _parser().parse_args(argv)
    if args.read:
        print(f"{draw_batches(Path(args.read)) / 2**20:.0f}")
        return 0
    for count in args.counts:
        with tempfile.TemporaryDirectory(dir=args.dir) as folder:
            write_pictures(Path(folder), count)
            command = [sys.executable, "-m", "data.checks.memory", "--read", folder]
            peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        print(f"{count:9} pictures, {int(peak):6} MiB at most", flush=True)
    return 0


def write_pictures(out: Path, count: int) -> None:
    """Prepare a set of drawn pictures."""
    # Slow to import, and the reading process has no use for it.
    from data.builders.builder import prepare
    from data.builders.contents import Contents, Item, Maps, number

    def image(seed: int) -> bytes:
        buffer = io.BytesIO()
        rng = np.random.default_rng(seed)
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(buffer, "JPEG")
        return buffer.getvalue()

    def maps(seed: int) -> Maps:
        rng = np.random.default_rng(seed)
        return Maps(np.repeat(rng.integers(0, CLASSES + 1, (SIDE, 4)), SIDE // 4, axis=1))

    items = [Item(f"{i:07d}", partial(image, i), partial(maps, i)) for i in range(count)]
    classes = number([f"class {own}" for own in range(CLASSES)])
    contents = Contents("semantic", classes, {"train": items})
    prepare("drawn", lambda _: contents, source=out, out=out, about={})


def draw_batches(path: Path) -> int:
    """Draw batches of a prepared set; return the most bytes that the process had."""
    # Slow to import, and `--help` does not need them.
    from data.config import PairsConfig
    from data.loader import make_loader
    from data.pairs import Sampler

    sampler = Sampler(open_sources(open_folders(path)), PairsConfig())
    batches = make_loader(sampler, size=SIDE, batch_size=16, steps=BATCHES, seed=0, threads=2)
    for _ in batches:
        pass
    return peak_memory()


def peak_memory() -> int:
    """Return the most bytes that this process had.

    Linux's `getrusage` counts what the process that started this one had before that.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data.checks.memory", description=__doc__)
    add = parser.add_argument
    add("counts", nargs="*", type=int, default=[1000, 10_000], metavar="N", help="of pictures")
    add("--dir", metavar="DIR", help="where the sets lie for the time")
    add("--read", metavar="PATH", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
