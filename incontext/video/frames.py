"""Videos in: a file, a folder of pictures, or one file of many pictures, frame by frame.

Frames are counted from 0, and no more than one is held at a time. Files that are no pictures are
read with PyAV, the extra `video`.
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, Unpack, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from incontext.files.decode import MAX_PIXELS, check_size
from incontext.files.images import IMAGE_SUFFIXES, PictureOptions, find_images, load_image
from seggpt.errors import InputError, one_line

logger = logging.getLogger(__name__)

PAGES = ("TIFF", "GIF", "WEBP", "PNG")  # formats of Pillow that may hold many pictures
DIGITS = 5  # of the names of frames that have none of their own, as DAVIS has them


@dataclass(frozen=True)
class Frame:
    """One picture of a video.

    Attributes:
        number: Its place, from 0.
        name: What its files are called.
        picture: Its pixels.
    """

    number: int
    name: str
    picture: UInt8[np.ndarray, "h w 3"]


def numbered(number: int) -> str:
    """Return the name of a frame that has none of its own."""
    return f"{number:0{DIGITS}d}"


@runtime_checkable  # tests check annotations
class Video(Protocol):
    """A source of frames."""

    @property
    def count(self) -> int | None:
        """How many frames there are, or are said to be; None if that is not known."""
        ...

    @property
    def rate(self) -> float | None:
        """Frames a second, if it says so."""
        ...

    def name(self, number: int) -> str:
        """Return what the files of a frame are called, below `count`."""
        ...

    def read(self, start: int, stop: int | None, step: int) -> Iterator[Frame]:
        """Yield every `step`-th frame from `start` up to `stop`, which is left out.

        Raises:
            InputError: at the first frame that cannot be read.
        """
        ...

    def read_back(self, start: int, stop: int, step: int) -> Iterator[Frame]:
        """Yield every `step`-th frame from `start` down to `stop`, which is the last.

        Raises:
            InputError: at the first frame that cannot be read.
        """
        ...


def open_video(path: str | PathLike[str], **options: Unpack[PictureOptions]) -> Video:
    """Return what reads a video; `options` say how its pictures are read.

    Raises:
        InputError: if there is no such file or folder, it has no frames, or PyAV is not installed.
    """
    place = Path(path)
    if place.is_dir():
        return FolderVideo(place, options)
    if not place.is_file():
        raise InputError(f"no such file: {one_line(place)}")
    if place.suffix.lower() in IMAGE_SUFFIXES:
        return PagesVideo(place, options)
    return FileVideo(place)


class FolderVideo:
    """The pictures of a folder in natural order (2 before 10); frames have their names."""

    rate: float | None = None

    def __init__(self, folder: Path, options: PictureOptions) -> None:
        self.files = [file for file, _ in find_images([folder], recursive=False)]
        self.options = options
        stems = [file.stem for file in self.files]
        twice = sorted({stem for stem in stems if stems.count(stem) > 1})
        if twice:
            raise InputError(
                f"{one_line(folder)}: two pictures are called {one_line(twice[0])}; a frame has one"
            )

    @property
    def count(self) -> int:
        """How many pictures there are."""
        return len(self.files)

    def name(self, number: int) -> str:
        """Return the picture's name without its suffix."""
        return self.files[number].stem

    def read(self, start: int, stop: int | None, step: int) -> Iterator[Frame]:
        """Yield frames forwards."""
        return map(self._at, range(start, _end(stop, self.count), step))

    def read_back(self, start: int, stop: int, step: int) -> Iterator[Frame]:
        """Yield frames backwards."""
        return map(self._at, range(start, stop - 1, -step))

    def _at(self, number: int) -> Frame:
        return Frame(number, self.name(number), load_image(self.files[number], **self.options))


