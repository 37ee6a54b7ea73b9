"""One run at a time writes to a folder, or one for each shard."""

import contextlib
import os
import platform
import re
from pathlib import Path
from types import TracebackType
from typing import Self

from incontext.cli.outcome import UsageError
from incontext.cli.running.shard import Shard, log_name
from seggpt.errors import InputError, one_line

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_SUFFIX = ".jsonl.lock"


class FolderLock:
    """Holds an output folder while in the context; the folder is made if need be.

    The file `results.jsonl.lock` says which process holds it. The system's lock on that file ends
    with the process, so that of a killed run is taken over. Folders that were made and stayed
    empty are removed again.

    Args:
        out: The output folder.
        shard: Which other shards may write there at the same time.

    Raises:
        UsageError: Another run writes to the folder.
        InputError: It cannot be made or written.
    """

    def __init__(self, out: Path, shard: Shard | None) -> None:
        self._out = out
        self._path = out / log_name("results", _SUFFIX, shard)
        self._made: list[Path] = []
        self._handle = -1
        self._others = re.compile(rf"results-[0-9]+-of-{shard.count}{_SUFFIX}") if shard else None

    def __enter__(self) -> Self:
        try:
            self._make_folder()
            handle = _take(self._path)
            if handle is None:
                raise UsageError(self._refusal(self._path))
            self._handle = handle
            for other in sorted(self._out.glob(f"results*{_SUFFIX}")):
                if other != self._path and not (
                    self._others and self._others.fullmatch(other.name)
                ):
                    if (held := _take(other)) is None:
                        raise UsageError(self._refusal(other))
                    _release(other, held)  # of a run that was killed
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                words = error.strerror or str(error)
                raise InputError(f"cannot write {one_line(self._out)}: {words}") from error
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder."""
        if self._handle >= 0:
            _release(self._path, self._handle)
            self._handle = -1
        with contextlib.suppress(OSError):  # not empty, as most are
            while self._made:
                self._made.pop().rmdir()

    def _make_folder(self) -> None:
        missing = []
        folder = self._out.absolute()
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        self._out.mkdir(parents=True, exist_ok=True)
        self._made = missing[::-1]

    def _refusal(self, path: Path) -> str:
        holder = "another run"
        with contextlib.suppress(OSError, ValueError):
            number, host = path.read_text(encoding="utf-8").split()
            here = "" if host == _host() else f" on {host}"
            holder = f"another run (pid {int(number)}{here})"
        return (
            f"{holder} writes to {one_line(self._out)}; wait for it, or give another folder with -o"
        )


def _take(path: Path) -> int | None:
    """Open and lock the file; None if another process holds it."""
    if fcntl is None:  # Windows, where a file that a process has open cannot be removed
        try:
            path.unlink(missing_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except (PermissionError, FileExistsError):
            return None
    else:
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                return None
            except OSError:  # a file system without locks: two runs go unnoticed there
                break
            if _is_at(path, handle):
                break
            os.close(handle)  # its holder let go of it and removed it in between
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.getpid()} {_host()}\n".encode())
    return handle


def _is_at(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _release(path: Path, handle: int) -> None:
    if fcntl is None:
        os.close(handle)
        path.unlink(missing_ok=True)
    else:  # the other way round, another process could hold it already
        path.unlink(missing_ok=True)
        os.close(handle)


def _host() -> str:
    return platform.node() or "localhost"
