"""In-context segmentation models in JAX. Names load on first use, so importing this is cheap."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seggpt.config import SAMConfig as SAMConfig
    from seggpt.config import SegGPTConfig as SegGPTConfig
    from seggpt.config import ViTConfig as ViTConfig
    from seggpt.errors import CheckpointError as CheckpointError
    from seggpt.errors import DeviceError as DeviceError
    from seggpt.errors import InputError as InputError
    from seggpt.errors import PromptError as PromptError
    from seggpt.errors import SegGPTError as SegGPTError
    from seggpt.model import SegGPT as SegGPT
    from seggpt.sam.model import SAM as SAM

__version__ = "0.1.0"

_HOMES = {
    "SAMConfig": "seggpt.config",
    "SegGPTConfig": "seggpt.config",
    "ViTConfig": "seggpt.config",
    "CheckpointError": "seggpt.errors",
    "DeviceError": "seggpt.errors",
    "InputError": "seggpt.errors",
    "PromptError": "seggpt.errors",
    "SegGPTError": "seggpt.errors",
    "SegGPT": "seggpt.model",
    "SAM": "seggpt.sam.model",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name's home when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # only here: most commands never ask for a name

    return getattr(importlib.import_module(_HOMES[name]), name)
