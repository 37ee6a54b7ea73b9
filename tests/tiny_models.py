"""The smallest architectures that tests can use, and weights for them."""

from pathlib import Path
from typing import Any

from flax import nnx

from incontext import Segmenter
from seggpt.config import Attention, PromptHeadsConfig, SAMConfig, SegGPTConfig
from seggpt.model import SegGPT
from seggpt.weights import save_weights
from seggpt.weights.encoder import load_encoder
from tests.tiny_encoder import fresh_in_context, save_tiny_encoder, tiny_in_context

SIDE = 16  # pixels of the models' squares, and of their masks
TINY_HEADS = PromptHeadsConfig(
    image_size=112, prompt_width=16, mask_width=4, decoder_heads=2, decoder_mlp=12
)


def tiny_seggpt(attention: Attention = "prefix", **changes: Any) -> SegGPTConfig:
    fields: dict[str, Any] = {"image_size": SIDE, "patch_size": 4, "width": 24, "heads": 3}
    fields |= {"depth": 2, "pos_grid": (8, 4), "merge_block": 0, "taps": (0, 1)}
    fields |= {"attention": attention, "decoder_width": 4}
    return SegGPTConfig(**(fields | changes))


def tiny_sam(**changes: Any) -> SAMConfig:
    fields: dict[str, Any] = {"image_size": SIDE, "patch_size": 4, "width": 8, "heads": 2}
    fields |= {"depth": 1, "window_size": 0, "global_blocks": (), "prompt_width": 8}
    fields |= {"decoder_heads": 2, "decoder_mlp": 12}
    return SAMConfig(**(fields | changes))


def fresh_weights(config: SegGPTConfig, *, seed: int = 0) -> Any:
    """Return an in-context model's first weights."""
    return nnx.as_pure(nnx.state(SegGPT(config, rngs=nnx.Rngs(seed)), nnx.Param))


def tiny_segmenter(attention: Attention = "prefix", seed: int = 0, **changes: Any) -> Segmenter:
    config = tiny_seggpt(attention, **changes)
    return Segmenter(config, fresh_weights(config, seed=seed))


def save_in_context(folder: Path, *, prompts: PromptHeadsConfig | None = None) -> Path:
    """Write an in-context model that knows nothing and the encoder that it stands on."""
    config, encoder = tiny_in_context(prompts=prompts), folder / "encoder.safetensors"
    save_tiny_encoder(encoder)
    metadata = {"encoder": str(encoder), "encoder_sha256": load_encoder(encoder).sha256}
    path = folder / ("prompted.safetensors" if prompts else "in_context.safetensors")
    save_weights(path, fresh_in_context(config), config=config.to_dict(), metadata=metadata)
    return path


def in_context_segmenter(
    folder: Path, *, size: int = 112, prompts: PromptHeadsConfig | None = None
) -> Segmenter:
    return Segmenter.from_pretrained(save_in_context(folder, prompts=prompts), size=size)
