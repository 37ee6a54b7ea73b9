"""Pretrained plain ViTs, and vision transformers in general."""

from dataclasses import dataclass
from typing import Any, Literal

from seggpt.config.checks import MOST_BLOCKS, check_positive, field_values, own_fields

ENCODER_MODEL = "encoder"  # tells its fields from other models', in files
Activation = Literal["gelu", "gelu_tanh"]


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """A vision transformer with decomposed relative position and optional windows.

    `grid` is the height and width in patches that the relative tables are made for (a canvas of
    two pictures for SegGPT), `pos_grid` the one of the absolute table. Other grids resize them.
    DINOv2 adds a class token, registers in some sizes, and a scale after attention and MLP.
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
    class_token: bool = False
    registers: int = 0  # further tokens without a place, after the class token
    layer_scale: bool = False

    def __post_init__(self) -> None:
        """Check that the heads divide the width.

        Raises:
            ValueError: if they do not.
        """
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """A pretrained plain ViT under an in-context model, and the blocks that are read.

    `pos_grid` is the grid of the table of positions; others resize it. `taps` count blocks from 0.
    """

    patch_size: int = 14
    width: int
    depth: int
    heads: int
    pos_grid: tuple[int, int] = (37, 37)  # 518 pixels, at which DINOv2 was made
    registers: int = 0
    taps: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check sizes against each other.

        Raises:
            ValueError: naming the field and what it must be.
        """
        check_positive(self, "patch_size", "width", "depth", "heads")
        if self.depth > MOST_BLOCKS:
            raise ValueError(f"depth {self.depth} is not in 1..{MOST_BLOCKS}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if min(self.pos_grid) < 1:
            raise ValueError(f"pos_grid {self.pos_grid} is not above 0")
        if self.registers < 0:
            raise ValueError(f"registers {self.registers} is below 0")
        if not self.taps or not all(0 <= tap < self.depth for tap in self.taps):
            raise ValueError(f"taps {self.taps} are not blocks of a depth of {self.depth}")

    @property
    def vit(self) -> ViTConfig:
        """The transformer."""
        return ViTConfig(
            patch_size=self.patch_size,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            grid=self.pos_grid,
            pos_grid=self.pos_grid,
            rel_pos=False,
            class_token=True,
            registers=self.registers,
            layer_scale=True,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them, and that they are an encoder's."""
        fields = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}
        return {"model": ENCODER_MODEL, **fields}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "EncoderConfig":
        """Build from `to_dict`'s output.

        Raises:
            ValueError: for a missing field, or one that no encoder has.
            CheckpointError: if they are another model's, or of a newer version.
        """
        return cls(**field_values(cls, own_fields(cls, fields, ENCODER_MODEL, "an encoder")))

    @classmethod
    def dinov2_small(cls, *, registers: int = 0) -> "EncoderConfig":
        """DINOv2 ViT-S/14 (arXiv 2304.07193); with `registers` of 4, arXiv 2309.16588."""
        return cls(width=384, depth=12, heads=6, registers=registers, taps=(5, 8, 10))

    @classmethod
    def dinov2_base(cls, *, registers: int = 0) -> "EncoderConfig":
        """DINOv2 ViT-B/14."""
        return cls(width=768, depth=12, heads=12, registers=registers, taps=(5, 8, 10))

    @classmethod
    def dinov2_large(cls, *, registers: int = 0) -> "EncoderConfig":
        """DINOv2 ViT-L/14; the same shares of its depth are read."""
        return cls(width=1024, depth=24, heads=16, registers=registers, taps=(11, 17, 21))
