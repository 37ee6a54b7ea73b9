"""The model that the package ships: about 45 minutes on two CPU cores.

    python -m train --config configs/tiny_cpu.py --data PATH --out runs/tiny

Four pixels a patch, so that a patch shows one thing; attention that starts as a search for what
looks alike; colours balanced and a soft loss first. `train/NOTES.md` says why.
"""

from data.config import DataConfig
from seggpt.config import SegGPTConfig
from train.config import LossConfig, OptimConfig, TrainConfig


def get_config() -> TrainConfig:
    """Return the recipe."""
    return TrainConfig(
        model=SegGPTConfig.tiny(),
        data=DataConfig(pack_size=128, sprites=2000),
        optim=OptimConfig(lr=1e-3, warmup=100, ema=0.995),
        loss=LossConfig(beta=(0.5, 0.1), balance=(1.0, 0.6)),
        steps=2400,
        batch_size=8,
        shots=((1, 0.7), (2, 0.15), (3, 0.15)),
    )
