"""Pretrained plain ViTs, and vision transformers in general."""

from dataclasses import dataclass
from typing import Any, Literal

from seggpt.config.checks import MOST_BLOCKS, check_positive, field_values, own_fields

ENCODER_MODEL = "encoder"  # tells its fields from other models', in files
Activation = Literal["gelu", "gelu_tanh", "swiglu"]
Positions = Literal["table", "rotary"]

# Where the blocks that are read end, as shares of the depth: 6, 9 and 11 of twelve.
_TAPS, _TWELVE = (6, 9, 11), 12
_HEAD_WIDTH = 64
# Left out of files where they have their defaults: contexts know a model by its fields.
_LATER = ("positions", "activation", "mlp_ratio", "norm_epsilon")


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """A vision transformer with decomposed relative position and optional windows.

    `grid` is the height and width in patches that the relative tables are made for (a canvas of
    two pictures for SegGPT), `pos_grid` the one of the absolute table. Other grids resize them.
    DINOv2 adds a class token, registers in some sizes, and a scale after attention and MLP; its
    largest size and some of DINOv3 have a gated MLP, `swiglu`. DINOv3 turns queries and keys by
    their places (`rotary`) and has no table.
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
    rotary: bool = False
    norm_epsilon: float = 1e-6

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

    `pos_grid` is the grid of the table of positions; others resize it, and rotary positions have
    none. `taps` count blocks from 0. `ENCODERS` has the published ones.
    """

    patch_size: int = 14
    width: int
    depth: int
    heads: int
    pos_grid: tuple[int, int] = (37, 37)  # 518 pixels, at which DINOv2 was made
    registers: int = 0
    taps: tuple[int, ...]
    positions: Positions = "table"
    activation: Activation = "gelu"
    mlp_ratio: float = 4.0  # width of the MLPs' hidden layer as a multiple of `width`
    norm_epsilon: float = 1e-6

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
        if self.positions == "rotary" and self.width // self.heads % 4:
            raise ValueError(f"heads of {self.width // self.heads} are not a multiple of 4")
        if round(self.width * self.mlp_ratio) < 1:
            raise ValueError(f"mlp_ratio {self.mlp_ratio} leaves nothing of {self.width}")

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
            mlp_ratio=self.mlp_ratio,
            activation=self.activation,
            rotary=self.positions == "rotary",
            norm_epsilon=self.norm_epsilon,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them, and that they are an encoder's."""
        own = {
            k: v for k, v in vars(self).items() if k not in _LATER or v != getattr(type(self), k)
        }
        fields = {k: list(v) if isinstance(v, tuple) else v for k, v in own.items()}
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
    def dinov2(cls, *, width: int, depth: int, **others: Any) -> "EncoderConfig":
        """DINOv2 (arXiv 2304.07193); with `registers` of 4, arXiv 2309.16588."""
        heads = width // _HEAD_WIDTH
        return cls(width=width, depth=depth, heads=heads, taps=choose_taps(depth), **others)

    @classmethod
    def dinov3(cls, *, width: int, depth: int, **others: Any) -> "EncoderConfig":
        """DINOv3 (arXiv 2508.10104), in its sizes with patches of 16 pixels."""
        others |= {"patch_size": 16, "registers": 4, "positions": "rotary", "norm_epsilon": 1e-5}
        return cls.dinov2(width=width, depth=depth, **others)


def choose_taps(depth: int) -> tuple[int, ...]:
    """Return the blocks that are read of an encoder: the same shares of any depth."""
    return tuple(-(-depth * tap // _TWELVE) - 1 for tap in _TAPS)


_DINOV2: dict[str, dict[str, Any]] = {
    "small": {"width": 384, "depth": 12},
    "base": {"width": 768, "depth": 12},
    "large": {"width": 1024, "depth": 24},
    "giant": {"width": 1536, "depth": 40, "activation": "swiglu", "mlp_ratio": 8 / 3},
}
_DINOV3: dict[str, dict[str, Any]] = {
    "small": {"width": 384, "depth": 12},
    "small-plus": {"width": 384, "depth": 12, "activation": "swiglu"},
    "base": {"width": 768, "depth": 12},
    "large": {"width": 1024, "depth": 24},
    "huge-plus": {"width": 1280, "depth": 32, "activation": "swiglu"},
}
ENCODERS: dict[str, EncoderConfig] = {
    **{f"dinov2-{size}": EncoderConfig.dinov2(**fields) for size, fields in _DINOV2.items()},
    **{
        f"dinov2-{size}-registers": EncoderConfig.dinov2(**fields, registers=4)
        for size, fields in _DINOV2.items()
    },
    **{f"dinov3-{size}": EncoderConfig.dinov3(**fields) for size, fields in _DINOV3.items()},
}
