"""Cut-outs around single things, at their own resolution: what is looked at for a box or a click.

A small thing in a picture squeezed to a pack is a few blurred pixels. A promptable model of ours
looks closer (`incontext/zoom.py`), so that is what its heads should learn from.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Bool

from data.clicks import tight_box
from data.folder import Folder
from data.pack import Entry, Pack, Source, squeeze

NAME = "closeups"
ROOM = (1.2, 3.0)  # sides of a cut-out, as multiples of the thing's
NARROW = 0.6  # least ratio of a cut-out's sides
LEAST = 16  # pixels of a thing's longer side
VISIBLE = 0.02  # least share of a cut-out that its other things cover to be asked for


def cut_closeups(folders: Sequence[Folder], *, count: int, size: int, seed: int) -> Pack | None:
    """Cut up to `count` things out of each data set's training pictures; None without any.

    They are one source, of one picture each: their classes do not pair.
    """
    images, ids, entries = [], [], []
    for number, folder in enumerate(folders):
        if not folder.has_instances:
            continue
        rng = np.random.default_rng([seed, number])
        chosen = _choose(folder, count=count, rng=rng)
        seeds = rng.integers(1 << 31, size=len(chosen)).tolist()
        with ThreadPoolExecutor() as pool:
            jobs = [
                pool.submit(_cut_all, folder, name, things, size=size, seed=own)
                for (name, things), own in zip(chosen.items(), seeds, strict=True)
            ]
            for image, mask, shown in (cut for job in jobs for cut in job.result()):
                images.append(image)
                ids.append(np.stack([np.zeros_like(mask), mask], axis=-1))
                entries.append(Entry({}, shown, {}))
    if not images:
        return None
    source = Source(NAME, "regions", 0, tuple(entries))
    return Pack(np.stack(images), np.stack(ids), (source,))


def _choose(folder: Folder, *, count: int, rng: np.random.Generator) -> dict[str, list[int]]:
    """Draw things, as evenly from all pictures as these have things."""
    queues = [
        (name, rng.permutation(list(things)).tolist())
        for name in folder.pictures("train")
        if (things := folder.instances(name))
    ]
    chosen: dict[str, list[int]] = {}
    left = count
    while left and queues:
        for place in rng.permutation(len(queues))[:left].tolist():
            name, things = queues[place]
            chosen.setdefault(name, []).append(things.pop())
            left -= 1
        queues = [(name, things) for name, things in queues if things]
    return chosen


def _cut_all(
    folder: Folder, name: str, things: Sequence[int], *, size: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray, dict[int, int]]]:
    """Cut some things out of one picture: pixels, ids, and the class of each id to ask for."""
    rng = np.random.default_rng(seed)
    image, ids = folder.image(name), folder.instance_ids(name)
    classes = folder.instances(name)
    cuts = []
    for thing in things:
        part = _part_around(ids == thing, rng)
        if part is None:
            continue
        mask = squeeze(np.ascontiguousarray(ids[part]), size, smooth=False)
        shares = np.bincount(mask.reshape(-1), minlength=256) / mask.size
        shown = {i: c for i, c in classes.items() if shares[i] >= VISIBLE}
        if shown:
            pixels = squeeze(np.ascontiguousarray(image[part]), size, smooth=True)
            cuts.append((pixels, mask, shown))
    return cuts


def _part_around(
    marked: Bool[np.ndarray, "h w"], rng: np.random.Generator
) -> tuple[slice, slice] | None:
    """Draw a part of a picture that holds a thing and some of what is around it."""
    if not marked.any():
        return None
    box = tight_box(marked)
    low, high = np.array([box.y0, box.x0]), np.array([box.y1, box.x1])
    if (high - low).max() < LEAST:
        return None
    extent = (high - low) * np.exp(rng.uniform(*np.log(ROOM)))
    extent = np.minimum(np.maximum(extent, NARROW * extent.max()), marked.shape)
    # Anywhere that holds the thing whole.
    first, last = np.maximum(high - extent, 0), np.minimum(low, marked.shape - extent)
    start = np.floor(first + (last - first) * rng.random(2)).astype(int)
    stop = np.ceil(start + extent).astype(int)
    return slice(start[0], stop[0]), slice(start[1], stop[1])
