"""What the programs of training and evaluation share: arguments, errors, progress."""

import json
import logging
import sys
from collections.abc import Callable, Sequence

from data.folder import Folder, open_folders
from seggpt.errors import SegGPTError


def run_tool(name: str, work: Callable[[], None]) -> int:
    """Do a tool's work, tell a foreseen failure in one line, and return the exit code."""
    start_log()
    try:
        work()
    except (ValueError, OSError, SegGPTError) as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return 2
    return 0


def start_log() -> None:
    """Write progress to stderr, and of libraries what is wrong alone."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    quiet = ("absl", "jax")  # orbax tells files that it writes, jax devices that it does not find
    for library in quiet:
        logging.getLogger(library).setLevel(logging.WARNING)


def open_all(paths: Sequence[str]) -> list[Folder]:
    """Open the data sets of several folders or zips.

    Raises:
        ValueError: if two have one name.
        FileNotFoundError: if there is no such folder or zip.
    """
    folders = [folder for path in paths for folder in open_folders(path)]
    if len({folder.name for folder in folders}) < len(folders):
        raise ValueError("--data: two data sets have one name; pass each of them once")
    return folders


def parse_sets(text: str) -> set[str]:
    """Read the names of data sets in a weights file's metadata: a JSON list, or with commas."""
    names = json.loads(text) if text.lstrip().startswith("[") else text.split(",")
    return {name.strip() for name in names} - {""}
