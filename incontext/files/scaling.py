"""Deep numbers to 8 bits: 12-, 16- and 32-bit pictures, floats, and pixels without data."""

import logging

import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from PIL import Image

from incontext.files.decode import Decoded
from incontext.files.facts import Facts
from incontext.options import Alpha
from incontext.wording import option
from seggpt.errors import InputError

# Darkest and brightest part of a deep picture that may be cut off; the habit of microscopy viewers.
_PERCENTILES = (0.5, 99.5)
# A percentile of this many pixels is good to a fraction of a grey level.
_SAMPLE_PIXELS = 1 << 20
_ROWS = 256
# 16-bit colour below a quarter of its range is 12- or 14-bit data, as of microscopes and cameras.
_DARK = 64  # of the high byte

# Values that programs write where there are no data, if the header does not say.
_NO_DATA = (-9999, -99999, -32768, -32767, -2147483648, 65535, 1e20, -1e20)
_HUGE = 1e30  # +-3.4e38 of GIS programs, and their roundings
_NO_DATA_SHARE = 0.001  # of the pixels
_NO_DATA_GAP = 3  # times the range of all other values that it lies away from them

_FEW_OPAQUE, _MOST_HIDDEN = 0.01, 0.95  # of the pixels

logger = logging.getLogger(__name__)


def scale(
    values: Shaped[np.ndarray, "h w *c"], *, name: str, facts: Facts
) -> UInt8[np.ndarray, "h w 3"]:
    """Map numbers to 0..255, linear between two percentiles; a flat picture is black.

    Bands keep their proportions. 8 bits stay as they are.

    Raises:
        InputError: No number is finite.
    """
    if values.dtype == np.uint8:
        grey = 255 - values if facts.white_is_zero else values
    else:
        grey = _stretch(values, name=name, facts=facts)
    return np.repeat(grey[:, :, None], 3, axis=2) if grey.ndim == 2 else np.ascontiguousarray(grey)


def scale_dark_color(decoded: Decoded) -> UInt8[np.ndarray, "h w 3"] | None:
    """Return 16-bit colour that uses little of its range, scaled; None for all other pictures."""
    if decoded.deep is None:
        return None
    colors = np.asarray(decoded.image.convert("RGBA"))[..., :3]
    step = max(1, int(np.ceil(np.sqrt(colors.size / _SAMPLE_PIXELS))))
    if np.percentile(colors[::step, ::step], _PERCENTILES[1]) >= _DARK:
        return None
    return _stretch(decoded.deep()[..., :3], name=decoded.name, facts=decoded.facts)


def warn_of_alpha(channel: Image.Image, *, name: str, backdrop: Alpha) -> None:
    """Say when transparency hides a picture, or is no transparency."""
    counts = np.array(channel.histogram(), float)
    shares = counts / counts.sum()
    if shares[:8].sum() > _MOST_HIDDEN:
        logger.warning(
            "%s: transparency hides %.0f %% of the picture, and that is %s; %s shows its colours",
            name,
            100 * shares[:8].sum(),
            backdrop,
            option("alpha", "ignore"),
        )
    elif shares[255] < _FEW_OPAQUE:
        logger.warning(
            "%s: the fourth band counts as transparency, and hardly a pixel is opaque; if it is "
            "another band, such as near infrared, %s leaves it out",
            name,
            option("alpha", "ignore"),
        )


def _stretch(
    values: Shaped[np.ndarray, "h w *c"], *, name: str, facts: Facts
) -> UInt8[np.ndarray, "h w *c"]:
    step = max(1, int(np.ceil(np.sqrt(values.size / _SAMPLE_PIXELS))))
    with np.errstate(invalid="ignore"):  # a signalling NaN warns when it is cast
        sample = values[::step, ::step].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    empty = _no_data(sample, name=name, facts=facts)
    sample = sample[~np.isin(sample, empty)]
    if sample.size == 0:
        raise InputError(f"{name}: no finite pixel values; write the picture again")
    low, high = np.percentile(sample, _PERCENTILES)
    if high <= low:
        low, high = float(sample.min()), float(sample.max())
    what = "grey" if values.ndim == 2 else "colour"
    logger.info("%s: %s %s scaled to 8 bits from %g..%g", name, values.dtype, what, low, high)
    scaled = np.zeros(values.shape, np.uint8)
    if high <= low:
        return scaled
    for top in range(0, len(values), _ROWS):
        with np.errstate(invalid="ignore"):
            rows = values[top : top + _ROWS].astype(np.float64)
        rows[np.isnan(rows) | np.isin(rows, empty)] = high if facts.white_is_zero else low
        part = np.rint((np.clip(rows, low, high) - low) / (high - low) * 255)
        scaled[top : top + _ROWS] = 255 - part if facts.white_is_zero else part
    return scaled


def _no_data(
    sample: Shaped[np.ndarray, " n"], *, name: str, facts: Facts
) -> Shaped[np.ndarray, " k"]:
    """Find the values that mean "no data", and say so."""
    found = [facts.nodata] if facts.nodata is not None and (sample == facts.nodata).any() else []
    for value in {sample.min(), sample.max()} if sample.size else ():
        if value not in found and _is_no_data(value, sample):
            found.append(float(value))
    if found and len(found) < len(np.unique(sample)):
        words = " and ".join(f"{value:g}" for value in found)
        logger.warning("%s: pixels of %s count as without data and are black", name, words)
        return np.array(found)
    return np.array([])


def _is_no_data(value: float, sample: Shaped[np.ndarray, " n"]) -> bool:
    here: Bool[np.ndarray, " n"] = sample == value
    if abs(value) < _HUGE and (value not in _NO_DATA or here.mean() < _NO_DATA_SHARE):
        return False
    rest = sample[~here]
    if rest.size == 0:
        return False
    low, high = rest.min(), rest.max()
    away = low - value if value < low else value - high
    return bool(away > _NO_DATA_GAP * max(high - low, 1e-12))
