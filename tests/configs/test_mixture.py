from typing import get_args

import pytest

from configs.mixture import INSTANCES, PAIRS, WEIGHTS
from data.benchmarks.protocols import Name
from data.builders.table import DATA_SETS


def test_the_mixture_is_of_sets_that_can_be_prepared():
    official = {name for name, row in DATA_SETS.items() if row.home}
    assert set(WEIGHTS) == official - set(get_args(Name))  # kept for testing
    assert sum(WEIGHTS.values()) == pytest.approx(0.99)  # as the paper prints them
    assert set(INSTANCES) <= set(WEIGHTS)
    assert PAIRS.temperature == 0
