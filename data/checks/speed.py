"""Pictures per second at each stage of the pipeline: `python -m data.checks.speed PATH...`.

read      bytes off the disk                   resize    squares and masks
decode    pixels and masks in full size        batch     samples, by all threads, as trained
device    crops, flips, colours, and labels painted, on the accelerator if there is one
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

from data.folder import Folder, open_folders
from data.pictures import open_sources

SECONDS = 3.0  # of each stage


def main(argv: Sequence[str] | None = None) -> int:
    """Print the stages; return the exit code."""
    args = _parser().parse_args(argv)
    try:
        folders = [folder for path in args.data for folder in open_folders(path)]
        for name, (pictures, seconds) in measure(folders, args).items():
            print(f"{name:8} {pictures / seconds:9.1f} pictures/s", flush=True)
    except (ValueError, OSError) as error:
        print(f"speed: error: {error}", file=sys.stderr)
        return 2
    return 0


def measure(folders: Sequence[Folder], args: argparse.Namespace) -> dict[str, tuple[int, float]]:
    """Return how many pictures went through each stage, and in what time.

    Raises:
        ValueError: if there are no pictures.
    """
    # Slow to import, and `--help` does not need them.
    import jax

    from data.augment import make_views
    from data.config import DataConfig
    from data.loader import make_loader
    from data.pairs import Sampler

    sources = open_sources(folders)
    places = [(source, number) for source in sources for number in range(len(source))]
    config = DataConfig(pack_size=args.size, threads=args.threads)

    def read(number: int) -> int:
        source, own = places[number % len(places)]
        source.folder.read(source.names[own], "images")
        return 1

    def decode(number: int) -> int:
        source, own = places[number % len(places)]
        source.folder.image(source.names[own])
        source.folder.labels(source.names[own])
        return 1

    def resize(number: int) -> int:
        source, own = places[number % len(places)]
        source.read(own, args.size)
        return 1

    sampler = Sampler(sources, config.pairs)
    batches = make_loader(
        sampler, size=args.size, batch_size=args.batch, steps=10**6, seed=0, threads=args.threads
    )
    last = next(batches)

    def batch(_: int) -> int:
        nonlocal last
        last = next(batches)
        return args.batch * config.pairs.views

    views = jax.jit(partial(make_views, size=args.size, config=config))

    def device(number: int) -> int:
        jax.block_until_ready(views(last, key=jax.random.key(number)))
        return args.batch * config.pairs.views

    stages = {"read": read, "decode": decode, "resize": resize, "batch": batch, "device": device}
    return {name: _time(stage, seconds=args.seconds) for name, stage in stages.items()}


def _time(stage: Callable[[int], int], *, seconds: float) -> tuple[int, float]:
    """Repeat a stage, after a first time that does not count, and return its pictures and time."""
    stage(0)
    pictures, number, start = 0, 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        number += 1
        pictures += stage(number)
    return pictures, passed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data.checks.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("data", nargs="+", metavar="PATH", help="data sets: folders, zips, or what was prepared")
    add("--size", type=int, default=448, help="side of the decoded squares, in pixels")
    add("--batch", type=int, default=8, help="samples of a batch")
    add("--threads", type=int, default=4, help="that decode")
    add("--seconds", type=float, default=SECONDS, help="for each stage")
    return parser


if __name__ == "__main__":
    sys.exit(main())
