"""Weights by name, by path, or from the Hugging Face Hub for those who ask for it with `hf://`."""

import os
import re
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from incontext.wording import option
from seggpt.errors import CheckpointError, PromptError, one_line
from seggpt.pretrained import ENCODER, find_weights

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


def find_own_encoder(
    weights: Path, metadata: Mapping[str, str], given: str | os.PathLike[str] | None
) -> Path:
    """Return the encoder that weights stand on: the one given, or the one that they name.

    That is the shipped one, or a file of that name beside them: a name leads to no other folder.

    Raises:
        CheckpointError: if there is none.
    """
    if given is not None:
        name = os.fspath(given)
        return find_source(name) if name.startswith(PREFIX) else Path(name)
    named = metadata.get("encoder", ENCODER.stem)
    beside = weights.parent / PureWindowsPath(named).name
    if named == ENCODER.stem:
        return ENCODER
    if beside.name and beside.exists():
        return beside
    raise CheckpointError(
        f"these weights stand on the encoder {one_line(beside.name)} with SHA-256 "
        f"{one_line(metadata.get('encoder_sha256', '?'))}, which is not beside them; give its "
        f"file with {option('encoder', 'PATH')}"
    )


def check_no_encoder(encoder: str | os.PathLike[str] | None) -> None:
    """Make sure that nobody gives an encoder to weights that have all that they need.

    Raises:
        PromptError: It was given.
    """
    if encoder is not None:
        raise PromptError(
            f"{option('encoder', str(encoder))} is for in-context models on an encoder, and these "
            "weights are none; leave it out"
        )


def _download(repository: str, file: str, revision: str | None) -> Any:
    # Optional dependency: most weights are shipped, or files.
    from huggingface_hub import (  # pyright: ignore[reportMissingImports]
        hf_hub_download,
        snapshot_download,
    )

    if file:
        return hf_hub_download(repository, file, revision=revision)
    return snapshot_download(repository, revision=revision, allow_patterns=FILES)
