"""Matching mode for `Segmenter`: an encoder alone, with all that works with contexts."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32

from incontext.examples.engine import Passes
from incontext.examples.fingerprint import fingerprint
from incontext.examples.in_context_engine import SIZE, InContextEngine
from incontext.examples.in_context_programs import Painter
from incontext.examples.passes import join_passes
from incontext.examples.positions import find_directions
from incontext.options import Dtype
from seggpt.config import MatchingConfig
from seggpt.in_context.matching_model import MatchingModel
from seggpt.weights.encoder import LoadedEncoder

LEAST = 1e-6  # of a label's share, where it is divided by


class MatchingEngine(InContextEngine):
    """A frozen encoder whose features are matched; nothing was trained on it."""

    model: ClassVar[Callable[..., Painter]] = MatchingModel

    def __init__(
        self,
        config: MatchingConfig,
        *,
        encoder: LoadedEncoder,
        device: Any,
        dtype: Dtype,
        size: int = SIZE,
    ) -> None:
        directions = {"directions": find_directions(encoder)}
        super().__init__(config, directions, encoder=encoder, device=device, dtype=dtype, size=size)
        # Directions differ by a rounding from one machine to the next; contexts may travel.
        self.fingerprint = fingerprint(config.to_dict(), {}, encoder.sha256)

    def _combine(
        self, painted: Float32[np.ndarray, "passes h w c"], passes: Passes
    ) -> Float32[np.ndarray, "k h w"]:
        """Return the probabilities that the shares of one picture's passes mean."""
        shares = np.maximum(painted.transpose(0, 3, 1, 2), LEAST)
        pairs = zip(shares, passes, strict=True)
        return join_passes([found[: len(part) + 1] for found, part in pairs])


def load_matching(
    config: MatchingConfig,
    params: Mapping[Any, Any],
    metadata: Mapping[str, str],
    *,
    device: Any,
    dtype: Dtype,
    size: int | None = None,
) -> MatchingEngine:
    """Return an encoder as a segmenter; `params` are the encoder's.

    Raises:
        PromptError: if it cannot see pictures at that size.
    """
    encoder = LoadedEncoder(
        config=config.encoder,
        params=dict(params),
        metadata=dict(metadata),
        sha256=metadata["encoder_sha256"],
    )
    chosen = SIZE if size is None else size
    return MatchingEngine(config, encoder=encoder, device=device, dtype=dtype, size=chosen)
