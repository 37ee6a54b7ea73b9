"""How many pictures go through the model at a time."""

import os
from typing import Any

# On two cores four small pictures at a time take half the time of four single ones, and no more
# of them helps (a SegGPT of 1.4 M parameters at 96 pixels, measured for batches of 1 to 8).
MOST = {"cpu": 4}
MOST_ELSEWHERE = 32
CACHED_BYTES = 64 << 20  # a picture that needs more of a CPU than this fills its caches alone
SHARE = 0.5  # of the free memory that a batch may take


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
