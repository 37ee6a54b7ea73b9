"""Training an adapter's trunk: to tell the classes of all data sets, each among its own."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, PyTree
from PIL import Image

from data.augment import make_views
from data.classes import ClassSampler
from data.pack import Pack
from data.pairs import collate
from seggpt.adapter import CELL, MIDDLE, WIDTHS, Trunk, to_cells
from seggpt.canvas import denormalize
from seggpt.coloring import IGNORE
from train.config import TrainConfig
from train.probe import PLAIN
from train.state import TrainState
from train.step import Metrics, Step, apply_gradients

COARSE = 2**MIDDLE  # cells along a side of those of the middle features
PER_SOURCE = 12  # pictures of each data set that are looked at


class Classifier(nnx.Module):
    """A trunk, and what tells classes by its features."""

    def __init__(self, classes: int, *, rngs: nnx.Rngs) -> None:
        self.trunk = Trunk(rngs=rngs)
        self.head = nnx.Linear(WIDTHS[0], classes, rngs=rngs)
        self.middle = nnx.Linear(WIDTHS[MIDDLE], classes, rngs=rngs)

    def __call__(
        self, images: Float[Array, "b s s 3"]
    ) -> tuple[Float[Array, "b h w k"], Float[Array, "b h4 w4 k"]]:
        """Return the logits of classes for each cell, and for each 4 x 4 of them."""
        fine, middle = self.trunk(to_cells(images))
        return self.head(nnx.relu(fine)), self.middle(nnx.relu(middle))


def make_trunk_step(
    config: TrainConfig, optimizer: optax.GradientTransformation, *, sampler: ClassSampler
) -> Step:
    """Return a step on a trunk and its classifier."""
    trunk = config.trunk
    assert trunk is not None
    graphdef = _graphdef(sampler)
    allowed = jnp.asarray(allowed_classes(sampler))
    weights = jnp.asarray((1 / np.maximum(sampler.shares, 1e-4)) ** trunk.rarity, jnp.float32)

    def step(
        state: TrainState, images: Array, ids: Array, batch: dict[str, Array]
    ) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        views = make_views(images, ids, batch, key=key, size=config.view_size, config=config.data)
        labels = views.labels[:, 0, CELL // 2 :: CELL, CELL // 2 :: CELL]
        mine = allowed[views.kind][:, None, None]

        def loss_of(params: PyTree) -> tuple[Array, Metrics]:
            fine, middle = nnx.merge(graphdef, params)(views.images[:, 0])
            coarse = labels[:, COARSE // 2 :: COARSE, COARSE // 2 :: COARSE]
            loss = entropy(fine, labels, mine, weights)
            return loss + trunk.middle * entropy(middle, coarse, mine, weights), {"fine": loss}

        return apply_gradients(state, loss_of, config, optimizer)

    return step


def init_classifier(sampler: ClassSampler, seed: int) -> PyTree:
    """Draw the weights of a classifier of all classes of a sampler."""
    classes = len(sampler.shares)

    @jax.jit
    def draw() -> PyTree:
        return nnx.as_pure(nnx.state(Classifier(classes, rngs=nnx.Rngs(seed)), nnx.Param))

    # A weakly typed one would become a strong one in the first step, and the second compile anew.
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), dict(draw()))


def _graphdef(sampler: ClassSampler) -> nnx.GraphDef[Classifier]:
    classes = len(sampler.shares)
    return nnx.graphdef(nnx.eval_shape(lambda: Classifier(classes, rngs=nnx.Rngs(0))))


def allowed_classes(sampler: ClassSampler) -> np.ndarray:
    """Return which classes each data set has, of (sets, classes)."""
    places = np.arange(len(sampler.shares))
    return np.stack([(places >= start) & (places < end) for start, end in sampler.ranges])


def entropy(
    logits: Float[Array, "b h w k"],
    labels: Int[Array, "b h w"],
    allowed: Array,
    weights: Float[Array, " k"],
) -> Float[Array, ""]:
    """Return the weighted cross-entropy of labels, among the classes of each picture's set."""
    logs = jax.nn.log_softmax(jnp.where(allowed, logits, -1e9))
    known = labels != IGNORE
    place = jnp.where(known, labels, 0)
    weight = jnp.where(known, weights[place], 0)
    chosen = jnp.take_along_axis(logs, place[..., None], axis=-1)[..., 0]
    return -(weight * chosen).sum() / jnp.maximum(weight.sum(), 1)


