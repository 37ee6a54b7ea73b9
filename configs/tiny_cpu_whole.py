"""The second half of seggpt-tiny's training: larger views of whole pictures.

    python -m train --config configs/tiny_cpu_whole.py --data PATH --out runs/whole \
        --init runs/tiny/weights.safetensors

Small crops teach looks fast, but not where in a picture things are. Half a picture at 72 pixels
has patches of the same scale as a whole one at 96, for a third of the time. The lookup stays as
the first half left it, which halves the rest. `train/NOTES.md` says what each half brings.
"""

from dataclasses import replace

from configs import tiny_cpu
from data.config import AugmentConfig, PairsConfig
from train.config import LossConfig, OptimConfig, TrainConfig


def get_config() -> TrainConfig:
    """Return the recipe."""
    first = tiny_cpu.get_config()
    augment = AugmentConfig(scale=(0.5, 1.0), upside_down=0.03, transpose=0.0, stitch=0.1)
    return replace(
        first,
        data=replace(first.data, pairs=PairsConfig(two_views=(0.15, 0.1)), augment=augment),
        optim=OptimConfig(lr=6e-4, warmup=50, ema=0.998),
        loss=LossConfig(beta=(0.2, 0.05), balance=(0.8, 0.5)),
        steps=2600,
        view_size=72,
        batch_size=4,
        seed=1,
        frozen=("lookup",),
    )
