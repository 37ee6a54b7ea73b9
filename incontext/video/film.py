"""A video file of pictures, by PyAV."""

from collections.abc import Iterable
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from incontext.files.atomic import write_whole
from seggpt.errors import InputError

CODECS = ("libx264", "mpeg4")  # the first that PyAV was built with
EVEN = 2  # sides that codecs want


def require_pyav(path: Path) -> None:
    """Make sure that videos can be written.

    Raises:
        InputError: if PyAV is not installed.
    """
    if find_spec("av") is None:
        raise InputError(f'{path}: videos need PyAV: pip install "seggpt-jax[video]"')


def write_film(path: Path, pictures: Iterable[UInt8[np.ndarray, "h w 3"]], *, rate: float) -> None:
    """Write pictures as the frames of an mp4 file; they take the size of the first.

    Raises:
        InputError: if it cannot be written.
    """
    require_pyav(path)
    write_whole(path, lambda part: _encode(part, pictures, rate))


def _encode(path: Path, pictures: Iterable[UInt8[np.ndarray, "h w 3"]], rate: float) -> None:
    import av

    codec = next(name for name in CODECS if name in av.codecs_available)
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1000))
        stream.pix_fmt = "yuv420p"  # what players can show
        stream.options = {"crf": "18"} if codec == "libx264" else {"q:v": "3"}
        for number, picture in enumerate(pictures):
            height, width = (side // EVEN * EVEN for side in picture.shape[:2])
            frame = av.VideoFrame.from_ndarray(picture[:height, :width].copy(), format="rgb24")
            if not number:
                stream.width, stream.height = width, height
            frame = frame.reformat(stream.width, stream.height, "yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
