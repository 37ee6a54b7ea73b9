"""Environment variables that must be set before jax is imported, and package versions."""

import importlib.metadata
import os
import platform

PACKAGES = ("seggpt-jax", "jax", "jaxlib", "flax", "numpy", "pillow", "scipy", "safetensors")


def prepare_jax() -> None:
    """Set the defaults under which a short-lived command uses jax; the user's own settings win."""
    # A command shares its GPU with others; jax's habit is to take 75 % of it at once.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's own chatter on stderr


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that shape a result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
