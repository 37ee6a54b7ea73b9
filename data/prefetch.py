"""Prefetch: compute the next items in a thread while the present one is used."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetch(
    make: Callable[[int], T], steps: Iterable[int], *, depth: int = 3, workers: int = 1
) -> Generator[T, None, None]:
    """Yield `make(step)` for every step in order, made by threads up to `depth` steps ahead."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="prefetch")
    waiting: deque[Future[T]] = deque()
    try:
        for step in steps:
            waiting.append(pool.submit(make, step))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
