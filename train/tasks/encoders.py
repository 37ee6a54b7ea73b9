"""A recipe on another encoder, and where its weights find that again."""

import contextlib
import logging
from dataclasses import replace
from pathlib import Path

from data.config import FeaturesConfig, PromptsConfig
from data.feature_samples import SamplesConfig
from data.prompt_samples import PromptSamplesConfig
from seggpt.config import InContextConfig
from seggpt.pretrained import ENCODER
from seggpt.weights.encoder import read_encoder_config
from train.config import TrainConfig

Samples = SamplesConfig | PromptSamplesConfig

logger = logging.getLogger(__name__)


def stand_on_encoder(config: TrainConfig, recipe: TrainConfig) -> TrainConfig:
    """Return what a recipe became, with a model on the encoder that its data is of.

    Windows keep their size in pixels. A model whose encoder was set too stays as it is.

    Raises:
        CheckpointError: if there is no such encoder.
    """
    model, before, data = config.model, recipe.model, config.data
    if not isinstance(model, InContextConfig) or not isinstance(before, InContextConfig):
        return config
    assert isinstance(data, FeaturesConfig | PromptsConfig)
    assert isinstance(recipe.data, FeaturesConfig | PromptsConfig)
    if data.encoder == recipe.data.encoder or model.encoder != before.encoder:
        return config
    encoder = read_encoder_config(data.encoder)
    patches = before.encoder.patch_size, encoder.patch_size
    samples = (_same_pixels(own, patches) for own in (data.samples, data.held_out_samples))
    data = replace(data, **dict(zip(("samples", "held_out_samples"), samples, strict=True)))
    return replace(config, data=data, model=replace(model, encoder=encoder))


def _same_pixels(samples: Samples, patches: tuple[int, int]) -> Samples:
    """Return samples whose windows are as large in patches of another size."""
    old, new = patches
    shapes = tuple(replace(s, side=max(1, s.side * old // new)) for s in samples.shapes)
    return replace(samples, shapes=shapes)


def name_encoder(path: Path, folder: Path) -> str:
    """Return what weights in a folder shall call their encoder, and link to it from there.

    The link lies where loading looks for it. Without one the encoder is given when they are loaded.
    """
    if path == ENCODER:
        return ENCODER.stem
    link = folder / path.name
    with contextlib.suppress(OSError):  # it is there, or the system has no links
        link.symlink_to(path.resolve())
    if not link.exists():
        logger.warning("%s: no link to the encoder; name it when the weights are loaded", link)
    return path.name
