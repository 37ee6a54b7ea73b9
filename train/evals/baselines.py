"""Few-shot baselines without learning."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter

from data.benchmarks import Pair

Prediction = Bool[np.ndarray, "h w"] | Float[np.ndarray, "h w"]
"""Where the class is: yes or no, or how likely in 0..1."""

Predict = Callable[[Sequence[Pair], UInt8[np.ndarray, "h w 3"]], Prediction]
"""Finds in a query picture what the examples' masks show."""

# The best of 8, 16 and 32 bins a channel (RGB), blurs of 0, 0.5, 1 and 1.5 bins, and weights of
# the prior of 0, 0.5 and 1, by mean IoU over the validation splits of the open training sets, at
# 1 and at 4 shots. Bins of Lab gain one point there and none on other sets.
_BINS = 32
_BLUR_BINS = 0.5
_PRIOR = 0.5


def copy_mask(
    examples: Sequence[Pair], image: UInt8[np.ndarray, "h w 3"]
) -> Bool[np.ndarray, "h w"]:
    """Stretch the examples' masks over the query and take the majority; a tie is foreground."""
    size = (image.shape[1], image.shape[0])
    votes = [Image.fromarray(pair.mask).resize(size, Image.Resampling.NEAREST) for pair in examples]
    return np.mean([np.asarray(vote) for vote in votes], axis=0) >= 0.5


def match_colours(
    examples: Sequence[Pair], image: UInt8[np.ndarray, "h w 3"]
) -> Bool[np.ndarray, "h w"]:
    """Mark the colours that are likelier inside the examples' masks than outside.

    Blurred histograms in RGB give p(colour | inside) and p(colour | outside). Their ratio is held
    against the masks' share to the power of `_PRIOR`: 0 would ignore how large the masks are, 1
    would be Bayes' rule, which small masks hardly ever win. Colours in no example are background.
    """
    inside, outside = np.zeros((2, _BINS**3))
    for pair in examples:
        bins = _colour_bins(pair.image)
        inside += np.bincount(bins[pair.mask], minlength=_BINS**3)
        outside += np.bincount(bins[~pair.mask & ~pair.ignore], minlength=_BINS**3)
    likely = _weighted(inside) > _weighted(outside)
    return likely[_colour_bins(image)]


def everything(
    examples: Sequence[Pair], image: UInt8[np.ndarray, "h w 3"]
) -> Bool[np.ndarray, "h w"]:
    """Call every pixel foreground."""
    del examples
    return np.ones(image.shape[:2], bool)


BASELINES: dict[str, Predict] = {
    "copy": copy_mask,
    "histogram": match_colours,
    "everything": everything,
}


def _colour_bins(image: UInt8[np.ndarray, "h w 3"]) -> Int[np.ndarray, "h w"]:
    red, green, blue = np.moveaxis(image.astype(int) * _BINS // 256, -1, 0)
    return (red * _BINS + green) * _BINS + blue


def _weighted(counts: Float[np.ndarray, " colours"]) -> Float[np.ndarray, " colours"]:
    """Turn counts into likelihood times share^_PRIOR, up to a factor that both sides have."""
    blurred = gaussian_filter(counts.reshape(_BINS, _BINS, _BINS), _BLUR_BINS, mode="nearest")
    return blurred.ravel() / max(counts.sum(), 1) ** (1 - _PRIOR)
