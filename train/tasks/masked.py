"""Masked-image pretraining of a plain ViT (MAE, arXiv 2111.06377)."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, PyTree
from PIL import Image

from data.augment import make_views
from data.pictures import Source
from seggpt.attention import attend
from seggpt.blocks import ImageBlock
from seggpt.canvas import denormalize, from_patches, normalize, to_patches
from seggpt.encoder import Encoder
from seggpt.errors import CheckpointError
from seggpt.layers import Dense, place_waves
from seggpt.vit import Block, LayerNorm
from seggpt.weights import save_weights
from seggpt.weights.encoder import load_encoder
from seggpt.weights.keys import Keys
from train.config import MaskedConfig, TrainConfig
from train.state import TrainState
from train.step import Loss, Metrics, apply_gradients, compute_dtype
from train.tasks.pictures import PicturesTask
from train.tasks.task import Step

EPSILON = 1e-6  # of the variance of a patch's pixels
HELD_OUT = 32  # pictures that a look sees
SHEET_ROWS = 8


class Painted(NamedTuple):
    """What was hidden of images: patches relative to their own mean, in units of deviation."""

    patches: Array  # as painted, (b, m, p)
    truth: Array
    hidden: Array  # their numbers in the image, (b, m)


class MaskedAutoencoder(nnx.Module):
    """A ViT that sees a share of an image's patches, and a small one that paints the others."""

    def __init__(self, config: MaskedConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        patch, width = config.encoder.patch_size, config.decoder_width
        self.encoder = Encoder(config.encoder, rngs=rngs)
        self.norm = LayerNorm(config.encoder.width, rngs=rngs)
        self.to_decoder = Dense(config.encoder.width, width, rngs=rngs)
        self.mask_token = nnx.Param(0.02 * jax.random.normal(rngs.params(), (width,)))
        self.blocks = nnx.List(
            ImageBlock(width, config.decoder_heads, rngs=rngs) for _ in range(config.decoder_depth)
        )
        self.decoder_norm = LayerNorm(width, rngs=rngs)
        self.head = Dense(width, 3 * patch**2, rngs=rngs)

    def __call__(
        self, image: Float[Array, "b h w 3"], order: Int[Array, "b n"], *, remat: bool = False
    ) -> Painted:
        """Hide the patches at the end of `order` and paint them; `image` is normalised."""
        patch = self.config.encoder.patch_size
        shape = (image.shape[1] // patch, image.shape[2] // patch)
        kept = max(1, round(self.config.kept * order.shape[1]))
        seen = self._encode(image, order[:, :kept], shape, remat=remat)
        seen = self.to_decoder(self.norm(seen))
        hidden = order[:, kept:]
        blank = jnp.broadcast_to(self.mask_token[...], (*hidden.shape, seen.shape[-1]))
        tokens = jnp.concatenate([seen, blank.astype(seen.dtype)], axis=1)
        tokens = tokens + jnp.asarray(place_waves(shape, tokens.shape[-1]))[order]
        for block in self.blocks:
            tokens = (jax.checkpoint(block) if remat else block)(tokens)
        painted = self.head(self.decoder_norm(tokens[:, kept:])).astype(jnp.float32)
        truth = jnp.take_along_axis(to_patches(image, patch), hidden[..., None], axis=1)
        return Painted(painted, _relative(truth.astype(jnp.float32)), hidden)

    def _encode(
        self,
        image: Float[Array, "b h w 3"],
        kept: Int[Array, "b k"],
        shape: tuple[int, int],
        *,
        remat: bool,
    ) -> Float[Array, "b k d"]:
        vit = self.encoder.vit
        tokens = vit.embed(image) + vit.positions(shape)
        tokens = jnp.take_along_axis(tokens, kept[..., None], axis=1)
        prefix = vit.prefix_tokens[...].astype(tokens.dtype)
        prefix = jnp.broadcast_to(prefix, (len(tokens), *prefix.shape))
        tokens = jnp.concatenate([prefix, tokens], axis=1)
        for block in vit.blocks:
            run = partial(_run_block, block)
            tokens = (jax.checkpoint(run) if remat else run)(tokens)
        return tokens[:, vit.prefix :]


def _run_block(block: Block, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
    """Let all of an image's tokens that are there see each other."""
    return block.finish(tokens, attend(*block.heads(tokens)))


def _relative(patches: Float[Array, "b m p"]) -> Float[Array, "b m p"]:
    mean = patches.mean(axis=-1, keepdims=True)
    return (patches - mean) / jnp.sqrt(patches.var(axis=-1, keepdims=True) + EPSILON)


class MaskedTask(PicturesTask):
    """Views of all pictures, whatever is marked in them."""

    def __init__(self, config: TrainConfig, mesh: jax.sharding.Mesh) -> None:
        super().__init__(config, mesh)
        assert isinstance(config.model, MaskedConfig)
        self.model, self.depth = config.model, config.model.encoder.depth
        self.seen = whole_pictures(self.held_out, size=self.model.image_size)
        self._paint = jax.jit(make_masked_painter(config))
        self._compiled = cache(self._compile)

    def init(self) -> PyTree:
        """Return random weights, with the encoder of `init` if there is one.

        Raises:
            CheckpointError: if it is none, or not the recipe's.
        """
        params = init_masked(self.model, jax.random.key(self.config.seed))
        if self.config.init:
            encoder = load_encoder(self.config.init)
            if encoder.config != self.model.encoder:
                raise CheckpointError(f"{self.config.init}: not the recipe's model.encoder")
            params["encoder"] = encoder.params
        return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)

    def step(self, number: int, optimizer: optax.GradientTransformation) -> Step:
        """Return the update."""
        del number
        return self._compiled(optimizer)

    def _compile(self, optimizer: optax.GradientTransformation) -> Any:
        return jax.jit(make_masked_step(self.config, optimizer), donate_argnums=0)

    def evaluate(self, params: PyTree) -> tuple[dict[str, float], Callable[[], Image.Image]]:
        """Paint what is hidden of held-out pictures, the same at every look."""
        order = draw_orders(jax.random.key(0), self.seen, self.model.encoder.patch_size)
        found = self._paint(params, self.seen, order)
        loss = float(jnp.square(found.patches - found.truth).mean())
        draw = partial(draw_sheet, self.seen, found, patch=self.model.encoder.patch_size)
        return {"held_out_loss": loss}, draw

    def save(self, path: Path, params: PyTree, metadata: dict[str, str]) -> None:
        """Write the encoder alone, which others start from."""
        about = metadata | {"source": "masked-image pretraining"}
        save_weights(path, params["encoder"], config=self.model.encoder.to_dict(), metadata=about)


def init_masked(config: MaskedConfig, key: Array) -> PyTree:
    """Draw a model's weights."""
    return nnx.as_pure(nnx.state(MaskedAutoencoder(config, rngs=Keys(key)), nnx.Param))


def make_masked_painter(config: TrainConfig) -> Callable[[PyTree, Array, Array], Painted]:
    """Return what paints the patches at the end of orders, (b, n), of normalised images."""
    assert isinstance(config.model, MaskedConfig)
    model = config.model
    abstract = nnx.eval_shape(lambda: MaskedAutoencoder(model, rngs=Keys(0)))
    graphdef, _ = nnx.split(abstract, nnx.Param)
    dtype = compute_dtype(config)

    def paint(params: PyTree, images: Array, order: Array) -> Painted:
        net = nnx.merge(graphdef, jax.tree.map(lambda a: a.astype(dtype), params))
        return net(images.astype(dtype), order, remat=config.remat)

    return paint


def draw_orders(key: Array, images: Float[Array, "*b h w 3"], patch: int) -> Int[Array, "*b n"]:
    """Draw an order of the patches of every image."""
    *batch, h, w, _ = images.shape
    patches = (h // patch) * (w // patch)
    return jnp.argsort(jax.random.uniform(key, (*batch, patches)), axis=-1)


def make_masked_step(
    config: TrainConfig, optimizer: optax.GradientTransformation
) -> Callable[[TrainState, dict[str, Array]], tuple[TrainState, Metrics]]:
    """Return the update: every view of a sample is an image of its own."""
    assert isinstance(config.model, MaskedConfig)
    size, patch = config.model.image_size, config.model.encoder.patch_size
    paint = make_masked_painter(config)

    def step(state: TrainState, batch: dict[str, Array]) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        key_views, key_order = jax.random.split(key)
        views = make_views(batch, key=key_views, size=size, config=config.pictures)
        orders = draw_orders(key_order, views.images, patch)

        def loss_of(params: PyTree, part: tuple[Array, Array]) -> Loss:
            flat = [a.reshape(-1, *a.shape[2:]) for a in part]
            found = paint(params, *flat)
            return jnp.square(found.patches - found.truth).mean(), (jnp.ones(()), {})

        return apply_gradients(state, loss_of, (views.images, orders), config, optimizer)

    return step


def whole_pictures(sources: Sequence[Source], *, size: int) -> Float[Array, "b h w 3"]:
    """Return some whole pictures of all sources, normalised."""
    places = [(source, number) for source in sources for number in range(len(source))]
    chosen = places[:: max(1, len(places) // HELD_OUT)][:HELD_OUT]
    images = np.stack([source.read(number, size).image for source, number in chosen])
    return normalize(jnp.asarray(images, jnp.float32) / 255)


def draw_sheet(images: Float[Array, "b h w 3"], found: Painted, *, patch: int) -> Image.Image:
    """Draw pictures as rows: what is seen, what was painted beside that, the truth."""
    cells = np.asarray(to_patches(images, patch))
    hidden = np.asarray(found.hidden)[..., None]
    own = np.take_along_axis(cells, hidden, axis=1)
    mean, spread = own.mean(axis=-1, keepdims=True), own.std(axis=-1, keepdims=True)
    seen, painted = cells.copy(), cells.copy()
    np.put_along_axis(seen, hidden, 0.0, axis=1)
    np.put_along_axis(painted, hidden, np.asarray(found.patches) * spread + mean, axis=1)
    shape = (images.shape[1] // patch, images.shape[2] // patch)
    columns = [
        np.asarray(denormalize(from_patches(jnp.asarray(part[:SHEET_ROWS]), patch, shape=shape)))
        for part in (seen, painted, cells)
    ]
    sheet = np.concatenate([np.concatenate(column) for column in columns], axis=1)
    return Image.fromarray((np.clip(sheet, 0, 1) * 255).astype(np.uint8))
