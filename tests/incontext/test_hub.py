import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from incontext.hub import find_source
from seggpt.errors import CheckpointError
from seggpt.pretrained import find_weights


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A stand-in for the library, which notes what it is asked for."""
    asked = []

    def download(*args, **options):
        asked.append((args, options))
        return str(tmp_path)

    fake = SimpleNamespace(hf_hub_download=download, snapshot_download=download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return asked


def test_names_and_paths_never_reach_the_hub(hub, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.touch()
    assert find_source(file) == file
    assert find_source(None) == find_weights()
    with pytest.raises(CheckpointError, match="no such file"):
        find_source("owner/name")
    assert not hub


def test_what_looks_like_a_repository_is_told_its_prefix(hub) -> None:
    with pytest.raises(CheckpointError, match=r"Hugging Face Hub: hf://owner/name-1\.0$"):
        find_source("owner/name-1.0")
    for other in ("nowhere.safetensors", "./a/b", "a/b/c"):
        with pytest.raises(CheckpointError) as error:
            find_source(other)
        assert "hf://" not in str(error.value)
    assert not hub


def test_a_repository_is_asked_for_safetensors_only(hub, tmp_path: Path) -> None:
    assert find_source("hf://owner/name@v1") == tmp_path
    [(args, options)] = hub
    assert args == ("owner/name",)
    assert options["revision"] == "v1"
    assert not any(pattern.endswith((".bin", ".pth", "*")) for pattern in options["allow_patterns"])


def test_one_file_of_a_repository_can_be_named(hub) -> None:
    find_source("hf://owner/name/folder/tiny.safetensors")
    assert hub == [(("owner/name", "folder/tiny.safetensors"), {"revision": None})]


@pytest.mark.parametrize("name", ["hf://", "hf://owner", "hf://owner/", "hf:///name"])
def test_an_incomplete_name_is_refused_with_the_mend(hub, name: str) -> None:
    with pytest.raises(CheckpointError, match="hf://OWNER/NAME"):
        find_source(name)
    assert not hub


def test_without_the_library_its_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match=r"seggpt-jax\[hub\]"):
        find_source("hf://owner/name")


def test_a_failed_download_is_one_line(monkeypatch) -> None:
    def fail(*_args, **_options):
        raise OSError("404 Client Error\nRequest ID: 1")

    fake = SimpleNamespace(hf_hub_download=fail, snapshot_download=fail)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    with pytest.raises(CheckpointError, match="404 Client Error") as caught:
        find_source("hf://owner/name")
    assert "\n" not in str(caught.value)
