"""What options are called in messages: arguments of Python, or options of the command line."""

from collections.abc import Iterator
from contextlib import contextmanager

_FLAGS = {
    "alpha": "--alpha",
    "bands": "--bands",
    "device": "--device",
    "empty": "--examples-empty",
    "encoder": "--encoder",
    "ignore": "--ignore",
    "images": "--examples-images",
    "kind": "--mask-kind",
    "limit": "--examples-limit",
    "max_pixels": "--max-pixels",
    "names": "--names",
}
# One process is a command or a program around the library; threads of either speak alike.
_speakers: list[str] = []


def option(name: str, value: object = None) -> str:
    """Return how to give an option a value, or its name alone, where the message is read."""
    if not _speakers:
        return name if value is None else f"{name}={value!r}"
    if value is None:
        return _FLAGS[name]
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{_FLAGS[name]} {text}"


@contextmanager
def speak_as_command() -> Iterator[None]:
    """Name options as the command line does while in the context."""
    _speakers.append("command")
    try:
        yield
    finally:
        _speakers.pop()
