from types import SimpleNamespace

import pytest

from incontext import batching
from incontext.batching import choose_batch, free_bytes, most_pictures

MIB = 1 << 20


def program(mib: int) -> SimpleNamespace:
    memory = SimpleNamespace(temp_size_in_bytes=mib * MIB, output_size_in_bytes=0)
    return SimpleNamespace(memory_analysis=lambda: memory)


def device(platform: str, *, free_mib: int) -> SimpleNamespace:
    stats = {"bytes_limit": (free_mib + 100) * MIB, "bytes_in_use": 100 * MIB}
    return SimpleNamespace(platform=platform, memory_stats=lambda: stats)


@pytest.mark.parametrize(
    ("free_mib", "batch"), [(10_000, 32), (640, 32), (639, 16), (161, 8), (20, 1), (0, 1)]
)
def test_half_of_the_free_memory_is_filled_by_a_power_of_two(free_mib: int, batch: int) -> None:
    assert choose_batch(program(320), tried=32, device=device("gpu", free_mib=free_mib)) == batch


def test_large_pictures_go_through_a_cpu_alone() -> None:
    cpu = device("cpu", free_mib=64_000)
    assert choose_batch(program(4 * 10), tried=4, device=cpu) == 4
    assert choose_batch(program(4 * 300), tried=4, device=cpu) == 1


def test_without_an_estimate_pictures_go_alone() -> None:
    silent = SimpleNamespace(memory_analysis=lambda: None)
    assert choose_batch(silent, tried=4, device=device("cpu", free_mib=64_000)) == 1


def test_a_machine_without_device_statistics_is_asked_itself() -> None:
    plain = SimpleNamespace(platform="cpu", memory_stats=lambda: None)
    assert free_bytes(plain) > MIB
    assert most_pictures(plain) == batching.MOST["cpu"]
