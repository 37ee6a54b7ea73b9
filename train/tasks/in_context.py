"""The in-context model on a frozen encoder: samples of cached features, smooth L1 on colours."""

import logging
from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, ArrayLike, Float, PyTree, Shaped
from PIL import Image

from data.config import FeaturesConfig
from data.feature_samples import SampleBatch, Sampler
from seggpt.config import InContextConfig
from seggpt.encoder import Embedding
from seggpt.in_context.model import Cache, InContextModel
from seggpt.in_context.positions import position_directions
from seggpt.losses import smooth_l1
from seggpt.palette import IGNORE, paint
from seggpt.weights.encoder import LoadedEncoder
from seggpt.weights.keys import Keys
from train.config import TrainConfig
from train.sharding import own_rows
from train.state import TrainState
from train.step import Loss, Metrics, apply_gradients, compute_dtype
from train.tasks.cached import CachedBatches, CachedTask, split_in_context
from train.tasks.task import Step

logger = logging.getLogger(__name__)

SHEET_ROWS = 12
Embed = Callable[[InContextModel, ArrayLike, ArrayLike], Embedding]
Paint = Callable[[PyTree, SampleBatch], Array]  # weights and a batch to colours, (b, q, h, w, 3)


class InContextTask(CachedTask):
    """Random colours, one to four examples, windows of cached views."""

    def __init__(self, config: TrainConfig, mesh: jax.sharding.Mesh) -> None:
        super().__init__(config, mesh)
        assert isinstance(config.data, FeaturesConfig)
        self.data = config.data
        self.sampler = Sampler(self.cache, self.data.samples, seed=config.seed)
        self._check_rows({self.sampler.rows(shape) for shape in self.data.samples.shapes})
        self.held_out = None
        if self.held_out_cache:
            try:
                held_out = Sampler(self.held_out_cache, self.data.held_out_samples, seed=0)
                held_out.named(0, [0])  # whether there are samples
                self.held_out = held_out
            except ValueError as error:
                if self.data.held_out:
                    raise ValueError(f"data.held_out {self.data.held_out}: {error}") from error
                logger.warning("the held-out pictures cannot be scored: %s", error)
        self._compiled = cache(self._compile)
        self.paint = self.make_painter()
        self._paint = jax.jit(self.paint)

    def make_painter(self) -> Paint:
        """Return what paints a batch's queries."""
        return cached_painter(self.model)

    def init(self) -> PyTree:
        """Return the first weights: matching alone, or those of `init`.

        Raises:
            CheckpointError: if the arrays of `init` are not the model's.
        """
        if not self.config.init:
            return start_in_context(self.model, self.encoder, seed=self.config.seed)
        return self.graft(self.read_init())

    def rows(self, number: int) -> int:
        """Return how many samples the batch of a step has."""
        return self.sampler.rows(self.sampler.shape(number))

    def batches(self) -> CachedBatches[SampleBatch]:
        """Return this host's samples of all steps."""
        return CachedBatches(
            lambda number: self.sampler.batch(number, own_rows(self.rows(number))),
            steps=self.config.steps,
        )

    def names(self, number: int, batch: SampleBatch) -> list[str]:
        """Say what the samples of a step show: source/picture of every view."""
        del batch
        return self.sampler.named(number, own_rows(self.rows(number)))

    def step(self, number: int, optimizer: optax.GradientTransformation) -> Step:
        """Return the update, compiled anew for every shape of batch."""
        del number
        return self._compiled(optimizer)

    def _compile(self, optimizer: optax.GradientTransformation) -> Step:
        step = make_in_context_step(self.config, optimizer, self.paint)
        return jax.jit(step, donate_argnums=0)

    def evaluate(self, params: PyTree) -> tuple[dict[str, float], Callable[[], Image.Image]] | None:
        """Return the mean IoU of the labels of held-out samples, if there is a held-out cache."""
        if self.held_out is None:
            return None
        batches = [self.held_out.batch(number) for number in range(self.data.held_out_count)]
        painted = [np.asarray(self._paint(params, batch)) for batch in batches]
        scores = [score_batch(p, b) for p, b in zip(painted, batches, strict=True)]
        iou = float(np.mean(np.concatenate(scores)))
        return {"iou": iou}, partial(draw_sheet, painted, batches)


def make_in_context_step(
    config: TrainConfig,
    optimizer: optax.GradientTransformation,
    paint: Paint,
) -> Step:
    """Return a step whose batches may be of any shape."""
    dtype = compute_dtype(config)

    def step(state: TrainState, batch: SampleBatch) -> tuple[TrainState, Metrics]:
        low, high = config.loss.beta
        beta = low + (high - low) * (state.step / config.steps)

        def loss_of(params: PyTree, part: SampleBatch) -> Loss:
            painted = paint(jax.tree.map(lambda a: a.astype(dtype), params), part)
            weights = jnp.asarray(part.query_weights)
            loss = smooth_l1(painted, _target(part), weights, beta=beta)
            return loss, (weights.sum(), {})

        return apply_gradients(state, loss_of, batch, config, optimizer)

    return step


