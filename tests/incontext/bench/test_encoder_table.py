import json

from incontext.bench.encoder_table import main
from seggpt.config import ENCODERS


def test_what_was_measured_stands_beside_what_is_counted(tmp_path, capsys) -> None:
    row = {"name": "dinov3-base", "task": "encode 672 px", "cpu_s": 3.25, "peak_mib": 812.5}
    (tmp_path / "measured.jsonl").write_text(json.dumps(row) + "\n")
    assert main([str(tmp_path / "measured.jsonl")]) == 0
    _, rule, *rows = capsys.readouterr().out.splitlines()
    assert rule.count("---") == 5
    assert len(rows) == len(ENCODERS)
    (base,) = [line for line in rows if "`dinov3-base`" in line]
    assert base.endswith("| 85.7 M | 145 / 383 / 1212 | - / 3.2 / - | - / 812 / - |")
    assert rows[0].endswith("|  |  |")
