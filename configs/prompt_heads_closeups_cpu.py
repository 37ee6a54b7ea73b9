"""The last part of the shipped heads' training: what is looked at for a box or a click.

    python -m train --config configs/prompt_heads_closeups_cpu.py --data PATH \
        --out runs/closeups --init runs/closer/weights.safetensors
    python -m train.average runs/closer/weights.safetensors runs/closeups/weights.safetensors \
        -o runs/heads.safetensors

Three samples in four are things cut out at their own resolution, with what is around them; the
rest are whole pictures as before. Boxes gain from it and clicks lose; the mean keeps both.
"""

from dataclasses import replace

from configs import prompt_heads_cpu
from data.config import AugmentConfig
from train.config import OptimConfig, TrainConfig


def get_config() -> TrainConfig:
    """Return the recipe."""
    config = prompt_heads_cpu.get_config()
    assert config.clicks is not None
    return replace(
        config,
        data=replace(
            config.pictures,
            pack_size=128,
            sprites=1000,
            closeups=600,
            pairs=replace(config.pictures.pairs, weights={"closeups": 10.0}, min_area=0.03),
            augment=AugmentConfig(scale=(0.4, 1.0), stitch=0.0),
        ),
        optim=OptimConfig(lr=5e-4, warmup=30, ema=0.995),
        clicks=replace(config.clicks, clicks=1, boxes=0.7, box_noise=0.02),
        steps=2200,
        view_size=72,
        batch_size=6,
        checkpoint_every=200,
    )
