"""The in-context model on a frozen encoder: samples of cached features, smooth L1 on colours."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, PyTree
from PIL import Image

from data.config import FeaturesConfig
from data.feature_cache import FeatureCache, open_cache
from data.feature_samples import SampleBatch, Sampler
from data.prefetch import prefetch
from seggpt.canvas import normalize
from seggpt.coloring import IGNORE
from seggpt.config import InContextConfig
from seggpt.encoder import Embedding, Encoder, normalize_tokens
from seggpt.in_context import Cache, InContextModel
from seggpt.losses import smooth_l1
from seggpt.weights import load_weights, save_weights
from seggpt.weights.encoder import LoadedEncoder, load_encoder
from seggpt.weights.graft import graft
from train.config import TrainConfig
from train.state import TrainState
from train.step import Metrics, apply_gradients, compute_dtype
from train.tasks.task import Step

DIRECTIONS = 24  # of positions, that a blind matching starts without (arXiv 2603.28480)
BLANK_SIDE = 448  # pixels of the contentless images that tell them


class InContextTask:
    """Random colours, one to four examples, windows of cached views."""

    def __init__(self, config: TrainConfig, mesh: jax.sharding.Mesh) -> None:
        """Open the caches.

        Raises:
            ValueError: if there is none, or one of another encoder than the recipe's.
        """
        del mesh  # batches are small, and features stay on the disk
        assert isinstance(config.model, InContextConfig)
        assert isinstance(config.data, FeaturesConfig)
        self.config, self.model = config, config.model
        if len(config.data.path) != 1:
            raise ValueError("--data: pass the folder of one feature cache (data.feature_cache)")
        self.encoder = load_encoder(config.data.encoder)
        opened = self._open(config.data.path[0])
        self.sets = sorted({name.source for name in opened.names if name.kind == "photo"})
        self.sampler = Sampler(opened, config.data.samples, seed=config.seed)
        self.held_out = None
        if config.data.held_out:
            held_out = self._open(config.data.held_out)
            self.held_out = Sampler(held_out, config.data.held_out_samples, seed=0)
        self.depth = self.model.depth
        self.graphdef = split_in_context(self.model)
        self._compiled = cache(self._compile)

    def _open(self, path: str) -> FeatureCache:
        opened = open_cache(path)
        if opened.encoder != self.encoder.sha256:
            raise ValueError(f"{path}: features of another encoder than data.encoder's")
        return opened

    def init(self) -> PyTree:
        """Return the first weights: matching alone, or those of `init`."""
        if self.config.init:
            loaded = load_weights(self.config.init)
            wanted = nnx.as_pure(nnx.state(self._abstract(), nnx.Param))
            return jax.tree.map(jnp.asarray, graft(wanted, loaded.params))
        return start_in_context(self.model, self.encoder, seed=self.config.seed)

    def _abstract(self) -> InContextModel:
        return nnx.eval_shape(lambda: InContextModel(self.model, rngs=nnx.Rngs(0)))

    def batches(self) -> "FeatureBatches":
        """Return the samples of all steps."""
        return FeatureBatches(self.sampler, steps=self.config.steps)

    def step(self, number: int, optimizer: optax.GradientTransformation) -> Step:
        """Return the update, compiled anew for every shape of batch."""
        del number
        return self._compiled(optimizer)

    def _compile(self, optimizer: optax.GradientTransformation) -> Step:
        def step(state: TrainState, batch: SampleBatch) -> tuple[TrainState, Metrics]:
            progress = state.step / self.config.steps

            def loss_of(params: PyTree) -> tuple[Array, Metrics]:
                dtype = compute_dtype(self.config)
                model = nnx.merge(self.graphdef, jax.tree.map(lambda a: a.astype(dtype), params))
                painted = paint_batch(model, batch)
                low, high = self.config.loss.beta
                beta = low + (high - low) * progress
                loss = smooth_l1(painted, _target(batch), batch.query_weights, beta=beta)
                return loss, {}

            return apply_gradients(state, loss_of, self.config, optimizer)

        return jax.jit(step, donate_argnums=0)

    def evaluate(self, params: PyTree) -> tuple[dict[str, float], Callable[[], Image.Image]] | None:
        """Return the mean IoU of the labels of held-out samples, if there is a held-out cache."""
        if self.held_out is None:
            return None
        batches = [self.held_out.batch(number) for number in range(self.config.data.held_out_count)]
        painted = [np.asarray(self._paint(params, batch)) for batch in batches]
        scores = [score_batch(p, b) for p, b in zip(painted, batches, strict=True)]
        iou = float(np.mean(np.concatenate(scores)))
        return {"iou": iou}, partial(draw_sheet, painted, batches)

    @property
    def _paint(self) -> Callable[[PyTree, SampleBatch], Array]:
        return _painter(self.graphdef)

    def save(self, path: Path, params: PyTree, metadata: dict[str, str]) -> None:
        """Write the weights; the encoder is named by its checksum."""
        metadata = metadata | {"encoder": self.config.data.encoder}
        metadata |= {"encoder_sha256": self.encoder.sha256}
        save_weights(path, params, config=self.model.to_dict(), metadata=metadata)


class FeatureBatches:
    """The batches of a run in order, drawn ahead by a thread; a step's depends on it alone."""

    def __init__(self, sampler: Sampler, *, steps: int) -> None:
        self.sampler, self.steps, self.position = sampler, steps, 0
        self.stream: Iterator[SampleBatch] | None = None

    def __next__(self) -> SampleBatch:
        if self.stream is None:
            self.stream = prefetch(self.sampler.batch, range(self.position, self.steps))
        batch = next(self.stream)
        self.position += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """Return the step to draw next."""
        return {"step": self.position}

    def set_state(self, state: dict[str, int], /) -> None:
        """Go on from a step."""
        self.position, self.stream = state["step"], None


