"""Matching mode: nothing but an encoder's features."""

from dataclasses import dataclass
from typing import Any

from seggpt.config.encoder import EncoderConfig

MATCHING_MODEL = "matching"


@dataclass(frozen=True, kw_only=True)
class MatchingConfig:
    """Matching without training (`seggpt.in_context.matching_model`), on all tapped layers."""

    encoder: EncoderConfig

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them, and which model they are of."""
        return {"model": MATCHING_MODEL, "encoder": self.encoder.to_dict()}
