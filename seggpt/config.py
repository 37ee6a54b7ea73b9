"""Architectures as frozen dataclasses: what decides the shapes of a model and nothing else."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

Attention = Literal["mutual", "prefix"]
Activation = Literal["gelu", "gelu_tanh"]

CELL = 2  # pixels along a side of what the lookup compares


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """A vision transformer with decomposed relative position and optional windows.

    `grid` is the height and width in patches that the relative tables are made for (a canvas of
    two pictures for SegGPT), `pos_grid` the one of the absolute table. Other grids resize them.
    """

    patch_size: int
    width: int
    depth: int
    heads: int
    grid: tuple[int, int]
    pos_grid: tuple[int, int]
    mlp_ratio: float = 4.0
    rel_pos: bool = True
    window_size: int = 0  # 0: every block is global
    global_blocks: tuple[int, ...] = ()  # the blocks without windows, if window_size > 0
    activation: Activation = "gelu"

    def __post_init__(self) -> None:
        """Check that the heads divide the width.

        Raises:
            ValueError: if they do not.
        """
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")


@dataclass(frozen=True, kw_only=True)
class SegGPTConfig:
    """SegGPT or Painter: a ViT over two streams, and a decoder to colours.

    `merge_block` is the last block that sees the image and the target stream apart; `taps` are
    the blocks whose outputs the decoder reads. `decoder_image` also shows the decoder the query's
    pixels and `lookup` what its pixels find among the examples' (`seggpt.lookup`, for prefix
    attention); the published models do neither.
    """

    image_size: int
    patch_size: int
    width: int
    depth: int
    heads: int
    pos_grid: tuple[int, int]
    merge_block: int
    taps: tuple[int, ...]
    attention: Attention
    decoder_width: int
    mlp_ratio: float = 4.0
    rel_pos: bool = True
    type_tokens: bool = True
    activation: Activation = "gelu"
    decoder_image: bool = False
    lookup: bool = False

    def __post_init__(self) -> None:
        """Check sizes against each other.

        Raises:
            ValueError: naming the field and what it must be.
        """
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        if not all(0 <= tap < self.depth for tap in self.taps) or not self.taps:
            raise ValueError(f"taps {self.taps} are not blocks of a depth of {self.depth}")
        if not 0 <= self.merge_block <= min(self.taps):
            raise ValueError(f"merge_block {self.merge_block} is not in 0..{min(self.taps)}")
        if self.lookup and (self.attention != "prefix" or self.patch_size % CELL):
            raise ValueError(
                f"lookup needs prefix attention and a patch_size that is a multiple of {CELL}, "
                f"not {self.attention} and {self.patch_size}"
            )

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
            ValueError: for an unknown field.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"unknown fields {unknown} in a SegGPTConfig; known: {sorted(known)}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }
        return cls(**values)

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
            decoder_image=True,
            lookup=attention == "prefix",
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
            decoder_image=True,
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
