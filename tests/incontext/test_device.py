from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from incontext.device import (
    MOST,
    cache_folder,
    choose_batch,
    choose_device,
    compile_for,
    enable_compile_cache,
    free_bytes,
    most_pictures,
)
from seggpt.errors import DeviceError

MIB = 1 << 20


def test_devices_are_chosen_by_name() -> None:
    assert choose_device("cpu").platform == "cpu"
    assert choose_device("cpu:1") == jax.devices("cpu")[1]
    assert choose_device("auto") == choose_device(None) == jax.devices()[0]
    for name in ("cuda", "cpu:99", "cpu:x"):
        with pytest.raises(DeviceError, match="available: cpu:0"):
            choose_device(name)


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("no (set JAX_PLATFORMS='')")])
def test_platforms_that_are_not_there_are_named(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_):
        raise error

    monkeypatch.setattr(jax, "devices", fail)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    words = f" ({str(error)[:2]})" if str(error) else ""
    for name in (None, "cpu"):
        with pytest.raises(DeviceError) as caught:
            choose_device(name)
        assert str(caught.value) == (
            f"JAX_PLATFORMS=cuda: jax finds no such device{words}; unset it, or set it to cpu"
        )


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: jax.config.values[name] for name in names}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.usefixtures("no_cache")
def test_the_compile_cache_is_private() -> None:
    enable_compile_cache()
    assert jax.config.values["jax_compilation_cache_dir"] == str(cache_folder())
    assert cache_folder().stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("no_cache")
def test_a_folder_that_others_can_write_to_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    cache_folder().mkdir(parents=True)
    cache_folder().chmod(0o777)
    enable_compile_cache()
    assert jax.config.values["jax_compilation_cache_dir"] is None
    assert "writable by others" in caplog.text


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("home", ["none", "a file"])
def test_without_a_home_programs_are_not_kept(
    home: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    (tmp_path / "file").write_text("")

    def find() -> Path:
        if home == "none":
            raise RuntimeError("Could not determine home directory.")
        return tmp_path / "file"

    monkeypatch.setattr(Path, "home", find)
    for _ in range(2):
        enable_compile_cache()
    assert jax.config.values["jax_compilation_cache_dir"] is None
    assert caplog.text.count("compiled programs are not kept") == 1


def test_what_knows_the_same_shares_a_program() -> None:
    def scale(factor: int, array: jax.Array, *, times: int) -> jax.Array:
        return factor * times * array

    double = compile_for(scale, 2, static="times")
    assert double is compile_for(scale, 2, static="times")
    assert double is not compile_for(scale, 3, static="times")
    assert double(jax.numpy.ones(()), times=5) == 10


def program(mib: int) -> SimpleNamespace:
    memory = SimpleNamespace(temp_size_in_bytes=mib * MIB, output_size_in_bytes=0)
    return SimpleNamespace(memory_analysis=lambda: memory)


def device(platform: str, *, free_mib: int) -> SimpleNamespace:
    stats = {"bytes_limit": (free_mib + 100) * MIB, "bytes_in_use": 100 * MIB}
    return SimpleNamespace(platform=platform, memory_stats=lambda: stats)


@pytest.mark.parametrize(
    ("free_mib", "batch"), [(10_000, 32), (640, 32), (639, 16), (161, 8), (20, 1), (0, 1)]
)
def test_half_of_the_free_memory_is_filled_by_a_power_of_two(free_mib: int, batch: int) -> None:
    assert choose_batch(program(320), tried=32, device=device("gpu", free_mib=free_mib)) == batch


def test_large_pictures_go_through_a_cpu_alone() -> None:
    cpu = device("cpu", free_mib=64_000)
    assert choose_batch(program(4 * 10), tried=4, device=cpu) == 4
    assert choose_batch(program(4 * 300), tried=4, device=cpu) == 1


def test_without_an_estimate_pictures_go_alone() -> None:
    silent = SimpleNamespace(memory_analysis=lambda: None)
    assert choose_batch(silent, tried=4, device=device("cpu", free_mib=64_000)) == 1


def test_a_machine_without_device_statistics_is_asked_itself() -> None:
    plain = SimpleNamespace(platform="cpu", memory_stats=lambda: None)
    assert free_bytes(plain) > MIB
    assert most_pictures(plain) == MOST["cpu"]
