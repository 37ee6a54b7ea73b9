import threading

import pytest

from data.prefetch import prefetch


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("depth", [0, 2, 50])
def test_everything_comes_in_order(depth, workers):
    made = prefetch(lambda step: step**2, range(3, 20), depth=depth, workers=workers)
    assert list(made) == [step**2 for step in range(3, 20)]


def test_no_more_is_made_than_asked_for():
    made = []
    steps = prefetch(made.append, range(100), depth=3)
    next(steps)
    steps.close()
    assert made == list(range(len(made)))
    assert len(made) <= 4
    assert not [t for t in threading.enumerate() if t.name.startswith("prefetch")]


def test_errors_come_where_their_step_would():
    steps = prefetch(lambda step: 1 // (step - 2), range(5), depth=3)
    assert [next(steps), next(steps)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(steps)
