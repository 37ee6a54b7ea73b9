"""The task that trains heads for points, boxes and masks on a frozen in-context model."""

from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, PyTree
from PIL import Image

from data.config import PromptsConfig
from data.prompt_samples import PromptBatch, PromptSampler, PromptShape
from seggpt.encoder import Embedding
from seggpt.in_context.model import InContextModel
from seggpt.weights.keys import Keys
from train.config import ClicksConfig, TrainConfig
from train.prompting import Simulated, ask, simulate
from train.sharding import own_rows
from train.state import TrainState, match_places
from train.step import Loss, Metrics, apply_gradients
from train.tasks.cached import CachedBatches, CachedTask
from train.tasks.task import Step

SHEET_ROWS = 12


class PromptsTask(CachedTask):
    """Someone points at things in windows of cached views, and corrects what is found."""

    def __init__(self, config: TrainConfig, mesh: jax.sharding.Mesh) -> None:
        super().__init__(config, mesh)
        assert isinstance(config.data, PromptsConfig)
        assert config.clicks is not None
        if config.accumulate != 1:
            raise ValueError("accumulate: rounds of clicks are played on whole batches; set 1")
        self.data, self.clicks = config.data, config.clicks
        self.sampler = PromptSampler(self.cache, self.data.samples, seed=config.seed)
        self._check_rows({shape.pictures for shape in self.data.samples.shapes})
        self.held_out = None
        if self.held_out_cache:
            self.held_out = PromptSampler(self.held_out_cache, self.data.held_out_samples, seed=0)
        self._compiled = cache(self._compile)
        play = jax.jit(_play, static_argnums=(0, 1), static_argnames="shape")
        self._play = partial(play, self.graphdef, self.clicks)

    def init(self) -> PyTree:
        """Return the weights of `init`, with fresh heads if it has none.

        Raises:
            CheckpointError: if the arrays of `init` are not the model's.
        """
        params = self.read_init()
        if "prompts" not in params:
            params["prompts"] = self._fresh()
        return self.graft(params)

    def _fresh(self) -> PyTree:
        assert self.model.prompts is not None
        model = InContextModel(self.model, rngs=Keys(self.config.seed))
        heads = nnx.as_pure(nnx.state(model, nnx.Param))["prompts"]
        return match_places(heads, heads=self.model.prompts.decoder_heads)

    def rows(self, number: int) -> int:
        """Return how many windows the batch of a step has."""
        return self.data.samples.shapes[self.sampler.shape(number)].pictures

    def batches(self) -> CachedBatches[PromptBatch]:
        """Return this host's windows of all steps."""
        return CachedBatches(
            lambda number: self.sampler.batch(number, own_rows(self.rows(number))),
            steps=self.config.steps,
        )

    def names(self, number: int, batch: PromptBatch) -> list[str]:
        """Say of which views the windows of a step are."""
        del batch
        return self.sampler.named(number, own_rows(self.rows(number)))

    def step(self, number: int, optimizer: optax.GradientTransformation) -> Step:
        """Return the update, compiled for the shape of the step's batch."""
        return self._compiled(self.sampler.shape(number), optimizer)

    def _compile(self, shape: int, optimizer: optax.GradientTransformation) -> Step:
        play = partial(_play, self.graphdef, self.clicks, shape=self.data.samples.shapes[shape])

        def step(state: TrainState, batch: PromptBatch) -> tuple[TrainState, Metrics]:
            key = jax.random.fold_in(jax.random.key(self.config.seed), state.step)

            def loss_of(params: PyTree, batch: PromptBatch) -> Loss:
                out = play(params, batch, key)
                counts = jnp.asarray(batch.weight * batch.is_thing).reshape(-1)
                first, last = ((out.iou[i] * counts).sum() / counts.sum() for i in (0, -1))
                return out.loss, (counts.sum(), {"first_iou": first, "last_iou": last})

            return apply_gradients(state, loss_of, batch, self.config, optimizer)

        return jax.jit(step, donate_argnums=0)

    def evaluate(self, params: PyTree) -> tuple[dict[str, float], Callable[[], Image.Image]] | None:
        """Return the mean IoU of held-out things round by round, if there is a held-out cache."""
        if self.held_out is None:
            return None
        seen = []
        ious: dict[str, list[np.ndarray]] = {}
        for number in range(self.data.held_out_count):
            batch, key = self.held_out.batch(number), jax.random.key(number)
            which = self.held_out.shape(number)
            shape = self.data.held_out_samples.shapes[which]
            out = self._play(params, batch, key, shape=shape)
            kept = batch.is_thing.reshape(-1)
            for turn, row in enumerate(np.asarray(out.iou), start=1):
                ious.setdefault(f"iou_{turn}", []).append(row[kept])
            seen.append((batch, np.asarray(out.logits) > 0))
        scores = {name: float(np.mean(np.concatenate(rows))) for name, rows in ious.items()}
        return scores, partial(draw_sheet, seen)


def _play(
    graphdef: nnx.GraphDef[InContextModel],
    clicks: ClicksConfig,
    params: PyTree,
    batch: PromptBatch,
    key: Array,
    *,
    shape: PromptShape,
) -> Simulated:
    """Play all rounds of a batch."""
    model = nnx.merge(graphdef, params)
    assert model.prompts is not None
    heads = model.prompts
    flat = jnp.asarray(batch.features, jnp.float32)
    layers = tuple(jnp.split(flat, len(model.config.encoder.taps), axis=-1))
    seen = model.encode_for_prompts(Embedding(jnp.asarray(batch.images), layers))

    def decode(coords: Array, labels: Array, mask: Array | None) -> tuple[Array, Array]:
        origin = jnp.asarray(batch.origin)[0]
        return heads.decode(seen, coords, labels, mask=mask, origin=origin)

    return simulate(decode, ask(batch), clicks, shape=shape, key=key)


def draw_sheet(seen: list[tuple[PromptBatch, Bool[np.ndarray, "p h w"]]]) -> Image.Image:
    """Draw windows as rows: the picture, the first target, what was found at last."""
    rows = []
    for batch, found in seen[:SHEET_ROWS]:
        image = (batch.images[0, ::2, ::2] + 1) / 2
        cells = [image, *(_overlay(image, mask) for mask in (batch.truth[0, 0], found[0]))]
        rows.append(np.concatenate(cells, axis=1))
    return Image.fromarray((np.clip(np.concatenate(rows), 0, 1) * 255).astype(np.uint8))


def _overlay(
    image: Float[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w 3"]:
    return np.where(mask[..., None], 0.5 * image + (0.5, 0, 0), image)
