"""The first half of seggpt-tiny's training: an hour or two on two CPU cores.

    python -m train --config configs/tiny_cpu.py --data PATH --out runs/tiny

Four pixels a patch, so that a patch shows one thing; attention that starts as a search for what
looks alike; a lookup of colours at half the pixels; colours balanced and a soft loss first. Views
of 48 pixels cut out of the pictures train for whole pictures of 96. `train/NOTES.md` says why.
"""

from data.config import AugmentConfig, DataConfig, PairsConfig
from seggpt.config import SegGPTConfig
from train.config import LossConfig, OptimConfig, TrainConfig


def get_config() -> TrainConfig:
    """Return the recipe."""
    return TrainConfig(
        model=SegGPTConfig.tiny(),
        data=DataConfig(
            pack_size=128,
            sprites=2000,
            pairs=PairsConfig(two_views=(0.5, 0.15)),
            augment=AugmentConfig(scale=(0.15, 1.0)),
        ),
        optim=OptimConfig(lr=1e-3, warmup=100, ema=0.998),
        loss=LossConfig(beta=(0.5, 0.1), balance=(1.0, 0.6)),
        steps=5000,
        view_size=48,
        batch_size=8,
        shots=((1, 0.7), (2, 0.15), (3, 0.15)),
    )
