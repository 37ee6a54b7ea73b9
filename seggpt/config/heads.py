"""Heads for points, boxes and masks."""

from dataclasses import dataclass
from typing import Any

from seggpt.config.checks import MOST_BLOCKS, check_positive, field_values, own_fields

PROMPT_HEADS = "prompt-heads"  # tells their fields from models', in files
MASK_STRIDE = 2  # of the masks of heads on a frozen encoder, in pixels of what they see


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
        check_positive(self, "image_size", "decoder_heads", "decoder_mlp")
        if self.prompt_width % 8 or self.prompt_width // 2 % self.decoder_heads:
            raise ValueError(
                f"prompt_width {self.prompt_width} is not a multiple of 8, or its half not of "
                f"decoder_heads {self.decoder_heads}"
            )
        if self.mask_width % 4:
            raise ValueError(f"mask_width {self.mask_width} is not a multiple of 4")


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
        if not 0 <= self.depth <= MOST_BLOCKS:
            raise ValueError(f"depth {self.depth} is not in 0..{MOST_BLOCKS}")

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
        return cls(**field_values(cls, own_fields(cls, fields, PROMPT_HEADS, "heads for prompts")))
