"""Where a model runs, how many images at a time, and where its compiled programs are kept."""

import logging
import os
import stat
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import jax

from incontext.wording import option
from seggpt.errors import DeviceError, InputError

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
    devices = find_devices()
    if name is None or name in ("", "auto"):
        return devices[0]
    platform, _, number = str(name).partition(":")
    try:
        return jax.devices(platform)[int(number or 0)]
    except (RuntimeError, IndexError, ValueError, AssertionError):
        found = sorted({f"{d.platform}:{d.id}" for d in devices})
        asked = option("device", name)
        raise DeviceError(f"{asked}: no such device; available: {', '.join(found)}") from None


def find_devices() -> "list[jax.Device]":  # pyright: ignore[reportInvalidTypeForm]
    """Return the devices that JAX prefers.

    Raises:
        DeviceError: if it finds none, as where `JAX_PLATFORMS` asks for what is not there.
    """
    try:
        return jax.devices()
    # Backends raise what they like while they start; without a GPU it is an empty AssertionError.
    except Exception as error:
        words = (
            (str(error).strip().splitlines() or [""])[0]
            .partition(" (set JAX_PLATFORMS")[0]
            .rstrip(".")
        )
        asked = os.environ.get("JAX_PLATFORMS")
        said = (
            f"JAX_PLATFORMS={asked}: jax finds no such device" if asked else "jax finds no device"
        )
        mend = "; unset it, or set it to cpu" if asked else ""
        raise DeviceError(f"{said}{words and f' ({words})'}{mend}") from error


def default_dtype(device: "jax.Device") -> Literal["float32", "bfloat16"]:  # pyright: ignore[reportInvalidTypeForm]
    """Return what a model computes in on a device unless it is told."""
    return "float32" if device.platform == "cpu" else "bfloat16"


def open_pool() -> ThreadPoolExecutor:
    """Return a pool that keeps every core busy, or one accelerator.

    Small arrays keep one core busy and hardly a second one.
    """
    return ThreadPoolExecutor(os.cpu_count() if jax.default_backend() == "cpu" else 1)


def cache_folder() -> Path:
    """Return the user's folder for compiled programs: `$XDG_CACHE_HOME/seggpt/xla`.

    Raises:
        InputError: if there is no home to have one in.
    """
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise InputError("no home folder; set HOME or XDG_CACHE_HOME") from error
    return Path(base) / "seggpt" / "xla"


def make_cache_folder() -> Path:
    """Make the folder for compiled programs; they are native code, so it must be private.

    Raises:
        InputError: if programs cannot be kept there.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.stat()
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}") from error
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        raise InputError(f"{folder} belongs to another user")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InputError(f"{folder} is writable by others")
    return folder


def enable_compile_cache() -> None:
    """Keep compiled programs between runs, where that can be, unless JAX was told where to."""
    if jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        return
    try:
        folder = make_cache_folder()
    except InputError as error:
        _warn_once(f"{error}: compiled programs are not kept, so each run compiles anew")
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


@cache
def compile_for(function: Callable[..., Any], *known: Hashable, static: str | None = None) -> Any:
    """Compile a function whose first arguments are known; models that are alike share it.

    `static` is an argument, given by name, for each of whose values it is compiled anew.
    """
    return jax.jit(partial(function, *known), static_argnames=static)


@cache
def _warn_once(text: str) -> None:
    logger.warning(text)


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
