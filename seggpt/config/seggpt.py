"""SegGPT and Painter."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from seggpt.config.checks import check_vit, field_values
from seggpt.config.encoder import ENCODER_MODEL, Activation, ViTConfig
from seggpt.config.sam import SAM_MODEL
from seggpt.errors import CheckpointError

Attention = Literal["mutual", "prefix"]


@dataclass(frozen=True, kw_only=True)
class SegGPTConfig:
    """SegGPT or Painter: a ViT over two streams of square pictures, and a decoder to colours.

    `merge_block` is the last block that sees the image and the target stream apart; `taps` are
    the blocks whose outputs the decoder reads.
    """

    image_size: int
    patch_size: int
    width: int
    depth: int
    heads: int
    mlp_ratio: float = 4.0
    pos_grid: tuple[int, int]
    merge_block: int
    taps: tuple[int, ...]
    attention: Attention
    decoder_width: int
    rel_pos: bool = True
    type_tokens: bool = True
    activation: Activation = "gelu"

    def __post_init__(self) -> None:
        """Check sizes against each other.

        Raises:
            ValueError: naming the field and what it must be.
        """
        check_vit(self)
        if not all(0 <= tap < self.depth for tap in self.taps) or not self.taps:
            raise ValueError(f"taps {self.taps} are not blocks of a depth of {self.depth}")
        if not 0 <= self.merge_block <= min(self.taps):
            raise ValueError(f"merge_block {self.merge_block} is not in 0..{min(self.taps)}")

    @property
    def grid(self) -> int:
        """Patches along a side of one picture."""
        return self.image_size // self.patch_size

    @property
    def vit(self) -> ViTConfig:
        """The transformer's part: its tables span two stitched pictures."""
        return ViTConfig(
            patch_size=self.patch_size,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            grid=(2 * self.grid, self.grid),
            pos_grid=self.pos_grid,
            mlp_ratio=self.mlp_ratio,
            rel_pos=self.rel_pos,
            activation=self.activation,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "SegGPTConfig":
        """Build from `to_dict`'s output.

        Raises:
            ValueError: for an unknown or missing field, or one that no model has.
            CheckpointError: if they are a SAM's.
        """
        if fields.get("model") == SAM_MODEL:
            raise CheckpointError(
                "these weights are SAM's, not SegGPT's; load them with incontext.Predictor"
            )
        if fields.get("model") == ENCODER_MODEL:
            raise CheckpointError("these weights are an image encoder's, which paints nothing")
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"unknown fields {unknown} in a SegGPTConfig; known: {sorted(known)}")
        return cls(**field_values(cls, fields))

    @classmethod
    def tiny(cls, *, attention: Attention = "prefix") -> "SegGPTConfig":
        """Trainable on a two-core CPU in hours."""
        return cls(
            image_size=96,
            patch_size=4,
            width=128,
            depth=6,
            heads=4,
            pos_grid=(24, 12),
            merge_block=2,
            taps=(2, 3, 4, 5),
            attention=attention,
            decoder_width=16,
            rel_pos=False,
            activation="gelu_tanh",
        )

    @classmethod
    def small(cls, *, attention: Attention = "prefix") -> "SegGPTConfig":
        """ViT-S at 224 pixels: for one GPU in an hour or less."""
        return cls(
            image_size=224,
            patch_size=14,
            width=384,
            depth=12,
            heads=6,
            pos_grid=(32, 16),
            merge_block=2,
            taps=(2, 5, 8, 11),
            attention=attention,
            decoder_width=32,
            activation="gelu_tanh",
        )

    @classmethod
    def base(cls, *, attention: Attention = "prefix") -> "SegGPTConfig":
        """ViT-B at 448 pixels."""
        return cls(
            image_size=448,
            patch_size=16,
            width=768,
            depth=12,
            heads=12,
            pos_grid=(56, 28),
            merge_block=2,
            taps=(2, 5, 8, 11),
            attention=attention,
            decoder_width=64,
        )

    @classmethod
    def large(cls) -> "SegGPTConfig":
        """The published SegGPT: ViT-L at 448 pixels (models_seggpt.py of its authors)."""
        return cls(
            image_size=448,
            patch_size=16,
            width=1024,
            depth=24,
            heads=16,
            pos_grid=(14, 14),
            merge_block=2,
            taps=(5, 11, 17, 23),
            attention="mutual",
            decoder_width=64,
        )

    @classmethod
    def painter(cls) -> "SegGPTConfig":
        """The published Painter: SegGPT without type tokens."""
        return dataclasses.replace(cls.large(), type_tokens=False)
