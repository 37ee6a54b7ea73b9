"""The shipped heads' training: an hour or two on one CPU core, in two parts.

    python -m train --config configs/prompt_heads_cpu.py --data PATH --out runs/heads \
        --init seggpt/pretrained/seggpt-tiny.safetensors

Fewer rounds than in `prompt_heads.py`, and views of 48 pixels that train for 96.
"""

from dataclasses import replace

from configs import prompt_heads
from train.config import ClicksConfig, OptimConfig, TrainConfig


def get_config() -> TrainConfig:
    """Return the recipe."""
    return replace(
        prompt_heads.get_config(),
        optim=OptimConfig(lr=1e-3, warmup=100, ema=0.995),
        clicks=ClicksConfig(clicks=2, mask_rounds=0, boxes=0.65, alpha=0.5, dice=3.0, classes=0.3),
        steps=3000,
        view_size=48,
        batch_size=8,
        checkpoint_every=500,
    )