def start_in_context(config: InContextConfig, encoder: LoadedEncoder, *, seed: int) -> PyTree:
    """Return weights whose matching is right: cosine of features, blind to positions as asked."""
    drawn = nnx.as_pure(nnx.state(InContextModel(config, rngs=Keys(seed)), nnx.Param))
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), drawn)
    directions = position_directions(encoder.config, encoder.params)
    for number, (layer, is_blind) in enumerate(config.matchings):
        if is_blind:
            kernel = params["matchings"][number]["kernel"]
            params["matchings"][number]["kernel"] = kernel - directions[layer].T @ directions[layer]
    return params


def cached_painter(config: InContextConfig) -> Paint:
    """Return what paints a batch's queries with the features of the cache."""
    graphdef, _ = split_in_context(config)
    return lambda params, batch: paint_batch(nnx.merge(graphdef, params), batch, embed_cached)


def paint_batch(model: InContextModel, batch: SampleBatch, embed: Embed) -> Array:
    """Paint all queries of a batch, (b, q, h, w, 3); `embed` makes embeddings of its views."""
    queries = embed(model, batch.query_features, batch.query_images)
    cache = encode_batch(model, batch, embed)
    return model.decode(cache, queries).reshape(batch.query_images.shape)


def encode_batch(model: InContextModel, batch: SampleBatch, embed: Embed) -> Cache:
    """Encode all examples of a batch, a row of the cache for each sample."""
    b, e = batch.example_class_ids.shape[:2]
    examples = embed(model, batch.example_features, batch.example_images)
    class_ids = merge_samples(jnp.asarray(batch.example_class_ids))
    each = model.encode(examples, class_ids, jnp.repeat(batch.colours, e, axis=0))
    return jax.tree.map(lambda a: a.reshape(b, -1, *a.shape[2:]), each)


def embed_cached(model: InContextModel, features: ArrayLike, images: ArrayLike) -> Embedding:
    """Return a batch's views as the encoder gave them, in the model's dtype."""
    dtype = model.mask_token[...].dtype
    flat, image = (merge_samples(jnp.asarray(a, dtype)) for a in (features, images))
    return Embedding(image, tuple(jnp.split(flat, len(model.config.encoder.taps), axis=-1)))


def merge_samples(views: Shaped[Array, "b v *d"]) -> Shaped[Array, "bv *d"]:
    """Put the views of all samples of a batch side by side."""
    return views.reshape(-1, *views.shape[2:])


def _target(batch: SampleBatch) -> Float[Array, "b q h w 3"]:
    return jax.vmap(paint)(jnp.asarray(batch.query_class_ids), jnp.asarray(batch.colours))


def score_batch(
    painted: Float[np.ndarray, "b q h w 3"], batch: SampleBatch
) -> Float[np.ndarray, " labels"]:
    """Return the IoU of every label that is in a query, each pixel having its nearest colour's."""
    found = []
    for sample, colours, class_ids in zip(
        painted, batch.colours, batch.query_class_ids, strict=True
    ):
        used = int(class_ids[class_ids != IGNORE].max(initial=0)) + 1
        squares = ((sample[..., None, :] - colours[:used]) ** 2).sum(axis=-1)
        nearest = squares.argmin(axis=-1)
        for guess, truth in zip(nearest, class_ids, strict=True):
            known = truth != IGNORE
            for class_id in sorted(set(np.unique(truth[known]).tolist()) - {0}):
                either = ((guess == class_id) | (truth == class_id)) & known
                both = (guess == class_id) & (truth == class_id)
                found.append(both.sum() / max(1, either.sum()))
    return np.asarray(found)


def draw_sheet(painted: list[np.ndarray], batches: list[SampleBatch]) -> Image.Image:
    """Draw samples as rows: example, its colours, query, what was painted, its colours."""
    rows = []
    for output, batch in zip(painted[:SHEET_ROWS], batches, strict=False):
        colours = jnp.asarray(batch.colours[0])
        example, truth = (
            np.asarray(paint(jnp.asarray(class_ids[0, 0]), colours))
            for class_ids in (batch.example_class_ids, batch.query_class_ids)
        )
        cells = [batch.example_images[0, 0], example, batch.query_images[0, 0]]
        rows.append(np.concatenate([*cells, output[0, 0], truth], axis=1))
    sheet = np.concatenate(rows)
    return Image.fromarray(((np.clip(sheet, -1, 1) + 1) * 127.5).astype(np.uint8))
