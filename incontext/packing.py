"""Adapters as a file holds them: the first with 8 bits a number, others by how they differ from it.

Adapters that start from one trunk stay close to each other: 4 bits a number tell them apart.
"""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float32, PyTree, UInt8

from seggpt.adapter import adapter_shapes
from seggpt.weights.tree import flatten, unflatten

FIRST_BITS, OTHER_BITS = 8, 4
PER_BYTE = 8 // OTHER_BITS
VECTOR_BYTES = 2


def pack(members: Sequence[PyTree]) -> PyTree:
    """Return the arrays of a file; kernels are rounded, all else is narrowed to 16 bits."""
    trees = [flatten(jax.device_get(member)) for member in members]
    packed = {}
    for name in trees[0]:
        first, *others = (np.asarray(tree[name], np.float32) for tree in trees)
        if first.ndim < 2:
            packed[f"{name}.vectors"] = _half(np.stack([first, *others]))
            continue
        numbers, scale = _round(first, FIRST_BITS)
        packed[f"{name}.first"] = (numbers + 2 ** (FIRST_BITS - 1)).astype(np.uint8)
        packed[f"{name}.scale"] = scale
        rounded = [_round(other - numbers * scale, OTHER_BITS) for other in others]
        if rounded:
            packed[f"{name}.others"] = np.stack([_squeeze(numbers) for numbers, _ in rounded])
            packed[f"{name}.scales"] = np.stack([scale for _, scale in rounded])
    return unflatten(packed)


def unpack(packed: PyTree) -> tuple[PyTree, ...]:
    """Return the adapters of a file.

    Raises:
        KeyError, ValueError: if these are not the arrays that `pack` gives.
    """
    arrays = flatten(packed)
    names = dict.fromkeys(name.rpartition(".")[0] for name in arrays)
    count = next(len(array) for name, array in arrays.items() if name.endswith(".vectors"))
    members: list[dict[str, np.ndarray]] = [{} for _ in range(count)]
    for name in names:
        if f"{name}.vectors" in arrays:
            for member, vector in zip(members, arrays[f"{name}.vectors"], strict=True):
                member[name] = np.asarray(vector, np.float32)
            continue
        numbers = arrays[f"{name}.first"].astype(np.float32) - 2 ** (FIRST_BITS - 1)
        first = numbers * arrays[f"{name}.scale"]
        members[0][name] = first
        if count > 1:
            rows = zip(arrays[f"{name}.others"], arrays[f"{name}.scales"], strict=True)
            for member, (row, scale) in zip(members[1:], rows, strict=True):
                member[name] = first + _spread(row, first.shape) * scale
    return tuple(unflatten(member) for member in members)


def packed_bytes(planes: int, looks: int, count: int) -> int:
    """Return what `count` adapters take in a file, without its header."""
    total = 0
    for shape in adapter_shapes(planes, looks):
        size = int(np.prod(shape))
        if len(shape) < 2:
            total += VECTOR_BYTES * size * count
        else:
            total += size + (count - 1) * -(-size // PER_BYTE) + VECTOR_BYTES * shape[-1] * count
    return total


def _round(
    kernel: Float32[np.ndarray, "*n out"], bits: int
) -> tuple[Float32[np.ndarray, "*n out"], Float32[np.ndarray, " out"]]:
    """Return a kernel in whole numbers of that many bits, and their scale for each output."""
    most = 2 ** (bits - 1) - 1
    largest = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)))
    scale = _half(largest / most)
    scale[scale == 0] = 1
    return np.clip(np.round(kernel / scale), -most, most), scale


def _half(array: np.ndarray) -> Float32[np.ndarray, "*n"]:
    return array.astype(np.float16).astype(np.float32)


def _squeeze(numbers: Float32[np.ndarray, "*n"]) -> UInt8[np.ndarray, " bytes"]:
    """Put two numbers of 4 bits into each byte."""
    flat = (numbers.ravel() + 2 ** (OTHER_BITS - 1)).astype(np.uint8)
    pairs = np.pad(flat, (0, -len(flat) % PER_BYTE)).reshape(-1, PER_BYTE)
    return pairs[:, 0] | (pairs[:, 1] << OTHER_BITS)


def _spread(row: UInt8[np.ndarray, " bytes"], shape: tuple[int, ...]) -> Float32[np.ndarray, "*n"]:
    """Undo that."""
    low = 2**OTHER_BITS - 1
    flat = np.stack([row & low, row >> OTHER_BITS], axis=-1).ravel()[: int(np.prod(shape))]
    return flat.reshape(shape).astype(np.float32) - 2 ** (OTHER_BITS - 1)
