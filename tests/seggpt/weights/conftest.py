"""Builders of small checkpoints and of archives that torch would never write."""

import io
import struct
import zipfile
from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
import pytest

from seggpt.weights.names import Dialect, name_table
from seggpt.weights.shapes import spell_shape

# A model of 32 x 32 pixels: patches of 8, so a grid of 4 x 4, and 2 heads of 4.
LETTERS = {"d": 8, "p": 8, "n": 10, "k": 4, "m": 16, "v": 15, "w": 7, "c": 2, "t": 4}


def build_state(
    dialect: Dialect, *, depth: int = 4, type_tokens: bool = True
) -> dict[str, np.ndarray]:
    """Make a random state dict in torch's layout, float32."""
    rng = np.random.default_rng(0)
    table = name_table(dialect=dialect, depth=depth, type_tokens=type_tokens)
    state = {}
    for name in table:
        shape = [int(n) for n in spell_shape(name.shape, values=LETTERS)[1:-1].split(", ")]
        state[name.theirs] = rng.standard_normal(shape).astype(np.float32)
    return state


def build_zip(
    pickle: bytes,
    storages: Mapping[str, bytes] | None = None,
    *,
    compression: int = zipfile.ZIP_STORED,
    byteorder: bytes = b"little",
) -> bytes:
    """Make an archive as torch lays it out, with correct checksums."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickle)
        archive.writestr("archive/byteorder", byteorder)
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)
    return buffer.getvalue()


def build_pickle(body: bytes, *, wrapper: str = "model") -> bytes:
    """Wrap opcodes that leave one value into `{"model": value}`."""
    return b"\x80\x02}" + spell_text(wrapper) + body + b"s."


def spell_text(text: str) -> bytes:
    """Spell a BINUNICODE opcode."""
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def spell_int(number: int) -> bytes:
    """Spell a LONG1 opcode."""
    data = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def spell_tensor(
    *, key: str = "0", count: int, offset: int = 0, size: tuple[int, ...], stride: tuple[int, ...]
) -> bytes:
    """Spell a float32 tensor as torch.save does."""
    storage = (
        b"(" + spell_text("storage") + b"ctorch\nFloatStorage\n" + spell_text(key)
        + spell_text("cpu") + spell_int(count) + b"tQ"
    )  # fmt: skip
    extents = [b"(" + b"".join(spell_int(n) for n in ns) + b"t" for ns in (size, stride)]
    hooks = b"ccollections\nOrderedDict\n)R"
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n("
    return rebuild + storage + spell_int(offset) + b"".join(extents) + b"\x89" + hooks + b"tR"


def build_pth(state: Mapping[str, np.ndarray], *, wrapper: str | None = "model") -> bytes:
    """Make the `.pth` file of a state dict of float32 arrays."""
    items = b""
    for key, (name, array) in enumerate(state.items()):
        stride = tuple(step // 4 for step in np.ascontiguousarray(array).strides)
        tensor = spell_tensor(key=str(key), count=array.size, size=array.shape, stride=stride)
        items += spell_text(name) + tensor
    body = b"}(" + items + b"u"
    pickle = build_pickle(body, wrapper=wrapper) if wrapper else b"\x80\x02" + body + b"."
    storages = {str(key): array.tobytes() for key, array in enumerate(state.values())}
    return build_zip(pickle, storages)


@pytest.fixture(scope="session")
def build() -> SimpleNamespace:
    """The builders above; a fixture, because test folders are not packages."""
    return SimpleNamespace(
        letters=LETTERS,
        state=build_state,
        zip=build_zip,
        pickle=build_pickle,
        text=spell_text,
        int=spell_int,
        tensor=spell_tensor,
        pth=build_pth,
    )
