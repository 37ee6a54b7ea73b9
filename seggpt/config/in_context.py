"""The in-context model on a frozen encoder."""

from dataclasses import dataclass
from typing import Any

from seggpt.config.checks import MOST_BLOCKS, check_positive, checked_dict, field_values, own_fields
from seggpt.config.encoder import ENCODERS, EncoderConfig
from seggpt.config.heads import PromptHeadsConfig

IN_CONTEXT_MODEL = "in-context"  # tells its fields from other models', in files


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
        check_positive(self, "width", "heads")
        if self.width % self.heads or self.width % 4:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads} and of 4")
        if not 0 <= self.depth <= MOST_BLOCKS:
            raise ValueError(f"depth {self.depth} is not in 0..{MOST_BLOCKS}")
        layers = len(self.encoder.taps)
        if not all(0 <= layer < layers for layer, _ in self.matchings):
            raise ValueError(f"matchings {self.matchings} are not of the encoder's {layers} layers")
        if not 1 <= len(self.matchings) <= MOST_BLOCKS:
            raise ValueError(f"{len(self.matchings)} matchings are not 1..{MOST_BLOCKS}")

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
        own = own_fields(cls, fields, IN_CONTEXT_MODEL, "an in-context model")
        own["encoder"] = EncoderConfig.from_dict(checked_dict(own.get("encoder")))
        if (prompts := own.pop("prompts", None)) is not None:
            own["prompts"] = PromptHeadsConfig.from_dict(checked_dict(prompts))
        return cls(**field_values(cls, own))

    @classmethod
    def small(cls) -> "InContextConfig":
        """The shipped model, on DINOv2 ViT-S/14."""
        return cls(encoder=ENCODERS["dinov2-small"])
