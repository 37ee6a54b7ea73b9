"""An in-context model on a frozen encoder: examples are encoded once, a query is painted by them.

Matching (`seggpt.in_context.matching`) says from the start where the query looks like the examples.
Two streams as in SegGPT refine it: the examples' tokens are features plus embedded colours, the
query's are features plus what matching found; the query sees itself and the examples (prefix
attention), the examples never see the query. A decoder with skips from the pixels paints.
Colours and images are RGB in -1..1.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from seggpt.blocks import Block, examples_through, queries_through
from seggpt.canvas import from_patches, to_patches
from seggpt.config import InContextConfig
from seggpt.encoder import Embedding
from seggpt.in_context.matching import (
    cell_colours,
    label_fractions,
    match,
    pixel_statistics,
    pool,
    rarity,
)
from seggpt.in_context.pixel_decoder import CELLS, Decoder
from seggpt.layers import Dense, place_waves, unit
from seggpt.palette import paint
from seggpt.prompts.heads import PromptEmbedding, PromptHeads
from seggpt.resize import resize
from seggpt.stem import FINE, Pyramid, Stem

START_SCALE = 30.0  # cosine to logits, of the encoder's layers; chosen without training
START_BALANCE = 0.5
# The Gaussian kernel over mean and deviation of colours; trained, these hardly move.
PIXEL_WEIGHTS = np.array([1.0, 1.0, 1.0, 0.7, 0.7, 0.7], np.float32)
PIXEL_SHARPNESS = 18.0


class Cache(NamedTuple):
    """Encoded examples: m tokens of all of them, and four cells for each in what is `fine`.

    Attributes:
        layers: For each matching the tokens' features as it compares them, (b, m, c).
        colours: Of 2 x 2 cells a token, (b, m, 12).
        fractions: The share of each label in a token's pixels, (b, m, k).
        fine: Features of the fine matching, (b, 4 m, c).
        pixels: Mean and deviation of the pixels' colours, (b, 4 m, 6).
        fine_colours: (b, 4 m, 12).
        fine_fractions: (b, 4 m, k).
        blocks: The keys and values of each block, (b, m, heads, hd) both.

    Matching mode has the labels' shares in place of colours, (b, m, 4 k), and nothing finer.
    """

    layers: tuple[Array, ...]
    colours: Array
    fractions: Array
    fine: Array
    pixels: Array
    fine_colours: Array
    fine_fractions: Array
    blocks: tuple[tuple[Array, Array], ...]


CELL_FIELDS = ("fine", "pixels", "fine_colours", "fine_fractions")


def join_caches(caches: list[Cache]) -> Cache:
    """Return one cache of the examples of several, in any sizes."""
    return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *caches)


def thin_cache(cache: Cache, tokens: int) -> Cache:
    """Keep at most so many of a cache's tokens, drawn evenly with a fixed seed, and their cells.

    A query's time grows with the tokens it sees, and a mean over a sample of them changes little.
    """
    total = cache.colours.shape[1]
    if total <= tokens:
        return cache
    rng = np.random.default_rng(0)
    kept = np.sort(rng.choice(total, tokens, replace=False))
    cells = np.sort(rng.choice(4 * total, 4 * tokens, replace=False))
    fine = {name: getattr(cache, name)[:, cells] for name in CELL_FIELDS}
    coarse = {name: a for name, a in cache._asdict().items() if name not in CELL_FIELDS}
    return Cache(**jax.tree.map(lambda a: a[:, kept], coarse), **fine)


def cache_to_tree(cache: Cache) -> dict[str, Any]:
    """Return a cache as nested dicts, as files hold it."""
    tree = dict(cache._asdict())
    tree["layers"] = dict(enumerate(cache.layers))
    tree["blocks"] = {
        i: dict(zip(("keys", "values"), kv, strict=True)) for i, kv in enumerate(cache.blocks)
    }
    return {name: part for name, part in tree.items() if not isinstance(part, dict) or part}


def cache_from_tree(tree: Mapping[Any, Any]) -> Cache:
    """Undo `cache_to_tree`.

    Raises:
        LookupError, TypeError, ValueError: if the tree is not one of a cache.
    """
    fields = dict(tree)
    layers, blocks = fields.pop("layers"), fields.pop("blocks", {})
    return Cache(
        layers=tuple(layers[i] for i in range(len(layers))),
        blocks=tuple((blocks[i]["keys"], blocks[i]["values"]) for i in range(len(blocks))),
        **fields,
    )


class InContextModel(nnx.Module):
    """Everything that is trained on top of a frozen encoder."""

    def __init__(self, config: InContextConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        d, layer = config.width, config.encoder.width
        feats, found = len(config.encoder.taps) * layer, len(config.matchings) + 2
        self.image = Dense(feats, d, rngs=rngs)
        self.target = Dense(3 * config.encoder.patch_size**2, d, rngs=rngs)
        self.prior = Dense(found * CELLS, d, rngs=rngs)
        self.mask_token, self.example_token = (nnx.Param(jnp.zeros(d)) for _ in range(2))
        # Queries and keys share a matrix that starts as the identity: cosine of features.
        self.matchings = nnx.List(Matching(layer) for _ in config.matchings)
        self.stem = Stem(rngs=rngs)
        self.fine_pixels = Dense(FINE + 3, FINE, rngs=rngs)
        self.fine_tokens = Dense(feats, FINE, rngs=rngs)
        self.fine_scale = nnx.Param(jnp.asarray(math.log(15.0)))
        self.fine_balance = nnx.Param(jnp.asarray(START_BALANCE))
        self.blocks = nnx.List(Block(d, config.heads, rngs=rngs) for _ in range(config.depth))
        self.decoder = Decoder(config, rngs=rngs)
        heads = config.prompts and PromptHeads(config.prompts, config.encoder, rngs=rngs)
        self.prompts: PromptHeads | None = nnx.data(heads)

    @property
    def dtype(self) -> jnp.dtype:
        """What is computed in."""
        return self.mask_token[...].dtype

    def encode_for_prompts(self, image: Embedding) -> PromptEmbedding:
        """Read encoded images for the heads for points, boxes and masks, which must be there."""
        assert self.prompts is not None
        return self.prompts.encode(image, self.stem(image.image))

    def encode(
        self,
        examples: Embedding,
        class_ids: Int[Array, "b h w"],
        colours: Float[Array, "b k 3"],
    ) -> Cache:
        """Encode examples of one size, each by itself.

        `class_ids` say which row of `colours` each pixel is painted with; 0 is the background.
        """
        fractions = label_fractions(class_ids, colours.shape[1] - 1, self._fine_grid(examples))
        return self._encode(examples, jax.vmap(paint)(class_ids, colours), fractions)

    def encode_soft(
        self,
        examples: Embedding,
        shares: Float[Array, "b h w k"],
        colours: Float[Array, "b k 3"],
    ) -> Cache:
        """Encode examples whose pixels are each of several labels in part, such as found ones."""
        target = jnp.einsum("bhwk,bkc->bhwc", shares, colours)
        return self._encode(examples, target, pool(shares, self._fine_grid(examples)))

    def _fine_grid(self, image: Embedding) -> tuple[int, int]:
        rows, columns = image.grid(self.config.encoder.patch_size)
        return 2 * rows, 2 * columns

    def _encode(
        self,
        examples: Embedding,
        target: Float[Array, "b h w 3"],
        fractions: Float[Array, "b gh gw k"],
    ) -> Cache:
        grid = examples.grid(self.config.encoder.patch_size)
        fine_grid = self._fine_grid(examples)
        feats = jnp.concatenate(examples.layers, axis=-1)
        pyramid = self.stem(examples.image)
        tokens = self.image(feats) + self.target(to_patches(target, self.config.encoder.patch_size))
        tokens = tokens + place_waves(grid, self.config.width) + self.example_token[...]
        return Cache(
            layers=tuple(
                matching.project(examples.layers[layer])
                for matching, (layer, _) in zip(self.matchings, self.config.matchings, strict=True)
            ),
            colours=cell_colours(target, grid),
            fractions=pool(fractions, grid).reshape(len(target), -1, fractions.shape[-1]),
            fine=self._fine(pyramid, examples.image, feats, grid),
            pixels=pixel_statistics(examples.image, fine_grid),
            fine_colours=cell_colours(target, fine_grid),
            fine_fractions=fractions.reshape(len(target), -1, fractions.shape[-1]),
            blocks=examples_through(self.blocks, tokens),
        )

    def decode(self, cache: Cache, query: Embedding) -> Float[Array, "q h w 3"]:
        """Paint queries of one size; each row of the cache serves as many queries in turn."""
        grid = query.grid(self.config.encoder.patch_size)
        feats = jnp.concatenate(query.layers, axis=-1)
        pyramid = self.stem(query.image)
        priors, fine, pixels = self.priors(cache, query, pyramid, feats, grid)
        fine_grid = self._fine_grid(query)
        maps = [from_patches(prior, 2, shape=grid) for prior in priors]
        fine_maps = [from_patches(prior, 2, shape=fine_grid) for prior in (fine, pixels)]
        found = [*priors, *(cell_colours(m, grid) for m in fine_maps)]
        tokens = self.image(feats) + self.prior(jnp.concatenate(found, axis=-1))
        tokens = tokens + self.mask_token[...] + place_waves(grid, self.config.width)
        tokens = queries_through(self.blocks, tokens, cache.blocks)
        fine_cells = jnp.concatenate([fine, pixels], axis=-1)
        cells = fine_cells.reshape(len(tokens), *fine_grid, 2 * CELLS)
        return self.decoder(tokens, pyramid, cells, maps, fine_maps, grid=grid)

    def priors(
        self,
        cache: Cache,
        query: Embedding,
        pyramid: Pyramid,
        feats: Float[Array, "q n f"],
        grid: tuple[int, int],
    ) -> tuple[list[Float[Array, "q n 12"]], Float[Array, "q m 12"], Float[Array, "q m 12"]]:
        """Return the colours found by each layer's matching, the fine one and the pixels'."""
        rows, count = len(cache.colours), len(feats)
        shares = cache.fractions.mean(axis=1)
        rare = jnp.log(rarity(cache.fractions, shares))
        fine_rare = jnp.log(rarity(cache.fine_fractions, shares))

        def fold(a: Array) -> Array:
            return a.reshape(rows, -1, a.shape[-1])

        def unfold(a: Array) -> Array:
            return a.reshape(count, -1, CELLS)

        priors = []
        for matching, keys, (layer, _) in zip(
            self.matchings, cache.layers, self.config.matchings, strict=True
        ):
            asked = fold(matching.project(query.layers[layer]))
            priors.append(unfold(matching(asked, keys, cache.colours, rare)))
        asked, keys = _centred(fold(self._fine(pyramid, query.image, feats, grid)), cache.fine)
        fine = match(
            asked * jnp.exp(self.fine_scale[...]),
            keys,
            cache.fine_colours,
            self.fine_balance[...] * fine_rare,
        )
        fine_grid = (2 * grid[0], 2 * grid[1])
        pixels = _match_pixels(fold(pixel_statistics(query.image, fine_grid)), cache, fine_rare)
        return priors, unfold(fine), unfold(pixels)

    def _fine(
        self,
        pyramid: Pyramid,
        image: Float[Array, "b h w 3"],
        feats: Float[Array, "b n f"],
        grid: tuple[int, int],
    ) -> Float[Array, "b m c"]:
        """Return what the fine matching compares, at half a token: pixels, and what they are."""
        shape = (2 * grid[0], 2 * grid[1])
        seen = jnp.concatenate([resize(pyramid.fine, shape), 2 * resize(image, shape)], axis=-1)
        tokens = self.fine_tokens(feats)
        means = resize(tokens.reshape(len(feats), *grid, -1), shape)
        both = jnp.concatenate([self.fine_pixels(seen), means], axis=-1)
        return both.reshape(len(feats), -1, both.shape[-1])


class Matching(nnx.Module):
    """Cosine attention over one layer's tokens: its matrix, its scale and its balance."""

    def __init__(self, width: int) -> None:
        self.kernel = nnx.Param(jnp.eye(width))
        self.scale = nnx.Param(jnp.asarray(math.log(START_SCALE)))
        self.balance = nnx.Param(jnp.asarray(START_BALANCE))

    def project(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Return what is compared of tokens, queries' and keys' alike."""
        return tokens @ self.kernel[...]

    def __call__(
        self,
        query: Float[Array, "b n d"],
        keys: Float[Array, "b m d"],
        colours: Float[Array, "b m 12"],
        rare: Float[Array, "b m"],
    ) -> Float[Array, "b n 12"]:
        """Return the colours at what looks alike; features are taken relative to the keys' mean."""
        q, k = _centred(query, keys)
        return match(q * jnp.exp(self.scale[...]), k, colours, self.balance[...] * rare)


def _match_pixels(
    pixels: Float[Array, "b m 6"], cache: Cache, rare: Float[Array, "b m2"]
) -> Float[Array, "b m 12"]:
    """Match by colour alone, with a Gaussian kernel; nothing here is learned."""
    asked, keys = (a.astype(jnp.float32) * PIXEL_WEIGHTS for a in (pixels, cache.pixels))
    weights = START_BALANCE * rare - PIXEL_SHARPNESS * jnp.square(keys).sum(axis=-1)
    return match(2 * PIXEL_SHARPNESS * asked, keys, cache.fine_colours, weights)


def _centred(
    query: Float[Array, "b n d"], keys: Float[Array, "b m d"]
) -> tuple[Float[Array, "b n d"], Float[Array, "b m d"]]:
    """Return both relative to the keys' mean, at length 1."""
    mean = keys.mean(axis=1, keepdims=True)
    return unit(query - mean), unit(keys - mean)
