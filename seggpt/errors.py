"""The errors that seggpt raises on purpose.

Each message is one line that says which file, which value, and how to mend it, so that a caller may
show it as it is.
"""

import os


class SegGPTError(Exception):
    """Any failure that seggpt foresees; catch this to catch them all."""


class InputError(SegGPTError, ValueError):
    """A picture, a mask or a path that cannot be used."""


class TooLargeError(InputError):
    """A file has more pixels or bytes than may be read as a whole."""


class PromptError(SegGPTError, ValueError):
    """A prompt (example pair, points, boxes, tuned prompt) that does not make sense."""


class CheckpointError(SegGPTError):
    """A weights file that is missing, damaged, unsafe or of another model."""


class DeviceError(SegGPTError):
    """A device that is absent, unusable or out of memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether a device, or the machine, had no memory left; jax has no class for it."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    )


def one_line(text: str | os.PathLike[str]) -> str:
    """Escape line breaks, controls and undecodable bytes, as file names may hold all of them."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in os.fspath(text)
    )
