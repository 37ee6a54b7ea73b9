"""Fixed held-out samples, scored and drawn during training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, PyTree
from PIL import Image

from data.augment import Views, make_views
from data.config import AugmentConfig, DataConfig, PairsConfig
from data.pairs import Sampler, collate
from data.pictures import Source
from seggpt.canvas import denormalize
from seggpt.palette import IGNORE, ColoringConfig, palette
from train.config import TrainConfig
from train.state import split_model

PLAIN = AugmentConfig(
    scale=(1.0, 1.0),
    aspect=1.0,
    tries=1,
    flip=0.0,
    upside_down=0.0,
    transpose=0.0,
    jitter=0.0,
    stitch=0.0,
)


@dataclass(frozen=True)
class Probe:
    """Held-out pairs of pictures, the same ones at every look, in the inference palette."""

    views: Views  # two views a sample: example, query
    sources: tuple[str, ...]

    def score(self, painted: np.ndarray) -> dict[str, float]:
        """Return the mean over data sets of IoU, of the model and of copying the mask."""
        labels = np.asarray(self.views.labels)
        colors = palette(1)[1]
        guess = _rgb(painted) @ colors / (colors @ colors) > 0.5
        return {
            "iou": self._mean_iou(guess, labels[:, 1]),
            "copy_iou": self._mean_iou(labels[:, 0] == 1, labels[:, 1]),
        }

    def sheet(self, painted: np.ndarray, *, rows: int = 12) -> Image.Image:
        """Draw samples as rows: example, its target, query, prediction, truth."""
        picks = np.linspace(0, len(painted) - 1, rows).astype(int)
        images, targets = (np.asarray(a) for a in (self.views.images, self.views.targets))
        columns = [images[:, 0], targets[:, 0], images[:, 1], painted, targets[:, 1]]
        cells = [np.concatenate([c[p] for c in columns], axis=1) for p in picks]
        rgb = np.clip(_rgb(np.concatenate(cells)), 0, 1)
        return Image.fromarray((rgb * 255).astype(np.uint8))

    def _mean_iou(self, guess: np.ndarray, truth: np.ndarray) -> float:
        counts: dict[str, np.ndarray] = {}
        for name, g, t in zip(self.sources, guess, truth, strict=True):
            g, t = g & (t != IGNORE), t == 1
            counts[name] = counts.get(name, np.zeros(2)) + np.array([(g & t).sum(), (g | t).sum()])
        return float(np.mean([i / max(u, 1) for i, u in counts.values()]))


def _rgb(values: np.ndarray) -> np.ndarray:
    return np.asarray(denormalize(jnp.asarray(values)))


def make_probe(held_out: Sequence[Source], config: TrainConfig, *, per_source: int = 16) -> Probe:
    """Draw the pairs from held-out pictures: other ones of one class, whole, untouched.

    Raises:
        ValueError: if no class is in two of them.
    """
    pairs = PairsConfig(views=2, slots=1, two_views=(0.0, 0.0), several_labels=0.0)
    data = DataConfig(
        pairs=pairs,
        augment=PLAIN,
        coloring=ColoringConfig(fixed_palette=1.0),
    )
    samples, names = [], []
    rng = np.random.default_rng(config.seed)
    for source in held_out:
        sampler = Sampler([source], pairs)
        if any(s.pairable for s in sampler.sources):
            drawn = [sampler.draw(rng, progress=0.0) for _ in range(per_source)]
            samples += [sampler.load(sample, config.pictures.pack_size) for sample in drawn]
            names += [source.name] * per_source
    if not samples:
        raise ValueError("no class is in two of the held-out pictures (split val)")
    make = jax.jit(partial(make_views, size=config.seggpt.image_size, config=data))
    batch = {k: jnp.asarray(v) for k, v in collate(samples).items()}
    views = make(batch, key=jax.random.key(0))
    return Probe(views, tuple(names))


def make_painter(config: TrainConfig, *, batch: int = 16) -> Callable[[PyTree, Probe], np.ndarray]:
    """Return a function that paints a probe's queries with given weights."""
    graphdef = split_model(config.seggpt)

    @jax.jit
    def paint(params: PyTree, images: Array, targets: Array, kind: Array) -> Array:
        model = nnx.merge(graphdef, params)
        return model(images[:, :1], targets[:, :1], images[:, 1], kind=kind)

    def run(params: PyTree, probe: Probe) -> np.ndarray:
        views, out = probe.views, []
        for start in range(0, len(views.kind), batch):
            part = slice(start, start + batch)
            painted = paint(params, views.images[part], views.targets[part], views.kind[part])
            out.append(np.asarray(painted))
        return np.concatenate(out)

    return run
