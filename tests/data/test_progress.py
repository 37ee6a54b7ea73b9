from data import progress


def test_long_work_says_how_far_it_is(capsys, monkeypatch):
    now = iter(range(0, 1000, 30))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    advance = progress.make_progress(3, label="objects")
    for _ in range(3):
        advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["objects 1/3, 1.0 minutes left", "objects 2/3, 0.5 minutes left"]
