"""The image encoders that weights can stand on: what they are, and what they cost."""

from dataclasses import dataclass

from seggpt.config import ENCODERS
from seggpt.config.costs import count_flops, count_parameters
from seggpt.pretrained import ENCODER

SIZE = 448  # pixels along a side of the picture whose operations are listed
DINOV3_LICENCE = "DINOv3 License (Meta's own)"
_FLOAT_BYTES = 4  # as their authors publish them


@dataclass(frozen=True)
class KnownEncoder:
    """One line of `seggpt models`."""

    name: str
    parameters: int
    patch_px: int
    file_mb: int
    gflop: float
    licence: str
    shipped: bool


def list_encoders() -> list[KnownEncoder]:
    """Return the published encoders of the table of presets."""
    return [
        KnownEncoder(
            name=name,
            parameters=(parameters := count_parameters(config)),
            patch_px=config.patch_size,
            file_mb=round(_file_bytes(name, parameters) / 1e6),
            gflop=count_flops(config, (SIZE, SIZE)) / 1e9,
            licence=DINOV3_LICENCE if name.startswith("dinov3") else "Apache-2.0",
            shipped=name == ENCODER.stem,
        )
        for name, config in ENCODERS.items()
    ]


def _file_bytes(name: str, parameters: int) -> int:
    if name == ENCODER.stem:
        return ENCODER.stat().st_size
    return _FLOAT_BYTES * parameters
