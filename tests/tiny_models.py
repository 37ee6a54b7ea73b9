"""The smallest architectures that tests can use, and weights for them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from incontext import Segmenter
from seggpt.config import Attention, SAMConfig, SegGPTConfig
from seggpt.model import SegGPT
from seggpt.sam import PromptedSegGPT
from seggpt.weights import save_weights
from seggpt.weights.encoder import load_encoder
from tests.tiny_encoder import fresh_in_context, save_tiny_encoder, tiny_in_context

SIDE = 16  # pixels of the models' squares, and of their masks


def tiny_seggpt(attention: Attention = "prefix", **changes: Any) -> SegGPTConfig:
    fields: dict[str, Any] = {"image_size": SIDE, "patch_size": 4, "width": 24, "heads": 3}
    fields |= {"depth": 2, "pos_grid": (8, 4), "merge_block": 0, "taps": (0, 1)}
    fields |= {"attention": attention, "decoder_width": 4, "lookup": attention == "prefix"}
    return SegGPTConfig(**(fields | changes))


def tiny_prompted(**changes: Any) -> SegGPTConfig:
    """Return a model with heads for prompts."""
    fields: dict[str, Any] = {"width": 8, "heads": 2, "prompt_width": 16, "mask_width": 8}
    fields |= {"prompt_blocks": 1, "fusion_blocks": 1, "decoder_heads": 2, "decoder_mlp": 12}
    return tiny_seggpt(**(fields | changes))


def tiny_sam(**changes: Any) -> SAMConfig:
    fields: dict[str, Any] = {"image_size": SIDE, "patch_size": 4, "width": 8, "heads": 2}
    fields |= {"depth": 1, "window_size": 0, "global_blocks": (), "prompt_width": 8}
    fields |= {"decoder_heads": 2, "decoder_mlp": 12}
    return SAMConfig(**(fields | changes))


def fresh_weights(config: SegGPTConfig, *, seed: int = 0) -> Any:
    """Return an in-context model's first weights."""
    return nnx.as_pure(nnx.state(SegGPT(config, rngs=nnx.Rngs(seed)), nnx.Param))


def random_weights(config: SegGPTConfig, *, size: float = 0.5) -> dict[str, Any]:
    """Return weights none of which is 0, of the in-context model and the heads that it has."""
    models: list[Callable[[], Any]] = [lambda: SegGPT(config.without_heads, rngs=nnx.Rngs(0))]
    if config.prompt_width:
        models.insert(0, lambda: PromptedSegGPT(config, rngs=nnx.Rngs(0)))
    shapes = {}
    for make in models:
        shapes |= nnx.as_pure(nnx.state(nnx.eval_shape(make), nnx.Param))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: size * rng.normal(size=a.shape).astype(a.dtype), shapes)


def tiny_segmenter(attention: Attention = "prefix", seed: int = 0, **changes: Any) -> Segmenter:
    config = tiny_seggpt(attention, **changes)
    return Segmenter(config, fresh_weights(config, seed=seed))


def save_in_context(folder: Path) -> Path:
    """Write an in-context model that knows nothing and the encoder that it stands on."""
    config, encoder = tiny_in_context(), folder / "encoder.safetensors"
    save_tiny_encoder(encoder)
    metadata = {"encoder": str(encoder), "encoder_sha256": load_encoder(encoder).sha256}
    path = folder / "in_context.safetensors"
    save_weights(path, fresh_in_context(config), config=config.to_dict(), metadata=metadata)
    return path


def in_context_segmenter(folder: Path, *, size: int = 112) -> Segmenter:
    return Segmenter.from_pretrained(save_in_context(folder), size=size)
