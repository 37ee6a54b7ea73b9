import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from train.report.__main__ import main


class Tags(HTMLParser):
    """Collects tags and where they lead."""

    def __init__(self):
        super().__init__()
        self.tags, self.sources = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]


@pytest.fixture
def run(tmp_path):
    rows = [
        {"step": s, "loss": 1 / s, "grad_norm": 1.0, "lr": 0.1, "seconds_per_step": 0.5}
        for s in (2, 4, 6)
    ]
    rows.insert(1, {"step": 3, "skipped": "loss is nan", "batch": ["a <b>/1", "c/2"]})
    rows += [{"step": 4, "iou": 0.5}, {"step": 6, "iou": 0.25}]
    lines = [json.dumps(row) for row in rows] + ['{"step": 7, "lo']
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    (tmp_path / "config.json").write_text(json.dumps({"steps": 8, "init": "<script>"}))
    for step in range(1, 10):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / f"sheet_{step:07d}.png")
    return tmp_path


def test_a_report_has_all_of_a_run_in_one_file(run, capsys):
    assert main([str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    text = (run / "report.html").read_text()
    found = Tags()
    found.feed(text)
    assert found.tags.count("svg") == 5  # iou, loss, grad_norm, lr, seconds_per_step
    assert found.tags.count("img") == 6
    assert all(source.startswith("data:image/png;base64,") for source in found.sources)
    assert "http" not in text
    assert "step 9<" in text  # the last sheet
    assert "6 of 8" in text
    assert "0.2500, highest 0.5000 at step 4" in text
    assert re.search(r"skipped steps</th><td>1<", text)


def test_names_cannot_write_html(run):
    assert main([str(run)]) == 0
    text = (run / "report.html").read_text()
    assert "a &lt;b&gt;/1; c/2" in text
    assert "<script>" not in text


def test_a_folder_without_a_run_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("report: error: ")
    assert "no run here (log.jsonl)" in said
    assert said.count("\n") == 1
