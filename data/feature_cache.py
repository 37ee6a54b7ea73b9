"""A cache on disk of views and a frozen encoder's features of them.

    python -m data.feature_cache --data PATH... --encoder FILE --out CACHE

A cache is a folder:

    jobs.json       what was asked for, the encoder's checksum, and what each view shows
    features.npy    float16 (views, tokens, width): the tapped blocks side by side, each
                    normalised over its own numbers, without affine
    pixels.npy      uint8 (views, size, size, 3), RGB
    classes.npy     uint8 (views, size, size): 0 background, 255 ignored
    instances.npy   uint8 (views, size, size)
    done            how many of the first views are there

A writer that was stopped goes on where it was; a reader takes what is there.
"""

import argparse
import dataclasses
import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16, Float32, UInt8

from data.folder import Folder, open_folders
from data.prefetch import prefetch
from data.views.photos import View
from data.views.plan import Plan, PlanConfig, ViewName

logger = logging.getLogger(__name__)

Encode = Callable[[UInt8[np.ndarray, "b h w 3"]], Float32[np.ndarray, "b n f"]]

FORMAT = 1
BATCH = 4  # views encoded at a time
SAVE_EVERY = 25  # batches between two saves; what was not saved is made again
LOG_SECONDS = 20.0


@dataclass(frozen=True)
class FeatureCache:
    """A cache's first views, as many as are there, on disk."""

    features: Float16[np.ndarray, "views n f"]
    pixels: UInt8[np.ndarray, "views size size 3"]
    classes: UInt8[np.ndarray, "views size size"]
    instances: UInt8[np.ndarray, "views size size"]
    names: Sequence[ViewName]
    grid: int  # tokens along a side
    encoder: str  # checksum

    @property
    def patch(self) -> int:
        """Pixels along a side of a token."""
        return self.pixels.shape[1] // self.grid


def open_cache(path: str | Path) -> FeatureCache:
    """Open a cache for reading, whole or in part.

    Raises:
        ValueError: if it is none, of another format, or has no view yet.
    """
    path = Path(path)
    jobs = _read_jobs(path)
    if jobs is None:
        raise ValueError(f"{path}: no feature cache (a folder with jobs.json)")
    if jobs["format"] != FORMAT:
        raise ValueError(f"{path}: format {jobs['format']}, not {FORMAT}; write it again")
    done = count_views(path)
    if not done:
        raise ValueError(f"{path}: has no views yet")
    arrays = {name: np.load(path / f"{name}.npy", mmap_mode="r")[:done] for name in _ARRAYS}
    names = [ViewName(*row) for row in jobs["views"][:done]]
    return FeatureCache(**arrays, names=names, grid=jobs["grid"], encoder=jobs["encoder"])


def is_cache(path: str | Path) -> bool:
    """Whether a folder holds a cache, whole or in part."""
    return (Path(path) / "jobs.json").exists()


def cache_name(folders: Sequence[Folder], config: PlanConfig, *, encoder: str) -> str:
    """Return what a cache of some views of data sets is called beside them."""
    sets = [(folder.name, len(folder.pictures(config.split))) for folder in folders]
    words = json.dumps([FORMAT, encoder, dataclasses.asdict(config), sets])
    return f"features-{hashlib.sha256(words.encode()).hexdigest()[:12]}"


def write_cache(
    path: str | Path, plan: Plan, *, encode: Encode, encoder: str, batch: int = BATCH
) -> None:
    """Write a cache, or what is missing of it.

    `encode` always gets `batch` views; `encoder` is the checksum of what it does.

    Raises:
        ValueError: if the folder holds a cache of another encoder, of other views or settings,
            or the disk has no room.
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    arrays, done = _open_arrays(path, plan, encode=encode, encoder=encoder, batch=batch)
    count = len(plan.names)
    starts = range(done, count, batch)
    logger.info("%s: %d of %d views are there", path, done, count)
    progress = _Progress(done, count)

    def make(start: int) -> list[View]:
        return [plan.make(index) for index in range(start, min(start + batch, count))]

    try:
        for number, views in enumerate(prefetch(make, starts, depth=2), start=1):
            _write(arrays, done, views, encode=encode, batch=batch)
            done += len(views)
            progress.tell(done)
            if number % SAVE_EVERY == 0:
                _save(path, arrays, done)
    finally:
        _save(path, arrays, done)


_ARRAYS = ("features", "pixels", "classes", "instances")


def _open_arrays(
    path: Path, plan: Plan, *, encode: Encode, encoder: str, batch: int
) -> tuple[dict[str, np.memmap], int]:
    """Open a cache's arrays for writing, new or as they are, and tell how many views they have."""
    size, count = plan.config.look.size, len(plan.names)
    before = _read_jobs(path)
    if before is not None:
        _check_same(path, before, plan, encoder)
        return {n: np.load(path / f"{n}.npy", mmap_mode="r+") for n in _ARRAYS}, count_views(path)
    tokens, width = encode(np.zeros((batch, size, size, 3), np.uint8)).shape[1:]
    grid = round(tokens**0.5)
    if grid**2 != tokens or size % grid:
        raise ValueError(f"{tokens} tokens are no grid on {size} x {size} pixels; change the size")
    shapes = {
        "features": (np.float16, (tokens, width)),
        "pixels": (np.uint8, (size, size, 3)),
        "classes": (np.uint8, (size, size)),
        "instances": (np.uint8, (size, size)),
    }
    need = count * sum(np.dtype(t).itemsize * int(np.prod(s)) for t, s in shapes.values())
    if need > (free := shutil.disk_usage(path).free):
        raise ValueError(f"{path}: {need / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB free")
    arrays = {
        name: np.lib.format.open_memmap(path / f"{name}.npy", "w+", dtype, (count, *shape))
        for name, (dtype, shape) in shapes.items()
    }
    # Last, so that where it is, the arrays are.
    _replace(path / "jobs.json", json.dumps(_jobs(plan, encoder) | {"grid": grid, "width": width}))
    return arrays, 0


