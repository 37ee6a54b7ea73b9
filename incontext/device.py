"""Where a model runs, how many images at a time, and where its compiled programs are kept."""

import logging
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import jax

from seggpt.errors import DeviceError

logger = logging.getLogger(__name__)

# On two cores four small pictures at a time take half the time of four single ones, and no more
# of them helps (a SegGPT of 1.4 M parameters at 96 pixels, measured for batches of 1 to 8).
MOST = {"cpu": 4}
MOST_ELSEWHERE = 32
CACHED_BYTES = 64 << 20  # a picture that needs more of a CPU than this fills its caches alone
SHARE = 0.5  # of the free memory that a batch may take


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


def choose_batch(compiled: Any, *, tried: int, device: Any) -> int:
    """Return a batch size that fits the device, given the program compiled for `tried` pictures."""
    memory = compiled.memory_analysis()
    if memory is None:
        return 1
    used = memory.temp_size_in_bytes + memory.output_size_in_bytes
    each = max(1, used // tried)
    if device.platform == "cpu" and each > CACHED_BYTES:
        return 1
    fits = int(SHARE * free_bytes(device) // each)
    return max(1, min(tried, 1 << max(0, fits.bit_length() - 1)))


def most_pictures(device: Any) -> int:
    """Return how many pictures are worth trying at a time."""
    return MOST.get(device.platform, MOST_ELSEWHERE)


def free_bytes(device: Any) -> int:
    """Return the memory that a device, or the machine of a CPU, has left."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    if "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 4 << 30  # macOS and Windows do not say
