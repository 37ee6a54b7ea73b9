"""The paper's use of tuning: one prompt for the 150 classes of ADE20K.

    seggpt tune ade20k/images ade20k/masks -o ade20k.safetensors --config configs/tune_ade20k.py \
        --names ade20k/info.json --model seggpt_vit_large.pth --minutes 1440

The folder is the plain layout of `data/folder.py`, with some 2,000 of the training pictures: all
are kept in memory, 1.8 MB each. Masks hold class numbers 1..150, 0 is what no class covers. All
classes are painted together, each in its colour of the palette, into one learned picture and its
target (SegGPT paper, section 4.6; its rates, steps and colours are not published). Not yet run at
full length: it needs an accelerator.
"""

from incontext.tune.config import TuneConfig


def get_config() -> TuneConfig:
    """Return the recipe."""
    return TuneConfig(
        learn="pixels",
        labels_per_pass=150,
        steps=20_000,
        batch_size=16,
        micro_batch=4,
        views=256,
        hold_out=200,
        remat=True,
    )
