"""Weights by name, by path, or from the Hugging Face Hub for those who ask for it with `hf://`."""

import os
import re
from pathlib import Path
from typing import Any

from seggpt.errors import CheckpointError, one_line
from seggpt.pretrained import find_weights

PREFIX = "hf://"
_OWNER_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FILES = ["config.json", "*.safetensors", "*.safetensors.index.json"]  # no pickles


def find_source(name_or_path: str | os.PathLike[str] | None) -> Path:
    """Return the local file or folder of weights; without a name, of the default shipped ones.

    `hf://OWNER/NAME[@REVISION]` is downloaded to the Hub's own cache unless it is there, and
    `hf://OWNER/NAME[@REVISION]/FILE` one file of it. Nothing else ever uses the network.

    Raises:
        CheckpointError: if there are no such weights, or they cannot be downloaded.
    """
    if name_or_path is None:
        return find_weights()
    name = os.fspath(name_or_path)
    if not name.startswith(PREFIX):
        try:
            return find_weights(name)
        except CheckpointError as error:
            if not _OWNER_NAME.fullmatch(name):
                raise
            raise CheckpointError(
                f"{error}; if it is a repository of the Hugging Face Hub: {PREFIX}{name}"
            ) from error
    owner, _, rest = name.removeprefix(PREFIX).partition("/")
    repository, _, file = rest.partition("/")
    repository, _, revision = repository.partition("@")
    if not owner or not repository:
        raise CheckpointError(
            f"{one_line(name)}: write {PREFIX}OWNER/NAME or {PREFIX}OWNER/NAME/FILE"
        )
    try:
        return Path(_download(f"{owner}/{repository}", file, revision or None))
    except ImportError as error:
        raise CheckpointError(
            f'{name}: needs `pip install "seggpt-jax[hub]"`; or download it and give its path'
        ) from error
    # The library raises a dozen kinds of its own, and those of its HTTP client.
    except Exception as error:
        words = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{one_line(name)}: not downloaded ({one_line(words)}); check the name and the network"
        ) from error


def _download(repository: str, file: str, revision: str | None) -> Any:
    # Optional dependency: most weights are shipped, or files.
    from huggingface_hub import (  # pyright: ignore[reportMissingImports]
        hf_hub_download,
        snapshot_download,
    )

    if file:
        return hf_hub_download(repository, file, revision=revision)
    return snapshot_download(repository, revision=revision, allow_patterns=FILES)