def _jobs(plan: Plan, encoder: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "encoder": encoder,
        "size": plan.config.look.size,
        "seed": plan.config.seed,
        "plan": json.loads(json.dumps(dataclasses.asdict(plan.config))),  # tuples become lists
        "views": [list(dataclasses.astuple(name)) for name in plan.names],
    }


def _check_same(path: Path, before: dict[str, Any], plan: Plan, encoder: str) -> None:
    for key, value in _jobs(plan, encoder).items():
        if before[key] != value:
            what = key if isinstance(value, list | dict) else f"{key} {before[key]}, not {value}"
            raise ValueError(f"{path}: holds a cache of another {what}; choose another folder")


def _write(
    arrays: dict[str, np.memmap], start: int, views: Sequence[View], *, encode: Encode, batch: int
) -> None:
    place = slice(start, start + len(views))
    images = np.stack([view.image for view in views])
    arrays["pixels"][place] = images
    arrays["classes"][place] = np.stack([view.classes for view in views])
    arrays["instances"][place] = np.stack([view.instances for view in views])
    # The last batch is filled up, so that a compiled encoder sees one shape.
    filled = np.resize(images, (batch, *images.shape[1:]))
    arrays["features"][place] = encode(filled)[: len(views)]


def _save(path: Path, arrays: dict[str, np.memmap], done: int) -> None:
    for array in arrays.values():
        array.flush()
    _replace(path / "done", str(done))


def _replace(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old text or the new one."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    os.replace(new, path)


def _read_jobs(path: Path) -> dict[str, Any] | None:
    file = path / "jobs.json"
    return json.loads(file.read_text()) if file.exists() else None


def count_views(path: Path) -> int:
    """Return how many views a cache has so far."""
    file = path / "done"
    return int(file.read_text()) if file.exists() else 0


class _Progress:
    """Logs how many views are made in a second, and how long the rest takes, now and then."""

    def __init__(self, done: int, count: int) -> None:
        self.first, self.count = done, count
        self.start = self.told = time.monotonic()

    def tell(self, done: int) -> None:
        """Log, unless it was done a moment ago."""
        now = time.monotonic()
        if now - self.told < LOG_SECONDS and done < self.count:
            return
        self.told = now
        rate = (done - self.first) / max(now - self.start, 1e-9)
        left = (self.count - done) / rate / 60
        logger.info("%d of %d views, %.1f a second, %.0f min left", done, self.count, rate, left)


def make_encode(path: str) -> tuple[Encode, str]:
    """Load an encoder's weights; return what it does and their checksum."""
    # They import jax, which neither `--help` nor the views need.
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from seggpt.encoder import Encoder
    from seggpt.weights.encoder import load_encoder
    from seggpt.weights.keys import Keys

    loaded = load_encoder(path)
    abstract = nnx.eval_shape(lambda: Encoder(loaded.config, rngs=Keys(0)))
    graphdef, _ = nnx.split(abstract, nnx.Param)

    @jax.jit
    def encode(params: Any, images: Any) -> Any:
        encoded = nnx.merge(graphdef, params)(images.astype(jnp.float32) / 255)
        return jnp.concatenate(encoded.layers, axis=-1)

    return lambda images: np.asarray(encode(loaded.params, images)), loaded.sha256


def main(argv: Sequence[str] | None = None) -> int:
    """Write a cache; return the exit code."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        folders = [folder for path in args.data for folder in open_folders(path)]
        config = PlanConfig(
            seed=args.seed,
            split=args.split,
            views=args.views,
            pasted=args.pasted,
            drawn=args.drawn,
        )
        encode, encoder = make_encode(args.encoder)
        write_cache(args.out, Plan(folders, config), encode=encode, encoder=encoder)
    except (ValueError, OSError) as error:
        print(f"feature_cache: error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults = PlanConfig()
    parser = argparse.ArgumentParser(
        prog="python -m data.feature_cache",
        description="Write random views of pictures, and a frozen encoder's features of them.",
        epilog="A view of 336 pixels takes 1.9 MB: 1.33 MB for three blocks of width 384, the rest "
        "for pixels and masks.",
    )
    add = parser.add_argument
    add("--data", nargs="+", required=True, metavar="PATH", help="folders or zips of data sets")
    add("--encoder", default="dinov2-small", help="a name, or the encoder's weights")
    add("--split", default=defaults.split, help="of the data sets")
    add("--out", required=True, metavar="DIR", help="the cache; one that was stopped goes on")
    add("--views", type=int, default=defaults.views, help="of a picture; one more in small sets")
    add("--pasted", type=int, default=defaults.pasted, help="groups of five with pasted things")
    add("--drawn", type=int, default=defaults.drawn, help="families of five drawn pictures")
    add("--seed", type=int, default=defaults.seed)
    return parser


if __name__ == "__main__":
    sys.exit(main())
