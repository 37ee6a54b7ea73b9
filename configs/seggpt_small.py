"""ViT-S at 224 pixels, for one accelerator. Not yet run at full length.

python -m train --config configs/seggpt_small.py --data PATH --out runs/seggpt
"""

from data.config import AugmentConfig, DataConfig
from seggpt.config import SegGPTConfig
from train.config import LossConfig, OptimConfig, TrainConfig


def get_config() -> TrainConfig:
    """Return the recipe."""
    return TrainConfig(
        model=SegGPTConfig.small(),
        data=DataConfig(pack_size=288, sprites=6000, augment=AugmentConfig(tries=8)),
        optim=OptimConfig(lr=5e-4, warmup=1000, ema=0.9995),
        loss=LossConfig(beta=(0.5, 0.05), balance=(1.0, 0.5)),
        steps=40_000,
        batch_size=32,
        checkpoint_every=2000,
        eval_every=1000,
        sheet_every=4000,
    )