@dataclass(frozen=True)
class TrunkProbe:
    """Held-out pictures, whole, with their classes."""

    images: Float[np.ndarray, "n s s 3"]
    labels: Int[np.ndarray, "n s s"]
    kind: Int[np.ndarray, " n"]
    sampler: ClassSampler

    def score(self, found: np.ndarray) -> dict[str, float]:
        """Return the mean over data sets of the mean IoU of their classes."""
        means = []
        for number, (start, end) in enumerate(self.sampler.ranges):
            rows = self.kind == number
            truth, guess = self.labels[rows][:, ::CELL, ::CELL], found[rows]
            known = truth != IGNORE
            ious = []
            for place in range(start + 1, end):
                true, seen = (truth == place) & known, (guess == place) & known
                if true.any():
                    ious.append((true & seen).sum() / (true | seen).sum())
            if ious:
                means.append(float(np.mean(ious)))
        return {"iou": float(np.mean(means))}

    def sheet(self, found: np.ndarray, *, rows: int = 12) -> Image.Image:
        """Draw pictures as rows: the picture, its classes, those that were found."""
        picks = np.linspace(0, len(found) - 1, rows).astype(int)
        colors = np.random.default_rng(1).integers(0, 256, (256, 3)).astype(np.uint8)
        cells = []
        for pick in picks:
            rgb = np.clip(np.asarray(denormalize(jnp.asarray(self.images[pick]))), 0, 1)
            guess = found[pick].repeat(CELL, axis=0).repeat(CELL, axis=1)
            planes = [(255 * rgb).astype(np.uint8), colors[self.labels[pick]], colors[guess]]
            cells.append(np.concatenate(planes, axis=1))
        return Image.fromarray(np.concatenate(cells))


def make_trunk_probe(pack: Pack, sampler: ClassSampler, config: TrainConfig) -> TrunkProbe:
    """Take held-out pictures of each data set that was trained on, whole."""
    size = 2 * config.model.image_size
    samples = []
    for number, source in enumerate(sampler.sources):
        held = next((one for one in pack.sources if one.name == source.name), None)
        if held is None:  # pasted sprites
            continue
        rows = np.random.default_rng(config.seed).permutation(len(held.entries))[:PER_SOURCE]
        samples += [sampler.sample_of(held, number, int(row)) for row in rows]
    batch = {k: jnp.asarray(v) for k, v in collate(samples).items()}
    data = dataclasses.replace(config.data, augment=PLAIN)
    make = jax.jit(partial(make_views, size=size, config=data))
    views = make(jnp.asarray(pack.images), jnp.asarray(pack.ids), batch, key=jax.random.key(0))
    images, labels = (np.asarray(a[:, 0]) for a in (views.images, views.labels))
    return TrunkProbe(images, labels, np.asarray(views.kind), sampler)


def make_teller(sampler: ClassSampler) -> Callable[[PyTree, TrunkProbe], np.ndarray]:
    """Return a function that tells the classes of a probe's cells with given weights."""
    graphdef = _graphdef(sampler)
    allowed = allowed_classes(sampler)

    @jax.jit
    def tell(params: PyTree, image: Array, mine: Array) -> Array:
        fine, _ = nnx.merge(graphdef, params)(image[None])
        return jnp.where(mine, fine[0], -jnp.inf).argmax(axis=-1)

    def run(params: PyTree, probe: TrunkProbe) -> np.ndarray:
        rows = zip(probe.images, probe.kind, strict=True)
        return np.stack([np.asarray(tell(params, image, allowed[kind])) for image, kind in rows])

    return run
