"""Architectures as frozen dataclasses: what decides the shapes of a model and nothing else."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from seggpt.errors import CheckpointError

Attention = Literal["mutual", "prefix"]
Activation = Literal["gelu", "gelu_tanh"]
SAMDecoder = Literal["sam", "hq", "efficient"]

# What tells the fields of other configs from a SegGPTConfig's, in files.
IN_CONTEXT_MODEL = "in-context"
SAM_MODEL = "sam"
ENCODER_MODEL = "encoder"
PROMPT_HEADS = "prompt-heads"
MASK_STRIDE = 2  # of the masks of heads on a frozen encoder, in pixels of what they see
_OF_RELATIVES = ("decoder", "stages", "pos_side")  # fields that SAM itself has no use for
_MOST_BLOCKS = 512
_MOST = 1 << 16  # of any number of a config


@dataclass(frozen=True, kw_only=True)
class HeadsConfig:
    """Heads for points, boxes and masks (`seggpt.prompts`).

    `image_size` is the side, in pixels, of the square whose places the heads know, `prompt_width`
    the width of all that they are made of, `mask_width` that of the layer that reads an earlier
    mask. The two-way transformer has `decoder_heads`, and `decoder_mlp` is the width of its MLPs'
    hidden layer.
    """

    image_size: int
    prompt_width: int
    mask_width: int = 16
    decoder_heads: int
    decoder_mlp: int

    def __post_init__(self) -> None:
        """Check sizes against each other.

        Raises:
            ValueError: naming the field and what it must be.
        """
        _check_positive(self, "image_size", "decoder_heads", "decoder_mlp")
        if self.prompt_width % 8 or self.prompt_width // 2 % self.decoder_heads:
            raise ValueError(
                f"prompt_width {self.prompt_width} is not a multiple of 8, or its half not of "
                f"decoder_heads {self.decoder_heads}"
            )
        if self.mask_width % 4:
            raise ValueError(f"mask_width {self.mask_width} is not a multiple of 4")


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
        _check_positive(self, "patch_size", "width", "depth", "heads")
        if self.depth > _MOST_BLOCKS:
            raise ValueError(f"depth {self.depth} is not in 1..{_MOST_BLOCKS}")
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
        return cls(**_values(cls, _own_fields(cls, fields, ENCODER_MODEL, "an encoder")))

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


@dataclass(frozen=True, kw_only=True)
class PromptHeadsConfig(HeadsConfig):
    """Heads on a frozen encoder (`seggpt.prompts.heads`).

    `depth` is the number of blocks over a picture's tokens before any prompt.
    """

    image_size: int = 448
    depth: int = 1
    prompt_width: int = 256
    decoder_heads: int = 8
    decoder_mlp: int = 512

    def __post_init__(self) -> None:
        """Check sizes against each other.

        Raises:
            ValueError: naming the field and what it must be.
        """
        super().__post_init__()
        if not 0 <= self.depth <= _MOST_BLOCKS:
            raise ValueError(f"depth {self.depth} is not in 0..{_MOST_BLOCKS}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them, and what they are of."""
        return {"model": PROMPT_HEADS, **vars(self)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "PromptHeadsConfig":
        """Build from `to_dict`'s output.

        Raises:
            ValueError: for a field that no heads have.
            CheckpointError: if they are of something else, or of a newer version.
        """
        return cls(**_values(cls, _own_fields(cls, fields, PROMPT_HEADS, "heads for prompts")))


@dataclass(frozen=True, kw_only=True)
class InContextConfig:
    """An in-context model on a frozen encoder (`seggpt.in_context.model`).

    `matchings` are the attentions that carry colours from examples to the query before any other
    layer: which of the encoder's tapped layers each compares (by its place in `encoder.taps`), and
    whether it starts blind to positions.
    """

    encoder: EncoderConfig
    width: int = 256
    depth: int = 4
    heads: int = 8
    matchings: tuple[tuple[int, bool], ...] = ((0, True), (1, True), (2, True), (1, False))
    prompts: PromptHeadsConfig | None = None

    def __post_init__(self) -> None:
        """Check sizes against each other.

        Raises:
            ValueError: naming the field and what it must be.
        """
        _check_positive(self, "width", "heads")
        if self.width % self.heads or self.width % 4:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads} and of 4")
        if not 0 <= self.depth <= _MOST_BLOCKS:
            raise ValueError(f"depth {self.depth} is not in 0..{_MOST_BLOCKS}")
        layers = len(self.encoder.taps)
        if not all(0 <= layer < layers for layer, _ in self.matchings):
            raise ValueError(f"matchings {self.matchings} are not of the encoder's {layers} layers")
        if not 1 <= len(self.matchings) <= _MOST_BLOCKS:
            raise ValueError(f"{len(self.matchings)} matchings are not 1..{_MOST_BLOCKS}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them, and which model they are of."""
        fields = {**vars(self), "encoder": self.encoder.to_dict()}
        fields["matchings"] = [list(matching) for matching in self.matchings]
        prompts = fields.pop("prompts")  # contexts are the same with and without heads
        fields |= {"prompts": prompts.to_dict()} if prompts else {}
        return {"model": IN_CONTEXT_MODEL, **fields}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "InContextConfig":
        """Build from `to_dict`'s output, which may come from anyone's file.

        Raises:
            ValueError: for a missing field, or one that no model has.
            CheckpointError: if they are another model's, or of a newer version.
        """
        own = _own_fields(cls, fields, IN_CONTEXT_MODEL, "an in-context model")
        own["encoder"] = EncoderConfig.from_dict(_checked_dict(own.get("encoder")))
        if (prompts := own.pop("prompts", None)) is not None:
            own["prompts"] = PromptHeadsConfig.from_dict(_checked_dict(prompts))
        return cls(**_values(cls, own))

    @classmethod
    def small(cls) -> "InContextConfig":
        """The shipped model, on DINOv2 ViT-S/14."""
        return cls(encoder=EncoderConfig.dinov2_small())


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
        _check_vit(self)
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
        return cls(**_values(cls, fields))

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


@dataclass(frozen=True, kw_only=True)
class SAMConfig(HeadsConfig):
    """SAM: a ViT over one square picture, a neck, and heads for points, boxes and masks.

    The mask decoder has two layers and four masks, as published.

    The rest is for SAM's relatives. `decoder` says whose heads these are (`seggpt.sam.hq`,
    `seggpt.sam.efficient_sam`). `stages` make the encoder a TinyViT (`seggpt.sam.tiny_vit`): width,
    depth, heads and window of each; `width`, `depth` and `heads` are then those of the last one.
    `pos_side` is the side of a table of positions that is resized, of a ViT without relative ones.
    """

    patch_size: int
    width: int
    depth: int
    heads: int
    mlp_ratio: float = 4.0
    window_size: int
    global_blocks: tuple[int, ...]
    prompt_width: int = 256
    decoder_heads: int = 8
    decoder_mlp: int = 2048
    decoder: SAMDecoder = "sam"
    stages: tuple[tuple[int, int, int, int], ...] = ()
    pos_side: int = 0  # 0: as many as patches

    def __post_init__(self) -> None:
        """Check sizes against each other.

        Raises:
            ValueError: naming the field and what it must be.
        """
        _check_vit(self)
        super().__post_init__()
        if not all(0 <= block < self.depth for block in self.global_blocks):
            raise ValueError(f"global_blocks {self.global_blocks} are not in 0..{self.depth - 1}")
        if self.stages:
            self._check_stages()
        elif self.decoder == "hq" and self.window_size and not self.global_blocks:
            raise ValueError("global_blocks () have no block without windows, which hq heads need")

    def _check_stages(self) -> None:
        if self.stages[-1][:3] != (self.width, self.depth, self.heads):
            raise ValueError(
                f"the last of stages {self.stages} is not of width {self.width}, depth "
                f"{self.depth} and heads {self.heads}"
            )
        for width, depth, heads, window in self.stages:
            if not 1 <= depth <= _MOST_BLOCKS or min(width, heads, window) < 1 or width % heads:
                raise ValueError(f"stages {self.stages} are not width, depth, heads and window")
        if len(self.stages) < 3 or self.patch_size != 1 << len(self.stages):
            raise ValueError(
                f"{len(self.stages)} stages are not those of a patch_size of {self.patch_size}"
            )

    @property
    def squeezes(self) -> bool:
        """Whether pictures fill the square whatever their aspect."""
        return self.decoder == "efficient"

    @property
    def grid(self) -> int:
        """Patches along a side of the picture."""
        return self.image_size // self.patch_size

    @property
    def vit(self) -> ViTConfig:
        """The image encoder's part, if it is no TinyViT."""
        side = self.pos_side or self.grid
        return ViTConfig(
            patch_size=self.patch_size,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            grid=(self.grid, self.grid),
            pos_grid=(side, side),
            mlp_ratio=self.mlp_ratio,
            rel_pos=not self.pos_side,
            window_size=self.window_size,
            global_blocks=self.global_blocks,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them, and which model they are of.

        Those of SAM's relatives are only there if they are not SAM's.
        """
        default = {f.name: f.default for f in dataclasses.fields(self) if f.name in _OF_RELATIVES}
        fields = {k: v for k, v in vars(self).items() if k not in default or v != default[k]}
        fields = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
        if self.stages:
            fields["stages"] = [list(stage) for stage in self.stages]
        return {"model": SAM_MODEL, **fields}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "SAMConfig":
        """Build from `to_dict`'s output.

        Raises:
            ValueError: for a missing field, or one that no model has.
            CheckpointError: if they are another model's, or of a newer version.
        """
        return cls(**_values(cls, _own_fields(cls, fields, SAM_MODEL, "a SAM")))

    @classmethod
    def sam_base(cls) -> "SAMConfig":
        """ViT-B (build_sam.py of SAM's authors, like the next two)."""
        return cls(
            image_size=1024,
            patch_size=16,
            width=768,
            depth=12,
            heads=12,
            window_size=14,
            global_blocks=(2, 5, 8, 11),
        )

    @classmethod
    def sam_large(cls) -> "SAMConfig":
        """ViT-L."""
        return dataclasses.replace(
            cls.sam_base(), width=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23)
        )

    @classmethod
    def sam_huge(cls) -> "SAMConfig":
        """ViT-H."""
        return dataclasses.replace(
            cls.sam_base(), width=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31)
        )

    @classmethod
    def mobile_sam(cls) -> "SAMConfig":
        """MobileSAM's TinyViT (mobile_sam/build_sam.py of its authors)."""
        stages = ((64, 2, 2, 7), (128, 2, 4, 7), (160, 6, 5, 14), (320, 2, 10, 7))
        width, depth, heads, _ = stages[-1]
        return dataclasses.replace(
            cls.sam_base(),
            width=width,
            depth=depth,
            heads=heads,
            window_size=0,
            global_blocks=(),
            stages=stages,
        )

    @classmethod
    def efficient_sam_tiny(cls) -> "SAMConfig":
        """EfficientSAM with ViT-T (build_efficient_sam.py of its authors, like the next one)."""
        return dataclasses.replace(
            cls.sam_base(),
            width=192,
            heads=3,
            window_size=0,
            global_blocks=(),
            decoder="efficient",
            pos_side=14,
        )

    @classmethod
    def efficient_sam_small(cls) -> "SAMConfig":
        """EfficientSAM with ViT-S."""
        return dataclasses.replace(cls.efficient_sam_tiny(), width=384, heads=6)


def _checked_dict(fields: Any) -> dict[str, Any]:
    if not isinstance(fields, dict):
        raise ValueError(f"{str(fields)[:40]!r} are not the fields of a part of a model")
    return fields


def _check_positive(config: object, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} {getattr(config, name)} is not above 0")


def _check_vit(config: "SegGPTConfig | SAMConfig") -> None:
    """Check the sizes of a ViT over square pictures."""
    _check_positive(config, "image_size", "patch_size", "width", "heads")
    if not 1 <= config.depth <= _MOST_BLOCKS:
        raise ValueError(f"depth {config.depth} is not in 1..{_MOST_BLOCKS}")
    if config.width % config.heads:
        raise ValueError(f"width {config.width} is not a multiple of heads {config.heads}")
    if config.image_size % config.patch_size:
        raise ValueError(
            f"image_size {config.image_size} is not a multiple of patch_size {config.patch_size}"
        )


def _own_fields(cls: type, fields: Mapping[str, Any], model: str, what: str) -> dict[str, Any]:
    """Return the fields of a config without the word for its model, if they are its own."""
    unknown = set(fields) - {"model"} - {field.name for field in dataclasses.fields(cls)}
    if fields.get("model") != model or unknown:
        named = ", ".join(sorted(unknown)[:3]) or "no model"
        raise CheckpointError(f"not the fields of {what} that this seggpt knows ({named})")
    return {name: value for name, value in fields.items() if name != "model"}


def _values(cls: type, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config's fields as Python has them; they may come from anyone's file."""
    types = get_type_hints(cls)
    values = {name: _tuples(value) for name, value in fields.items()}
    for name, value in values.items():
        if not _fits(value, types[name]):
            raise ValueError(f"{name} {str(value)[:40]!r} is not a model's")
    needed = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}
    if missing := sorted(needed - set(values)):
        raise ValueError(f"no field {missing[0]}")
    return values


def _tuples(value: Any) -> Any:
    """Turn lists into tuples, two deep: no field is deeper, and a file's may be without end."""
    if not isinstance(value, list):
        return value
    return tuple(tuple(v) if isinstance(v, list) else v for v in value)


def _fits(value: Any, wanted: Any) -> bool:
    """Tell whether a value is of a field's type, and no larger than any model's."""
    if get_origin(wanted) is Literal:
        return value in get_args(wanted)
    if get_origin(wanted) is tuple:
        args = get_args(wanted)
        if not isinstance(value, tuple) or (args[-1] is not Ellipsis and len(value) != len(args)):
            return False
        kinds = args[:1] * len(value) if args[-1] is Ellipsis else args
        return all(map(_fits, value, kinds))
    if wanted == PromptHeadsConfig | None:
        return isinstance(value, PromptHeadsConfig | None)
    if wanted in (int, float):
        return type(value) in (int, wanted) and 0 <= value <= _MOST
    return type(value) is wanted
