"""The shipped heads' training: some hours on one CPU core, in two halves.

    python -m train --config configs/prompt_heads_cpu.py --data PATH --out runs/heads \
        --init runs/whole/weights.safetensors
    python -m train --config configs/prompt_heads_cpu.py --data PATH --out runs/closer \
        --init runs/heads/weights.safetensors --set view_size=72 --set batch_size=6 \
        --set optim.lr=4e-4 --set data.pairs.min_area=0.02 --set steps=1500

Fewer rounds than in `prompt_heads.py`, and views of 48, then 72 pixels that train for 96. What is
marked weighs more than the rest: with even weights masks come out too small.
"""

from dataclasses import replace

from configs import prompt_heads
from train.config import ClicksConfig, OptimConfig, TrainConfig


def get_config() -> TrainConfig:
    """Return the recipe."""
    return replace(
        prompt_heads.get_config(),
        optim=OptimConfig(lr=1e-3, warmup=100, ema=0.995),
        clicks=ClicksConfig(
            clicks=2,
            mask_rounds=0,
            boxes=0.65,
            box_noise=0.05,
            alpha=0.65,
            dice=2.0,
            classes=0.3,
        ),
        steps=3000,
        view_size=48,
        batch_size=8,
        checkpoint_every=500,
    )
