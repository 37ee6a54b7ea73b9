import jax.numpy as jnp
import numpy as np
import pytest

from train.running.hosts import COORDINATOR, COUNT, NUMBER, Agreement, connect, to_host
from train.sharding import make_mesh


@pytest.mark.parametrize("given", [{COUNT: "2"}, {COORDINATOR: "localhost:1", COUNT: "two"}])
def test_half_of_the_variables_is_one_clear_message(monkeypatch, given):
    for name in (COORDINATOR, COUNT, NUMBER):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"--distributed: .*set {COORDINATOR}=HOST:PORT"):
        connect()


def test_one_process_agrees_with_itself_at_once():
    agree = Agreement(make_mesh())
    assert [agree(0), agree(15)] == [0, 15]


def test_arrays_come_to_the_host_whole():
    tree = to_host({"a": jnp.arange(3)})
    assert isinstance(tree["a"], np.ndarray)
    np.testing.assert_array_equal(tree["a"], [0, 1, 2])
