"""The heads for points, boxes and masks of the shipped model, on the features of a cache.

    python -m train --config configs/prompt_heads.py --data CACHE --out runs/prompts \
        --set init=seggpt-small.safetensors --set data.held_out=HELD

The in-context model stays as it is: its matching and decoder do not change, and its features of
the pixels serve both (`configs/in_context_small.py` says how it and the cache are made).
"""

from dataclasses import replace

from data.config import PromptsConfig
from seggpt.config import InContextConfig, PromptHeadsConfig
from train.config import ClicksConfig, OptimConfig, TrainConfig

IN_CONTEXT = (
    "image",
    "target",
    "prior",
    "mask_token",
    "example_token",
    "matchings",
    "stem",
    "fine_pixels",
    "fine_tokens",
    "fine_scale",
    "fine_balance",
    "blocks",
    "decoder",
)


def get_config() -> TrainConfig:
    """Return the recipe."""
    return TrainConfig(
        model=replace(InContextConfig.small(), prompts=PromptHeadsConfig()),
        data=PromptsConfig(),
        clicks=ClicksConfig(),
        frozen=IN_CONTEXT,
        optim=OptimConfig(lr=5e-4, warmup=100, weight_decay=0.03, ema=0.998),
        steps=4000,
        log_every=20,
        eval_every=100,
        sheet_every=500,
        checkpoint_every=100,
    )
