"""A quick look at a run on heads for prompts: fixed held-out targets, clicked at and drawn."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from PIL import Image

from data.augment import Views, make_views
from data.config import DataConfig, PairsConfig
from data.pack import Pack
from data.pairs import Sampler, collate
from seggpt.canvas import denormalize
from train.config import ClicksConfig, TrainConfig
from train.probe import PLAIN
from train.prompting import Asked, Simulated, ask, simulate
from train.state import merge_prompted

CLICKS = 5
BATCH = 16
GREEN = np.array([0, 255, 0])


class Found(NamedTuple):
    """What was found for each target with clicks, and with a box."""

    clicks: np.ndarray  # IoU of (rounds, targets)
    box: np.ndarray  # IoU of (targets,)
    masks: np.ndarray  # after the last click


@dataclass(frozen=True)
class ClickProbe:
    """Held-out targets, the same ones at every look, one a picture."""

    views: Views  # one view a sample
    sources: tuple[str, ...]
    config: TrainConfig

    def score(self, found: Found) -> dict[str, float]:
        """Return the mean over data sets of IoU after 1, 3 and 5 clicks, and with a box."""
        rows = {f"clicks_{n}": found.clicks[n - 1] for n in (1, 3, CLICKS)}
        return {name: self._mean(row) for name, row in (rows | {"box": found.box}).items()}

    def sheet(self, found: Found, *, rows: int = 12) -> Image.Image:
        """Draw targets as rows: picture, what was found after all clicks, truth."""
        picks = np.linspace(0, len(found.masks) - 1, rows).astype(int)
        images = np.asarray(denormalize(self.views.images[:, 0]))
        images = (np.clip(images, 0, 1) * 255).astype(np.uint8)
        truth = np.asarray(self.views.labels[:, 0] == 1)
        cells = [
            np.concatenate([images[p], *(_tint(images[p], m[p]) for m in (found.masks, truth))], 1)
            for p in picks
        ]
        return Image.fromarray(np.concatenate(cells))

    def _mean(self, row: np.ndarray) -> float:
        names = np.asarray(self.sources)
        shown = np.asarray(_ask(self.views, self.config).weight) > 0
        means = [row[(names == name) & shown] for name in sorted(set(self.sources))]
        return float(np.mean([part.mean() for part in means if len(part)]))


def make_click_probe(pack: Pack, config: TrainConfig, *, per_source: int = 16) -> ClickProbe:
    """Draw the targets from a held-out pack: instances, classes or regions of whole pictures."""
    pairs = PairsConfig(views=1, slots=1, two_views=(1.0, 1.0), several_labels=0.0, instances=1.0)
    data = DataConfig(pairs=pairs, augment=PLAIN)
    samples, names = [], []
    rng = np.random.default_rng(config.seed)
    for source in pack.sources:
        sampler = Sampler(replace(pack, sources=(source,)), pairs)
        samples += [sampler.draw(rng, progress=0.0) for _ in range(per_source)]
        names += [source.name] * per_source
    make = jax.jit(partial(make_views, size=config.seggpt.image_size, config=data))
    batch = {k: jnp.asarray(v) for k, v in collate(samples).items()}
    views = make(jnp.asarray(pack.images), jnp.asarray(pack.ids), batch, key=jax.random.key(0))
    return ClickProbe(views, tuple(names), config)


def make_clicker(config: TrainConfig) -> Callable[[PyTree, ClickProbe], Found]:
    """Return a function that clicks at a probe's targets with given weights."""
    calm = ClicksConfig(clicks=CLICKS - 1, mask_rounds=0, boxes=0.0, box_noise=0.0, interior=1.0)
    boxed = replace(calm, clicks=0, boxes=1.0)

    @jax.jit
    def play(params: PyTree, views: Views) -> tuple[Simulated, Simulated]:
        model = merge_prompted(config.seggpt, params, dtype=jnp.dtype(jnp.float32))
        asked = _ask(views, config)
        first, second = (
            simulate(model, views, asked, how, key=jax.random.key(0)) for how in (calm, boxed)
        )
        return first, second

    def run(params: PyTree, probe: ClickProbe) -> Found:
        parts = []
        for start in range(0, len(probe.sources), BATCH):
            part: Views = jax.tree.map(lambda a, s=start: a[s : s + BATCH], probe.views)
            clicked, boxed = play(params, part)
            parts.append((clicked.iou.T, boxed.iou[0], clicked.logits > 0))
        ious, boxes, masks = (
            np.concatenate(list(map(np.asarray, a))) for a in zip(*parts, strict=True)
        )
        return Found(ious.T, boxes, masks)

    return run


def _ask(views: Views, config: TrainConfig) -> Asked:
    return ask(views, slots=1, config=config)


def _tint(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.where(mask[..., None], (image + GREEN) // 2, image).astype(np.uint8)
