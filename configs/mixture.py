"""The SegGPT paper's mixture of data sets (sections 3.1 and 4.2), by the names of `data.prepare`.

What the paper does not publish, how its joint weights of the aerial and the vessel sets are shared
out, is even here.
"""

from data.config import AugmentConfig, PairsConfig

WEIGHTS = {
    "coco_instances": 0.22,
    "ade20k": 0.15,
    "coco_panoptic": 0.15,
    "cityscapes": 0.07,
    "coco_stuff": 0.07,
    "lip": 0.07,
    "voc_aug": 0.07,
    "paco": 0.07,
    **dict.fromkeys(("isaid", "loveda"), 0.06 / 2),
    **dict.fromkeys(("chase_db1", "drive", "hrf", "stare"), 0.06 / 4),
}
"""How often a sample comes from each set."""

INSTANCES = ("coco_instances",)
"""Sets whose samples mark instances, always in two views of one picture."""

PAIRS = PairsConfig(
    views=2,
    temperature=0.0,  # the weights are those of sets, whatever their number of pictures
    weights=WEIGHTS,
    two_views=(0.5, 0.5),  # of the other sets; else two pictures that share a class
    several_labels=0.5,
    instances=0.0,
    by_instance=INSTANCES,
)
"""Which pictures make a sample: an example and a query."""

AUGMENT = AugmentConfig(scale=(0.3, 1.0), flip=0.5, upside_down=0.0, transpose=0.0, jitter=0.8)
"""Random crops, colours and flips; views of two pictures side by side are the mix-context."""
