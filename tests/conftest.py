"""What every test runs under: fake devices and a compile cache."""

import os
from pathlib import Path

# A test never needs more than the CPU unless it is marked `gpu`; run those with JAX_PLATFORMS set.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest
from absl import flags

CPU_DEVICES = 2  # so that sharding is really exercised
ROOT = Path(__file__).resolve().parents[1]

jax.config.update("jax_num_cpu_devices", CPU_DEVICES)
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax-tests"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
# Most programs here are compiled to run once or twice: four times faster, to slower code.
jax.config.update("jax_disable_most_optimizations", True)
# And a third less time for what is compiled; an unknown flag would end the process.
if jax.__version_info__ < (0, 12):
    emitters = "--xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {emitters}".strip()
flags.FLAGS.mark_as_parsed()  # grain's prefetch asks absl, which pytest never parses


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip `gpu` tests where there is no accelerator."""
    if jax.default_backend() != "cpu":
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no accelerator"))
