"""What every test runs under: fake devices and a compile cache."""

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A test never needs more than the CPU unless it is marked `gpu`; run those with JAX_PLATFORMS set.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest
from absl import flags

CPU_DEVICES = 2  # so that sharding is really exercised
ROOT = Path(__file__).resolve().parents[1]

jax.config.update("jax_num_cpu_devices", CPU_DEVICES)
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax-tests"))
# Smaller programs are compiled in the time that it takes to store and load them.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
# Most programs here are compiled to run once or twice: four times faster, to slower code.
jax.config.update("jax_disable_most_optimizations", True)
# And less than two thirds of the time for what is compiled; an unknown flag would end the process.
if jax.__version_info__ < (0, 12):
    quick = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {quick}".strip()
flags.FLAGS.mark_as_parsed()  # grain's prefetch asks absl, which pytest never parses


def pytest_collection_finish() -> None:
    """Let the collector pass over all that was imported, and look seldom: tracing makes much."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with what takes longest, and skip `gpu` tests where there is no accelerator."""
    items.sort(key=lambda item: not item.path.is_relative_to(ROOT / "tests" / "train"))
    if jax.default_backend() != "cpu":
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no accelerator"))


LOADED: dict[Any, Any] = {}


@pytest.fixture
def loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all who load a model in a session share it, and with it the programs compiled for it.

    Shipped weights see pictures at half their size, a quarter of the work.
    """
    from incontext import Promptable, Segmenter
    from incontext.examples import in_context_engine

    monkeypatch.setattr(in_context_engine, "SIZE", in_context_engine.SIZE // 2)
    for kind in (Segmenter, Promptable):
        monkeypatch.setattr(kind, "from_pretrained", share(kind.from_pretrained))


def share(load: Callable[..., Any]) -> Callable[..., Any]:
    """Return what loads a model that is not loaded yet, or whose file has changed."""

    def shared(name_or_path: str | os.PathLike[str] | None = None, **options: Any) -> Any:
        path = Path(name_or_path or "").resolve()
        state = path.stat() if path.exists() else None
        given = sorted((k, v) for k, v in options.items() if v is not None)
        key = (load, path, state and state.st_mtime_ns, *given)
        if key not in LOADED:
            LOADED[key] = load(name_or_path, **options)
        return LOADED[key]

    return shared
