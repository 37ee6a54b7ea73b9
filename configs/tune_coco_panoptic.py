"""The semantic half of a COCO panoptic prompt: 80 things and 53 kinds of stuff, painted together.

    seggpt tune coco/images coco/masks -o coco.safetensors --config configs/tune_coco_panoptic.py \
        --names coco/info.json --model seggpt_vit_large.pth --minutes 1440

The folder is the plain layout of `data/folder.py`: masks hold class numbers 1..133. Painter finds
instances with a second prompt whose targets are coloured by place (`incontext.painter.instances`);
this recipe does not learn that one. Not yet run at full length: it needs an accelerator.
"""

from dataclasses import replace

from configs import tune_ade20k
from incontext.tune.config import TuneConfig


def get_config() -> TuneConfig:
    """Return the recipe."""
    return replace(tune_ade20k.get_config(), labels_per_pass=133, steps=40_000, hold_out=500)
