"""An image that was encoded once, for any number of contexts."""

from dataclasses import dataclass
from typing import Unpack

import numpy as np
from jaxtyping import UInt8

from incontext.files.images import ImageSource, PictureOptions, load_image
from seggpt.encoder import Embedding


@dataclass(frozen=True, eq=False)
class EncodedPicture:
    """What `Segmenter.encode` returns; take it wherever a picture is asked for.

    Attributes:
        image: The upright picture.
        embedding: Its tokens (`seggpt.encoder`).
        size: The longer side in pixels at which it was seen.
        encoder: What tells the encoder from others.
    """

    image: UInt8[np.ndarray, "h w 3"]
    embedding: Embedding
    size: int
    encoder: str

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        return f"EncodedPicture({width}x{height} at {self.size} px)"


Source = ImageSource | EncodedPicture


def load_source(source: Source, **options: Unpack[PictureOptions]) -> UInt8[np.ndarray, "h w 3"]:
    """Return a picture's pixels; see `load_image`."""
    return source.image if isinstance(source, EncodedPicture) else load_image(source, **options)
