"""`seggpt demo`: real pictures, no network, a page to look at."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from incontext.cli import main

pytest.importorskip("skimage")


def test_writes_pairs_masks_sheets_and_a_page(segmenter, tmp_path, capsys):
    out = tmp_path / "demo"
    assert main(["demo", "-o", str(out)]) == 0
    page = (out / "index.html").read_text()
    folders = sorted(path.name for path in out.iterdir() if path.is_dir())
    assert len(folders) >= 3
    for name in folders:
        files = {path.name for path in (out / name).iterdir()}
        assert files == {
            "example.png",
            "example_mask.png",
            "target.png",
            "result.png",
            "result.overlay.png",
            "sheet.png",
        }
        assert f'src="{name}/sheet.png"' in page
        share = (np.asarray(Image.open(out / name / "example_mask.png")) > 0).mean()
        assert 0.02 < share < 0.9
    said = capsys.readouterr()
    assert "index.html" in said.err
    assert all(str(out / name) in said.out for name in folders)


def test_an_earlier_demo_is_not_overwritten_unasked(segmenter, tmp_path, capsys):
    (tmp_path / "index.html").write_text("mine")
    assert main(["demo", "-o", str(tmp_path)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "index.html").read_text() == "mine"
    assert main(["demo", "-o", str(tmp_path), "--overwrite"]) == 0


def test_without_scikit_image_one_line_says_what_to_install(segmenter, capsys, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "skimage" else find_spec(name)
    )
    assert main(["demo"]) == 1
    assert 'pip install "seggpt-jax[demo]"' in capsys.readouterr().err
    assert not Path("seggpt-demo").exists()
