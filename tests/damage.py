"""Damage to files, for tests that nothing but our own errors comes of it."""

import json
import random
import resource
import struct
import warnings
import zlib
from collections.abc import Callable

from hypothesis import strategies as st

SEEDS = st.integers(0, 2**32 - 1)
STRANGE = (
    *(None, True, False, 0, -1, 3, 1.5, 10**9, 10**30, 10**400, float("nan"), float("inf"), -1e308),
    *("", "a", "../../x", "a.png\0", "o" * 50, [], {}, [[]], [[0, 0]] * 3, [None], {"id": 1}),
    *([1, 2, 3, 4, 5, 6], "Feature", "mask", "circle", "__ignore__", [10**9, 10**9], "\ud800"),
)
NUMBERS = (0, 1, 2, 3, 7, 255, 256, 2**15, 2**16 - 1, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
TEXTS = (b" 1e999", b"nan ", b"-", b"[" * 50, b'"', b"9" * 40)


def change(value: object, rng: random.Random) -> object:
    """Return a value with one thing changed, somewhere inside of it."""
    if isinstance(value, list | dict) and value and rng.random() < 0.9:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        changed = dict(value) if isinstance(value, dict) else list(value)
        kind = rng.random()
        if kind < 0.1:
            del changed[key]
        elif kind < 0.15 and isinstance(changed, list):
            changed.insert(key, changed[key])
        else:
            changed[key] = change(value[key], rng)
        return changed
    return rng.choice(STRANGE)


def change_json(data: bytes, rng: random.Random) -> bytes:
    """Return JSON with one value changed, or a few."""
    value = json.loads(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        value = change(value, rng)
    return json.dumps(value).encode()


def change_text(data: bytes, rng: random.Random) -> bytes:
    """Return text with bytes changed, cut out and put in."""
    noise = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(noise) + 1)
        kind = rng.random()
        if kind < 0.4:
            noise[place : place + 1] = bytes([rng.randrange(256)])
        elif kind < 0.7:
            noise[place : place + rng.randint(1, 20)] = b""
        else:
            noise[place:place] = rng.choice(TEXTS)
    return bytes(noise)


def change_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return a binary file with bytes or whole numbers changed, copied, cut out and put in."""
    if data.startswith(b"\x89PNG") and rng.random() < 0.6:
        return _change_chunk(data, rng)
    noise = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = int(rng.random() ** rng.choice((1, 1, 3)) * len(noise))  # more often in the header
        kind = rng.random()
        if kind < 0.35:
            noise[place : place + 1] = bytes([rng.randrange(256)])
        elif kind < 0.7:
            size, order = rng.choice((2, 4)), rng.choice(("little", "big"))
            number = rng.choice(NUMBERS) % (1 << 8 * size)
            noise[place : place + size] = number.to_bytes(size, order)
        elif kind < 0.8:
            source = rng.randrange(len(noise) + 1)
            noise[place : place + 12] = noise[source : source + 12]
        elif kind < 0.9:
            noise[place : place + rng.choice((1, 4, 12, 100_000))] = b""
        else:
            noise[place:place] = rng.randbytes(rng.randint(1, 8))
    return bytes(noise)


def refusal(
    read: Callable[[], object], *errors: type[Exception], most_memory: int = 64 << 20
) -> str:
    """Return the one line with which damage is refused; nothing where it is read.

    Nothing but `errors` may come of it, nor may it ask for more memory than `most_memory` bytes.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's and tifffile's, of what is odd in a file
        try:
            read()
        except errors as error:
            said = str(error)
            assert said
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown << 10 <= most_memory
    assert len(said.splitlines()) <= 1
    return said


def _change_chunk(data: bytes, rng: random.Random) -> bytes:
    """Return a PNG with damage inside a chunk, whose checksum is right."""
    chunks, place = [], 8
    while place < len(data):
        (size,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + size]))
        place += 12 + size
    chosen = rng.randrange(len(chunks))
    kind, body = chunks[chosen]
    match rng.randrange(5):
        case 0:
            chunks.insert(rng.randrange(len(chunks)), chunks[chosen])
        case 1:
            del chunks[chosen]
        case 2 if kind == b"IDAT":
            chunks[chosen] = kind, zlib.compress(change_bytes(zlib.decompress(body), rng))
        case _:
            chunks[chosen] = kind, change_bytes(body, rng)
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
