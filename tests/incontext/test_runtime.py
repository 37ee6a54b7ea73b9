from pathlib import Path

import jax
import pytest

from incontext.runtime import cache_folder, choose_device, enable_compile_cache
from seggpt.errors import DeviceError


def test_devices_are_chosen_by_name() -> None:
    assert choose_device("cpu").platform == "cpu"
    assert choose_device("cpu:1") == jax.devices("cpu")[1]
    assert choose_device("auto") == choose_device(None) == jax.devices()[0]
    for name in ("cuda", "cpu:99", "cpu:x"):
        with pytest.raises(DeviceError, match="available: cpu:0"):
            choose_device(name)


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    before = jax.config.values["jax_compilation_cache_dir"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


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
