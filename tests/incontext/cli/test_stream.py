"""Batches that a device has no memory for."""

import logging
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from incontext.cli.plan import Job
from incontext.cli.running.pipeline import Failure
from incontext.cli.stream import Stream
from incontext.result import Result

PICTURES = [
    (Job(Path(f"{number}.png"), Path(str(number)), ()), np.full((2, 3, 3), number, np.uint8))
    for number in range(7)
]


class Device:
    """Runs out of memory for batches that are too large, and for certain pictures."""

    def __init__(self, most, *, huge=(), error=None):
        self.most, self.huge, self.batches = most, huge, []
        self.error = error or RuntimeError("RESOURCE_EXHAUSTED: out of memory allocating 1 byte")

    def segment_many(self, images, *, batch_size):
        images = iter(images)
        while batch := list(islice(images, batch_size)):
            self.batches.append(len(batch))
            if batch_size > self.most or any(image[0, 0, 0] in self.huge for image in batch):
                raise self.error
            yield from map(self.result, batch)

    def result(self, image):
        found = np.full((2, 1, 1), 0.5, np.float32)
        return Result(probabilities_lowres=found, labels=(1,), size=image.shape[:2], image=image)

    def run(self, batch_size):
        stream = Stream(segment=self.result, segment_many=self.segment_many, batch_size=batch_size)
        return list(stream.run(iter(PICTURES)))


@pytest.mark.parametrize("error", [None, MemoryError()])
def test_the_batch_is_halved_and_all_pictures_are_done_in_order(error, caplog):
    device = Device(2, error=error)
    with caplog.at_level(logging.WARNING):
        outcomes = device.run(8)
    assert [job for job, _ in outcomes] == [job for job, _ in PICTURES]
    for (_, picture), (_, result) in zip(PICTURES, outcomes, strict=True):
        assert isinstance(result, Result)
        np.testing.assert_array_equal(result.image, picture)
    assert [record.message for record in caplog.records] == [
        "out of memory; going on with --batch 4",
        "out of memory; going on with --batch 2",
    ]
    assert device.batches[-1] <= 2


def test_a_picture_too_large_alone_fails_by_name_and_the_rest_is_done():
    outcomes = Device(8, huge=(3,)).run(4)
    assert [job for job, _ in outcomes] == [job for job, _ in PICTURES]
    failures = [outcome for _, outcome in outcomes if isinstance(outcome, Failure)]
    assert len(failures) == 1
    assert failures[0].reason.startswith("3.png: out of memory for 3x2; ")


def test_other_errors_of_the_device_are_not_taken_for_it():
    with pytest.raises(RuntimeError, match="INTERNAL"):
        Device(1, error=RuntimeError("INTERNAL: bug")).run(2)
