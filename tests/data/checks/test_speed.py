from data.checks.speed import main
from tests.data.drawn import write_drawn_dataset


def test_every_stage_has_a_speed(tmp_path, capsys):
    write_drawn_dataset(tmp_path, name="drawn", pictures=6, size=24)
    given = [str(tmp_path), "--size", "16", "--batch", "1", "--threads", "1", "--seconds", "0.01"]
    assert main(given) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["read", "decode", "resize", "batch", "device"]
    assert all(float(row[1]) > 0 for row in rows)


def test_no_data_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "no data set here" in capsys.readouterr().err
