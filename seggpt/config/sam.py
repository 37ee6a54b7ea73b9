"""SAM and its relatives."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from seggpt.config.checks import MOST_BLOCKS, check_vit, field_values, own_fields
from seggpt.config.encoder import ViTConfig
from seggpt.config.heads import HeadsConfig

SAM_MODEL = "sam"  # tells its fields from other models', in files
_OF_RELATIVES = ("decoder", "stages", "pos_side")  # fields that SAM itself has no use for

SAMDecoder = Literal["sam", "hq", "efficient"]


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
        check_vit(self)
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
            if not 1 <= depth <= MOST_BLOCKS or min(width, heads, window) < 1 or width % heads:
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
        return cls(**field_values(cls, own_fields(cls, fields, SAM_MODEL, "a SAM")))

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