class PagesVideo:
    """The pages of a TIFF, or the frames of an animation."""

    rate: float | None = None

    def __init__(self, path: Path, options: PictureOptions) -> None:
        self.path, self.options = path, options
        with self._opened() as image:
            self._check_size(image)
            try:
                self.count: int | None = getattr(image, "n_frames", 1)
            # Counting parses all frames, and Pillow lets out nearly anything on damaged ones.
            except Exception as error:
                raise self._refusal() from error

    def name(self, number: int) -> str:
        """Return its number."""
        return numbered(number)

    def read(self, start: int, stop: int | None, step: int) -> Iterator[Frame]:
        """Yield pages forwards."""
        return self._pages(range(start, _end(stop, self.count), step))

    def read_back(self, start: int, stop: int, step: int) -> Iterator[Frame]:
        """Yield pages backwards."""
        return self._pages(range(start, stop - 1, -step))

    def _pages(self, numbers: range) -> Iterator[Frame]:
        with self._opened() as image:
            for number in numbers:
                try:
                    self._seek(image, number)
                    picture = load_image(image.copy(), **self.options)
                # Pillow's decoders let out nearly any exception on damaged data.
                except Exception as error:
                    raise InputError(
                        f"{one_line(self.path)}: page {number} cannot be read: "
                        f"{one_line(str(error) or type(error).__name__)}"
                    ) from error
                yield Frame(number, self.name(number), picture)

    @contextmanager
    def _opened(self) -> Iterator[Image.Image]:
        try:
            image = Image.open(self.path, formats=PAGES)
        # As above.
        except Exception as error:
            raise self._refusal() from error
        with image:
            yield image

    def _seek(self, image: Image.Image, number: int) -> None:
        """Go to a page, by way of those before it: a GIF's may enlarge what is decoded next."""
        for page in range(image.tell() + 1, number):
            image.seek(page)
            self._check_size(image)
        image.seek(number)
        self._check_size(image)

    def _check_size(self, image: Image.Image) -> None:
        most = self.options.get("max_pixels")
        check_size(
            image.size,
            name=one_line(self.path),
            max_pixels=MAX_PIXELS if most is None else most,
        )

    def _refusal(self) -> InputError:
        return InputError(
            f"{one_line(self.path)}: no file of many pictures that can be read; give a video, "
            "a folder, a TIFF of several pages or an animation"
        )


def _end(stop: int | None, count: int | None) -> int:
    known = [number for number in (stop, count) if number is not None]
    return min(known)


class FileVideo:
    """A video file, decoded with PyAV."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._opened() as (_, stream):
            frames, rate = stream.frames, stream.average_rate or stream.guessed_rate
            seconds = float(stream.duration * stream.time_base) if stream.duration else None
        self.rate = float(rate) if rate else None
        guess = round(seconds * self.rate) if seconds and self.rate else None
        self.count: int | None = frames or guess

    def name(self, number: int) -> str:
        """Return its number."""
        return numbered(number)

    def read(self, start: int, stop: int | None, step: int) -> Iterator[Frame]:
        """Decode from the beginning, as frames before `start` cannot be counted otherwise."""
        number = -1
        try:
            with self._opened() as (container, stream):
                for number, frame in enumerate(container.decode(stream)):
                    if stop is not None and number >= stop:
                        return
                    if number >= start and (number - start) % step == 0:
                        picture = np.ascontiguousarray(np.rot90(
                            frame.to_ndarray(format="rgb24"), (frame.rotation // 90) % 4
                        ))  # fmt: skip
                        yield Frame(number, numbered(number), picture)
        except self._error as error:
            raise InputError(
                f"{one_line(self.path)}: {number + 1} frames were decoded, then it is damaged: "
                f"{getattr(error, 'strerror', error)}"
            ) from error
        if number < 0:
            raise InputError(f"{one_line(self.path)}: no frames in it")

    def read_back(self, start: int, stop: int, step: int) -> Iterator[Frame]:
        """Decode forward to a temporary folder, and read that backwards."""
        with tempfile.TemporaryDirectory(prefix="seggpt-") as folder:
            kept: list[tuple[Frame, Path]] = []
            first = start - (start - stop) // step * step
            for frame in self.read(first, start + 1, step):
                file = Path(folder, f"{frame.name}.npy")
                np.save(file, frame.picture)
                kept.append((Frame(frame.number, frame.name, frame.picture[:0]), file))
            for frame, file in reversed(kept):
                yield Frame(frame.number, frame.name, np.load(file))
                file.unlink()

    @cached_property
    def _error(self) -> type[Exception]:
        return self._av().FFmpegError

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        av = self._av()
        try:
            container = av.open(str(self.path))
        except av.FFmpegError as error:
            raise InputError(
                f"{one_line(self.path)}: no video that can be read: {error.strerror}"
            ) from error
        with container:
            if not container.streams.video:
                raise InputError(f"{one_line(self.path)}: no pictures in it, only sound or text")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream

    def _av(self) -> Any:
        try:
            import av
        except ImportError as error:
            raise InputError(
                f'{one_line(self.path)}: videos need PyAV: pip install "seggpt-jax[video]"; a '
                "folder of frames does not"
            ) from error
        return av
