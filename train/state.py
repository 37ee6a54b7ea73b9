"""The state of a training run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import PyTree

from seggpt.config import SegGPTConfig
from seggpt.errors import CheckpointError
from seggpt.model import SegGPT
from seggpt.resize import bicubic_resize, linear_resize
from seggpt.weights.encoder import LoadedEncoder
from seggpt.weights.files import load_weights
from seggpt.weights.keys import Keys
from seggpt.weights.tree import flatten


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """Step, weights, their running average and the optimiser's moments.

    JAX also makes it of shapes, shardings and placeholders, so no field is of arrays alone.
    """

    step: PyTree
    params: PyTree
    ema: PyTree
    moments: PyTree


def split_model(config: SegGPTConfig) -> nnx.GraphDef[SegGPT]:
    """Return a model's structure without making its weights."""
    return nnx.split(nnx.eval_shape(lambda: SegGPT(config, rngs=Keys(0))), nnx.Param)[0]


def init_params(config: SegGPTConfig, key: jax.Array) -> PyTree:
    """Draw a model's weights, a tree of arrays."""
    return nnx.as_pure(nnx.state(SegGPT(config, rngs=Keys(key)), nnx.Param))


def load_params(config: SegGPTConfig, path: Path) -> PyTree:
    """Read a weights file as the weights of a model, which may have another `image_size`.

    Raises:
        CheckpointError: if the file is damaged, or lacks, adds or reshapes an array.
    """
    wanted = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    shapes = {name: array.shape for name, array in flatten(wanted).items()}
    given = flatten(load_weights(path).params)
    for name in shapes.keys() & given.keys():
        if name.endswith(("rel_pos_h", "rel_pos_w")):  # as attention resizes them on the fly
            given[name] = linear_resize(jnp.asarray(given[name]), shapes[name][0])
    own = {name: array.shape for name, array in given.items()}
    if wrong := sorted({name for name, _ in shapes.items() ^ own.items()}):
        raise CheckpointError(
            f"{path}: {len(wrong)} arrays are not those of the recipe's model: "
            f"{', '.join(wrong[:5])}; use the model that the file was made with"
        )
    return jax.tree_util.tree_map_with_path(
        lambda path, _: np.asarray(given[jax.tree_util.keystr(path, simple=True, separator=".")]),
        wanted,
    )


def graft_encoder(params: PyTree, encoder: LoadedEncoder, config: SegGPTConfig) -> PyTree:
    """Return fresh weights with an encoder's under both streams.

    Scales after attention and MLP go into the layers before them; tokens without a place are left
    out. Each half of the canvas, a picture of its own, gets the encoder's positions.

    Raises:
        CheckpointError: if the encoder's shapes are not the model's.
    """
    own, vit = encoder.config.vit, config.vit
    names = ("patch_size", "width", "depth", "heads", "mlp_ratio")
    wrong = [name for name in names if getattr(own, name) != getattr(vit, name)]
    if wrong or "pos_embed" not in encoder.params["vit"]:
        raise CheckpointError(
            f"an encoder with other {', '.join(wrong) or 'positions'} than the model's; "
            "set the model's own, or start from another"
        )
    given, start = encoder.params["vit"], dict(params["vit"])
    rows, columns = config.pos_grid
    table = jnp.asarray(given["pos_embed"])
    halves = [bicubic_resize(table, (half, columns)) for half in (rows - rows // 2, rows // 2)]
    start |= {"patch_embed": given["patch_embed"], "pos_embed": jnp.concatenate(halves)}
    start["blocks"] = {
        index: _without_scales(block, given["blocks"][index])
        for index, block in start["blocks"].items()
    }
    return params | {"vit": start}


def _without_scales(fresh: PyTree, given: PyTree) -> PyTree:
    """Return an encoder's block whose scales are in its layers, with the model's own tables."""

    def scaled(layer: PyTree, scale: np.ndarray) -> PyTree:
        return {name: np.asarray(a) * scale for name, a in layer.items()}

    attn = {"proj": scaled(given["attn"]["proj"], given["scale1"]), "qkv": given["attn"]["qkv"]}
    mlp = {"fc1": given["mlp"]["fc1"], "fc2": scaled(given["mlp"]["fc2"], given["scale2"])}
    norms = {name: given[name] for name in ("norm1", "norm2")}
    return norms | {"attn": fresh["attn"] | attn, "mlp": mlp}


def match_queries_keys(params: PyTree) -> PyTree:
    """Return fresh weights whose attention starts as a search for what looks alike.

    Keys get the queries' matrices, both wide enough to matter from the first step: a query finds
    the example's patches of its own looks and reads what they were painted. Learning that by
    chance is the slow part of small runs (compare "mimetic initialisation", arXiv 2305.09828).
    """

    def match(path: tuple[object, ...], leaf: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if not name.endswith("attn/qkv/kernel"):
            return leaf
        query, _, value = jnp.split(leaf, 3, axis=1)
        query = query * (leaf.shape[0] ** -0.5 / query.std())
        return jnp.concatenate([query, query, value], axis=1)

    return jax.tree_util.tree_map_with_path(match, params)


HEADS = ("prompt_encoder", "mask_decoder")
TOKENS = ("not_a_point", "background", "foreground", "first_corner", "second_corner")
LOOKS = ("to_image", "to_tokens", "final_attn")  # attention between a prompt and a picture
SHARP = 8.0  # the logit with which a fresh prompt sees its own place


def match_places(params: PyTree, *, heads: int) -> PyTree:
    """Return fresh heads for prompts that start by looking where the prompt is.

    Queries and keys get one matrix, so that a point finds the patch at its own place; labels are
    faint beside places at first; and layers neither shrink nor grow what goes through them.
    """

    def match(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        names = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
        if names[0] not in HEADS:
            return leaf
        if names[-1] in TOKENS:
            return 0.1 * leaf
        if names[-1] != "kernel":
            return leaf
        fan_in = leaf.size // leaf.shape[-1]
        if names[-2] in ("q", "k") and names[-3] in LOOKS:
            shared = jax.random.normal(jax.random.key(0), leaf.shape)
            # The squares of a place's sines and cosines add up to half their number.
            return shared * (2 * SHARP / fan_in / (leaf.shape[1] / heads) ** 0.5) ** 0.5
        return leaf * (fan_in**-0.5 / leaf.std())

    return jax.tree_util.tree_map_with_path(match, params)


def init_state(params: PyTree, optimizer: optax.GradientTransformation) -> TrainState:
    """Start a run from weights."""
    ema = jax.tree.map(jnp.copy, params)
    return TrainState(jnp.zeros((), jnp.int32), params, ema, optimizer.init(params))