def split_in_context(config: InContextConfig) -> nnx.GraphDef[InContextModel]:
    """Return a model's structure without making its weights."""
    abstract = nnx.eval_shape(lambda: InContextModel(config, rngs=nnx.Rngs(0)))
    return nnx.split(abstract, nnx.Param)[0]


def start_in_context(config: InContextConfig, encoder: LoadedEncoder, *, seed: int) -> PyTree:
    """Return weights whose matching is right: cosine of features, blind to positions as asked."""
    draw = jax.jit(
        lambda key: nnx.as_pure(nnx.state(InContextModel(config, rngs=nnx.Rngs(key)), nnx.Param))
    )
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), draw(jax.random.key(seed)))
    directions = position_directions(config, encoder)
    for number, (layer, is_blind) in enumerate(config.matchings):
        if is_blind:
            kernel = params["matchings"][number]["kernel"]
            params["matchings"][number]["kernel"] = kernel - directions[layer].T @ directions[layer]
    return params


def position_directions(config: InContextConfig, encoder: LoadedEncoder) -> list[Array]:
    """Return for each layer the directions that carry positions: (DIRECTIONS, width), orthonormal.

    They are the strongest of the mean over images without content, blank and of noise; the idea
    is INSID3's (arXiv 2603.28480).
    """
    rng = np.random.default_rng(0)
    shape = (BLANK_SIDE, BLANK_SIDE, 3)
    blank = [np.full(shape, value) for value in (0.0, 0.25, 0.485, 0.75, 1.0)]
    noise = [np.clip(0.5 + 0.15 * rng.standard_normal(shape), 0, 1) for _ in range(6)]
    graphdef, _ = nnx.split(
        nnx.eval_shape(lambda: Encoder(encoder.config, rngs=nnx.Rngs(0))), nnx.Param
    )

    @jax.jit
    def encode(params: PyTree, image: Array) -> list[Array]:
        taps = nnx.merge(graphdef, params).vit.taps(normalize(image), config.encoder.taps)
        return [normalize_tokens(tap[0]) for tap in taps]

    total = None
    for image in [*blank, *noise]:
        layers = encode(encoder.params, jnp.asarray(image[None], jnp.float32))
        total = layers if total is None else jax.tree.map(jnp.add, total, layers)
    assert total is not None
    centred = [a - a.mean(axis=0) for a in total]
    return [jnp.linalg.svd(a, full_matrices=False)[2][:DIRECTIONS] for a in centred]


