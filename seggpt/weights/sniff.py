"""The kind of a file, from its first bytes and not from its name."""

import os
import stat
import struct
from pathlib import Path
from typing import Literal

from seggpt.errors import CheckpointError

Kind = Literal[
    "safetensors", "zip", "legacy", "tar", "pickle", "lfs", "html", "gzip", "empty", "unknown"
]

# torch.serialization.MAGIC_NUMBER (0x1950a86a20f9469cfc6c) as its first pickle spells it.
LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"
LFS_MAGIC = b"version https://git-lfs.github.com/spec/"
# The largest header that the safetensors library itself accepts (100 MB).
MAX_HEADER_BYTES = 100_000_000

_RESAVE = "open it with torch once and save it again: torch.save(torch.load(p, weights_only=True))"
_MENDS: dict[Kind, str] = {
    "legacy": f"written by torch before 1.6, a format that only runs as a program; {_RESAVE}",
    "tar": f"a tar file of torch before 0.4; {_RESAVE}",
    "pickle": "a bare pickle, which is a program and not data; ask for .safetensors",
    "lfs": "a Git-LFS pointer and not the weights; run git lfs pull",
    "html": "a web page and not the weights; download it again",
    "gzip": "gzip-compressed; unpack it first",
    "empty": "an empty file; download it again",
    "unknown": "not a weights file (neither .safetensors nor a torch .pth)",
}


def check_regular_file(path: Path) -> int:
    """Return the size of a file in bytes, after making sure that opening it cannot hang.

    Raises:
        CheckpointError: if there is no such file, or it is a folder, a pipe or a device.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"{path}: cannot be opened ({reason})") from error
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise CheckpointError(f"{path}: {what}; a weights file is wanted")
    return status.st_size


def sniff(path: str | os.PathLike[str]) -> Kind:
    """Tell the kind of a file from its first bytes.

    Raises:
        CheckpointError: if it is not a readable regular file.
    """
    path = Path(path)
    size = check_regular_file(path)
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    return _kind(head, size)


def refuse(path: str | os.PathLike[str], *, kind: Kind) -> CheckpointError:
    """Build the error for a kind of file that is not accepted, with the way out of it."""
    return CheckpointError(f"{path}: {_MENDS.get(kind, f'a {kind} file is not accepted here')}")


def _kind(head: bytes, size: int) -> Kind:
    if not size:
        return "empty"
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head.startswith(LFS_MAGIC):
        return "lfs"
    if head.startswith(LEGACY_MAGIC):
        return "legacy"
    if head[257:262] == b"ustar":
        return "tar"
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    # safetensors: a little-endian length, then a JSON object.
    if head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= min(size - 8, MAX_HEADER_BYTES):
        return "safetensors"
    if head.lstrip()[:1] == b"<":
        return "html"
    if head[:1] == b"\x80":
        return "pickle"
    return "unknown"
