"""The demo's scenes: real pictures out of scikit-image's wheel, one part masked by hand-made rules.

The rule of a scene (a threshold, a hue) makes only the example's mask. The targets see the model.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8
from scipy import ndimage

# An optional dependency: importing this module tells whether it is there.
from skimage import color, data, filters, measure

Picture = UInt8[np.ndarray, "h w 3"]
Mask = Bool[np.ndarray, "h w"]


@dataclass(frozen=True, eq=False)
class Scene:
    """One example and what it is used on.

    Attributes:
        name: For file names.
        title: For people.
        rule: How the example's mask was made, in one sentence.
        example: A picture.
        mask: What is meant in it.
        target: A picture that the rule has not seen.
    """

    name: str
    title: str
    rule: str
    example: Picture
    mask: Mask
    target: UInt8[np.ndarray, "th tw 3"]


def coins() -> Scene:
    """Coins that brightness alone cannot tell from their uneven ground."""
    grey = data.coins()
    lighter = filters.gaussian(grey, 1) - filters.gaussian(grey, 40)
    mask = _tidy(lighter > filters.threshold_otsu(lighter), smallest_px=200)
    upper = grey.shape[0] // 2 + 5  # between two rows of coins
    return Scene(
        "coins",
        "Coins: two rows show what is meant, two other rows are new",
        "brighter than the surroundings by Otsu's threshold, holes filled",
        _rgb(grey[:upper]),
        mask[:upper],
        _rgb(grey[upper:]),
    )


def motorcycle() -> Scene:
    """Red things beside and on a motorcycle, from one eye of a stereo camera to the other."""
    left, right, _ = data.stereo_motorcycle()
    hue, saturation, value = np.moveaxis(color.rgb2hsv(left), -1, 0)
    red = (np.minimum(hue, 1 - hue) < 0.04) & (saturation > 0.65) & (value > 0.25)
    return Scene(
        "motorcycle",
        "Motorcycle: what is red in the left view, found again in the right view",
        "hue within 0.04 of red, saturation over 0.65, value over 0.25, specks removed",
        left,
        _tidy(red, smallest_px=1000),
        right,
    )


def tissue() -> Scene:
    """Brown-stained glands in a microscope picture."""
    picture = data.immunohistochemistry()
    stain = filters.gaussian(color.rgb2hed(picture)[..., 2], 4)
    mask = _tidy(stain > filters.threshold_otsu(stain), smallest_px=800)
    half = picture.shape[0] // 2
    return Scene(
        "tissue",
        "Tissue: brown glands in the lower half, found in the upper half",
        "brown stain after colour separation over Otsu's threshold, blurred by 4 px",
        picture[half:],
        mask[half:],
        picture[:half],
    )


SCENES: tuple[Callable[[], Scene], ...] = (coins, motorcycle, tissue)


def _rgb(grey: UInt8[np.ndarray, "h w"]) -> Picture:
    return np.repeat(grey[:, :, None], 3, axis=2)


def _tidy(mask: Mask, *, smallest_px: int) -> Mask:
    """Close gaps, fill holes and drop specks."""
    closed = ndimage.binary_closing(mask, iterations=2)
    regions = np.asarray(measure.label(np.asarray(ndimage.binary_fill_holes(closed))))
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0  # the background
    return (sizes >= smallest_px)[regions]