def paint_batch(model: InContextModel, batch: SampleBatch) -> Float[Array, "b q h w 3"]:
    """Paint all queries of a batch."""
    b, e = batch.example_slots.shape[:2]
    examples = _embed(model, batch.example_features, batch.example_images)
    slots = jnp.asarray(batch.example_slots).reshape(-1, *batch.example_slots.shape[2:])
    cache: Cache = model.encode(examples, slots, jnp.repeat(batch.colours, e, axis=0))
    cache = jax.tree.map(lambda a: a.reshape(b, -1, *a.shape[2:]), cache)
    queries = _embed(model, batch.query_features, batch.query_images)
    return model.decode(cache, queries).reshape(batch.query_images.shape)


def _embed(model: InContextModel, features: Array, images: Array) -> Embedding:
    """Return cached views as the encoder would give them; dtype is the model's."""
    dtype = model.mask_token[...].dtype
    flat = jnp.asarray(features).reshape(-1, *features.shape[2:]).astype(dtype)
    layers = jnp.split(flat, len(model.config.encoder.taps), axis=-1)
    return Embedding(images.reshape(-1, *images.shape[2:]).astype(dtype), tuple(layers))


def _target(batch: SampleBatch) -> Float[Array, "b q h w 3"]:
    slots = jnp.where(batch.query_slots == IGNORE, 0, batch.query_slots)
    return jax.vmap(lambda colours, labels: colours[labels])(batch.colours, slots)


@cache
def _painter(graphdef: nnx.GraphDef[InContextModel]) -> Callable[[PyTree, SampleBatch], Array]:
    return jax.jit(lambda params, batch: paint_batch(nnx.merge(graphdef, params), batch))


def score_batch(
    painted: Float[np.ndarray, "b q h w 3"], batch: SampleBatch
) -> Float[np.ndarray, " labels"]:
    """Return the IoU of every label that is in a query, each pixel having its nearest colour's."""
    found = []
    for sample, colours, slots in zip(painted, batch.colours, batch.query_slots, strict=True):
        used = int(slots[slots != IGNORE].max(initial=0)) + 1
        squares = ((sample[..., None, :] - colours[:used]) ** 2).sum(axis=-1)
        nearest = squares.argmin(axis=-1)
        for guess, truth in zip(nearest, slots, strict=True):
            known = truth != IGNORE
            for slot in sorted(set(np.unique(truth[known]).tolist()) - {0}):
                either = ((guess == slot) | (truth == slot)) & known
                both = (guess == slot) & (truth == slot)
                found.append(both.sum() / max(1, either.sum()))
    return np.asarray(found)


def draw_sheet(painted: list[np.ndarray], batches: list[SampleBatch]) -> Image.Image:
    """Draw samples as rows: example, its colours, query, what was painted, its colours."""
    rows = []
    for output, batch in zip(painted[:12], batches, strict=False):
        truth = np.asarray(_target(batch))[0, 0]
        shown = np.where(batch.example_slots[0, 0] == IGNORE, 0, batch.example_slots[0, 0])
        cells = [batch.example_images[0, 0], batch.colours[0][shown], batch.query_images[0, 0]]
        rows.append(np.concatenate([*cells, output[0, 0], truth], axis=1))
    width = min(row.shape[1] for row in rows)
    sheet = np.concatenate([row[:, :width] for row in rows])
    return Image.fromarray(((np.clip(sheet, -1, 1) + 1) * 127.5).astype(np.uint8))
