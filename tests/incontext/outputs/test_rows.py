"""Label maps that are written as their rows come."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from incontext.outputs.formats import OUTPUT_SUFFIXES, Drawing, write_output
from incontext.outputs.rows import ROW_FORMATS, write_rows


@pytest.mark.parametrize("most", [3, 255, 700])
def test_pixels_are_those_of_the_usual_writer(most: int, tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, most + 1, (50, 37)).astype(np.int32)
    labels[0, 0] = most
    outputs = [output for output in ROW_FORMATS if output == "labels" or most <= 255]
    paths = {output: tmp_path / f"rows{OUTPUT_SUFFIXES[output]}" for output in outputs}
    bands = (labels[top : top + 8] for top in range(0, 50, 8))
    write_rows(bands, paths, size=labels.shape, most=most)
    for output, path in paths.items():
        usual = tmp_path / f"usual{OUTPUT_SUFFIXES[output]}"
        write_output(Drawing(label_map=labels, labels=tuple(range(1, most + 1))), output, usual)
        one, other = Image.open(path), Image.open(usual)
        assert (one.mode, one.size) == (other.mode, other.size)
        assert one.getpalette() == other.getpalette()
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_nothing_is_left_of_a_run_that_stops(tmp_path: Path) -> None:
    def bands():
        yield np.zeros((2, 5), np.int32)
        raise KeyboardInterrupt

    paths = {output: tmp_path / f"{output}.png" for output in ROW_FORMATS}
    with pytest.raises(KeyboardInterrupt):
        write_rows(bands(), paths, size=(4, 5), most=1)
    assert list(tmp_path.iterdir()) == []
