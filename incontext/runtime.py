"""Where a model runs, and where its compiled programs are kept."""

import logging
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import jax

from seggpt.errors import DeviceError

logger = logging.getLogger(__name__)


def choose_device(name: str | None) -> "jax.Device":  # pyright: ignore[reportInvalidTypeForm]
    """Return the device of that name (`cpu`, `gpu`, `cuda:1`, `tpu`), or JAX's first choice.

    Raises:
        DeviceError: if there is none, naming those there are.
    """
    if name in (None, "", "auto"):
        return jax.devices()[0]
    platform, _, number = name.partition(":")
    try:
        return jax.devices(platform)[int(number or 0)]
    except (RuntimeError, IndexError, ValueError, AssertionError):
        found = sorted({f"{d.platform}:{d.id}" for d in jax.devices()})
        raise DeviceError(
            f"--device {name}: no such device; available: {', '.join(found)}"
        ) from None


def default_dtype(device: "jax.Device") -> Literal["float32", "bfloat16"]:  # pyright: ignore[reportInvalidTypeForm]
    """Return what a model computes in on a device unless it is told."""
    return "float32" if device.platform == "cpu" else "bfloat16"


def open_pool() -> ThreadPoolExecutor:
    """Return a pool that keeps every core busy, or one accelerator.

    Small arrays keep one core busy and hardly a second one.
    """
    return ThreadPoolExecutor(os.cpu_count() if jax.default_backend() == "cpu" else 1)


def cache_folder() -> Path:
    """Return the user's folder for compiled programs: `$XDG_CACHE_HOME/seggpt/xla`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "seggpt" / "xla"


def enable_compile_cache() -> None:
    """Keep compiled programs between runs, unless JAX was told where to.

    They are native code, so a folder that others can write to is not used.
    """
    if jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        return
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.stat()
    except OSError as error:
        logger.info("no compile cache: %s", error)
        return
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        logger.warning("%s belongs to another user: compiled programs are not kept", folder)
        return
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        logger.warning("%s is writable by others: compiled programs are not kept", folder)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
