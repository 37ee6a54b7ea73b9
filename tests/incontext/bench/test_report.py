from incontext.bench.report import Row, format_rows


def row(name: str, **changed) -> Row:
    facts = {
        "device": "cpu",
        "dtype": "float32",
        "task": "1 example",
        "first_s": 3.0,
        "picture_s": 0.5,
        "peak_mib": 400.0,
        "gflop": 50.0,
        "matmul_gflops": 200.0,
    }
    return Row(name=name, **(facts | changed))


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_ratios_are_ours_to_each_peers_at_the_same_task() -> None:
    peer = row("peer", picture_s=2.0, peak_mib=1600.0, gflop=0.0, matmul_gflops=0.0)
    rows = [row("ours"), peer, row("ours", task="8 examples", picture_s=4.0)]
    header, _, ours, theirs, eight = cells(format_rows(rows))
    assert header[-2:] == ["time ratio", "memory ratio"]
    assert theirs[-2:] == ["0.25", "0.25"]
    assert ours[-2:] == eight[-2:] == ["", ""]


def test_achieved_speed_is_a_share_of_the_matmul_s() -> None:
    *_, ours = cells(format_rows([row("ours")]))
    assert ours[9:11] == ["100", "50%"]


def test_what_is_not_known_is_left_empty() -> None:
    *_, unknown = cells(format_rows([row("ours", gflop=0.0, matmul_gflops=0.0)]))
    assert unknown[9:11] == ["", ""]
