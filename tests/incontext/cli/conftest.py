"""A segmenter that needs no weights: it marks what is bright, and can be told to fail."""

import json
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

import incontext
from incontext.result import Result
from seggpt.errors import InputError

REJECTED = (1, 2, 3)  # the colour of pictures that the model refuses


class FakeSegmenter:
    """Has the methods of `incontext.Segmenter` that the command line calls."""

    fingerprint = "fake"
    # The fixture makes a subclass with fresh ones of these for every test.
    asked: ClassVar[dict]
    alive: ClassVar[weakref.WeakSet]
    loaded = 0
    most_alive = 0
    before_result = staticmethod(lambda count: None)

    @classmethod
    def from_pretrained(
        cls, name_or_path=None, *, encoder=None, device=None, dtype=None, size=None
    ):
        cls.loaded += 1
        cls.asked = {"model": name_or_path, "encoder": encoder, "device": device}
        return cls()

    def context(self, examples, *, ensemble="auto", seg_type="semantic", names=None):
        type(self).asked |= {"examples": len(examples), "ensemble": ensemble}
        type(self).asked |= {"seg_type": seg_type}
        return "context"

    def batch_size(self, context, detail=None):
        return 4

    def segment(self, image, context, *, threshold=None, detail="plain"):
        return next(self.segment_many([image], context, threshold=threshold, detail=detail))

    def segment_many(self, images, context, *, batch_size="auto", threshold=None, detail="plain"):
        assert context == "context"
        type(self).asked |= {"threshold": threshold, "batch_size": batch_size, "detail": detail}
        batch_size = 1 if batch_size == "auto" else batch_size
        batch = []
        for count, image in enumerate(images):
            batch.append(np.asarray(image))
            if len(batch) == batch_size:
                yield from (self._result(image, count, threshold) for image in batch)
                batch = []
        yield from (self._result(image, len(batch), threshold) for image in batch)

    def _result(self, image, count, threshold):
        type(self).before_result(count)
        if tuple(image[0, 0]) == REJECTED:
            raise InputError("the model refuses this picture")
        bright = image.mean(axis=2)[None].astype(np.float32) / 255
        result = Result(
            probabilities_lowres=np.concatenate([1 - bright, bright]),
            labels=(1,),
            size=image.shape[:2],
            image=image,
            threshold=0.5 if threshold is None else threshold,
        )
        type(self).alive.add(result)
        type(self).most_alive = max(self.most_alive, len(self.alive))
        return result


@pytest.fixture
def segmenter(monkeypatch):
    """The class that stands in for `incontext.Segmenter`."""
    fake = type("Fake", (FakeSegmenter,), {"alive": weakref.WeakSet(), "asked": {}})
    monkeypatch.setattr(incontext, "Segmenter", fake, raising=False)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    return fake


def write_picture(path: Path, *, value=200, color=None, size=(12, 10)) -> Path:
    """Write a picture that is dark on its left half and bright, or of a colour, on its right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, color or (20, 20, 20))
    image.paste((value, value, value), (size[0] // 2, 0, size[0], size[1]))
    image.save(path)
    return path


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with one example pair, as the working directory."""
    monkeypatch.chdir(tmp_path)
    write_picture(tmp_path / "example.png")
    mask = Image.new("L", (12, 10))
    mask.paste(255, (6, 0, 12, 10))
    mask.save(tmp_path / "mask.png")

    def records():
        return [json.loads(line) for line in Path("out/results.jsonl").read_text().splitlines()]

    def written(folder="out"):
        files = (path for path in Path(folder).rglob("*") if path.is_file())
        return sorted(str(path.relative_to(folder)) for path in files)

    return SimpleNamespace(
        pair=["-e", "example.png", "mask.png"],
        rejected=REJECTED,
        picture=write_picture,
        records=records,
        written=written,
        run=lambda: json.loads(Path("out/run.json").read_text()),
    )
