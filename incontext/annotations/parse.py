"""JSON of strangers: read within limits, and every value checked where it is asked for."""

import json
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Float64

from seggpt.errors import InputError, one_line

MAX_BYTES = 512 << 20
"""Largest annotation file; COCO's own of 118,000 pictures has 448 MiB."""

Points = Float64[np.ndarray, "_ 2"]
_LONGEST = 40  # characters of a value in a message
_FAR = 1e9  # pixels


@dataclass(frozen=True)
class Node:
    """A value, where it stands in words fit for a message, and the key that it is under."""

    value: Any
    place: str
    key: str = ""

    def error(self, words: str) -> InputError:
        """Return the error for what stands here."""
        return InputError(f"{self.place}: {words}")

    def _must_be(self, what: str) -> InputError:
        subject = f"{self.key} must" if self.key else "must"
        return self.error(f"{subject} be {what}, and is {show(self.value)}")

    def has(self, key: str) -> bool:
        """Whether there is something other than null under a key."""
        return isinstance(self.value, dict) and self.value.get(key) is not None

    def __getitem__(self, key: str) -> "Node":
        """Return what is under a key.

        Raises:
            InputError: This is no object, or has no such key.
        """
        if not isinstance(self.value, dict):
            raise self._must_be("an object")
        path = f"{self.key}.{key}" if self.key else key
        if key not in self.value:
            raise self.error(f"{path} is missing")
        return Node(self.value[key], self.place, path)

    def items(self, what: str) -> Iterator["Node"]:
        """Yield the parts of a list, each called `what` with its number, from 1.

        Raises:
            InputError: This is no list.
        """
        if not isinstance(self.value, list):
            raise self._must_be("a list")
        for number, value in enumerate(self.value, 1):
            yield Node(value, f"{self.place}: {what} {number}")

    def text(self) -> str:
        """Return a text.

        Raises:
            InputError: This is none, or an empty one.
        """
        if not isinstance(self.value, str) or not self.value.strip():
            raise self._must_be("a text")
        return self.value

    def whole(self, *, least: int | None = None) -> int:
        """Return a whole number below 2^53.

        Raises:
            InputError: This is none, or too small.
        """
        value = self.value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 1 << 53:
            raise self._must_be("a whole number")
        if least is not None and value < least:
            raise self._must_be(f"{least} or more")
        return value

    def points(self, *, least: int = 3) -> Points:
        """Return a list of [x, y] as an array.

        Raises:
            InputError: It is no such list, has too few points, or numbers that are not finite.
        """
        if not isinstance(self.value, list):
            raise self._must_be("a list of points")
        for number, point in enumerate(self.value, 1):
            # GeoJSON may have heights behind x and y.
            if not isinstance(point, list) or len(point) < 2:
                raise self.error(f"point {number} must be [x, y], and is {show(point)}")
        flat = [number for point in self.value for number in point[:2]]
        return self._checked(flat, least=least)

    def flat_points(self, *, least: int = 3) -> Points:
        """Return a list x, y, x, y, ... as an array.

        Raises:
            InputError: As of `points`, or the count is odd.
        """
        if not isinstance(self.value, list):
            raise self.error(
                f"polygon must be a list of numbers x, y, ..., and is {show(self.value)}"
            )
        if len(self.value) % 2:
            raise self.error(f"polygon has {len(self.value)} numbers, and x and y come in pairs")
        return self._checked(self.value, least=least)

    def _checked(self, flat: Sequence[Any], *, least: int) -> Points:
        if len(flat) < 2 * least:
            what = "polygon" if least == 3 else "shape"
            raise self.error(f"{what} needs {least} points or more, and has {len(flat) // 2}")
        for index, number in enumerate(flat):
            if type(number) not in (int, float) or not -_FAR < number < _FAR:  # nor NaN
                raise self.error(f"point {index // 2 + 1}: {show(number)} is no coordinate")
        return np.array(flat, np.float64).reshape(-1, 2)


def show(value: object) -> str:
    """Return a value for a message, cut short."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, int) and abs(value) >= 1 << 63:
        return "a huge number"
    text = one_line(value) if isinstance(value, str) else str(value)
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
    return f"'{text}'" if isinstance(value, str) else text


def load_json(path: Path) -> Node:
    """Read a JSON file.

    Raises:
        InputError: It is missing, too large, or no JSON; the message has line and column.
    """
    name = one_line(path)
    text = read_text(path)
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{name}: line {error.lineno}, column {error.colno}: invalid JSON ({error.msg}); "
            "export it again"
        ) from error
    except RecursionError as error:
        raise InputError(f"{name}: invalid JSON: nested too deeply; export it again") from error
    except ValueError as error:  # NaN, or a number of thousands of digits
        raise InputError(f"{name}: invalid JSON: {error}; export it again") from error
    return Node(value, name)


def read_text(path: Path, *, max_bytes: int = MAX_BYTES) -> str:
    """Read a text file in UTF-8.

    Raises:
        InputError: It is missing, no regular file, too large, or no text.
    """
    name = one_line(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{name}: not a regular file; pass an annotation file")
        if status.st_size > max_bytes:
            raise InputError(
                f"{name}: {status.st_size >> 20} MiB, and {max_bytes >> 20} MiB are the most; "
                "export fewer pictures"
            )
        text = path.read_bytes().decode("utf-8-sig")
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}: no UTF-8 text (byte {error.start + 1}); save it again"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{name}: cannot read: {reason}") from error
    if not text.strip("\0 \t\r\n") and path.suffix.lower() != ".txt":
        raise InputError(f"{name}: empty file; export it again")
    return text


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")
