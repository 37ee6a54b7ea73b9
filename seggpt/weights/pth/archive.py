"""The entries of an uncompressed zip archive, checked before they are used.

Not the standard library's `zipfile`: it reads a central directory of any size into memory, and
before Python 3.11.8 it accepts entries that overlap. torch writes one plain kind of archive, so a
strict reader of that kind is short. The record layouts are those of PKWARE's APPNOTE 6.3, section
4.3.
"""

import itertools
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase

MAX_ENTRIES = 65_536  # full training states of the published models have about 1,100
MAX_DIRECTORY_BYTES = 16 << 20

_END = struct.Struct("<4s4H2IH")
_END64_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_ENCRYPTED = 0x2041  # flag bits 0, 6 and 13
_CHUNK_BYTES = 1 << 22


class ZipError(ValueError):
    """What is wrong with an archive, in one line without the archive's name."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file inside the archive: its header, where its bytes begin, and how many."""

    name: str
    header: int
    start: int
    size: int
    crc: int
    compressed: bool


def read_entries(file: BufferedIOBase, *, file_size: int) -> dict[str, Entry]:
    """Return the entries by name.

    Raises:
        ZipError: if the archive is damaged, its directory too large, or one of its entries
            encrypted, repeated, overlapping or of an unsafe name.
    """
    count, offset, size = _read_end(file, file_size)
    if count > MAX_ENTRIES or size > MAX_DIRECTORY_BYTES:
        raise ZipError(f"its directory lists {count} entries in {size} bytes, too many")
    directory = _read_at(file, offset, size)
    entries: dict[str, Entry] = {}
    position = 0
    for _ in range(count):
        record, position = _read_record(directory, position)
        entry = _locate(file, record)
        if entry.name in entries:
            raise ZipError(f"two entries are called {entry.name!r}")
        if entry.start + entry.size > offset:
            raise ZipError(f"entry {entry.name!r} reaches into the directory")
        entries[entry.name] = entry
    if position != len(directory):
        raise ZipError("its directory is longer than its entries")
    spans = sorted((entry.header, entry.start + entry.size) for entry in entries.values())
    if any(end > start for (_, end), (start, _) in itertools.pairwise(spans)):
        raise ZipError("its entries overlap")
    return entries


def check_contents(file: BufferedIOBase, entries: Iterable[Entry]) -> None:
    """Make sure that every entry is stored as it is, and compare its bytes with its CRC-32.

    Raises:
        ZipError: naming the first entry that is compressed or differs.
    """
    for entry in sorted(entries, key=lambda entry: entry.start):
        if entry.compressed:
            raise ZipError(f"entry {entry.name!r} is compressed, which torch.save never does")
        file.seek(entry.start)
        crc, left = 0, entry.size
        while left:
            chunk = file.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise ZipError("truncated")
            crc = zlib.crc32(chunk, crc)
            left -= len(chunk)
        if crc != entry.crc:
            raise ZipError(f"damaged: checksum mismatch in entry {entry.name!r}")


def _read_at(file: BufferedIOBase, offset: int, size: int) -> bytes:
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise ZipError("truncated")
    return data


def _read_end(file: BufferedIOBase, file_size: int) -> tuple[int, int, int]:
    """Return the number of entries, where the central directory begins, and its size."""
    tail_size = min(file_size, _END.size + 0xFFFF)
    tail = _read_at(file, file_size - tail_size, tail_size)
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or found + _END.size > tail_size:
        raise ZipError("truncated: the directory at its end is missing")
    *_, disk, first_disk, here, count, size, offset, comment = _END.unpack_from(tail, found)
    directory_end = file_size - tail_size + found
    if directory_end + _END.size + comment != file_size:
        raise ZipError("has bytes after its end")
    locator_at = directory_end - _END64_LOCATOR.size
    if locator_at >= 0:
        locator = _END64_LOCATOR.unpack(_read_at(file, locator_at, _END64_LOCATOR.size))
        if locator[0] == b"PK\x06\x07":
            directory_end = locator[2]
            if directory_end + _END64.size > locator_at:
                raise ZipError("its 64-bit directory record is misplaced")
            record = _END64.unpack(_read_at(file, directory_end, _END64.size))
            *_, disk, first_disk, here, count, size, offset = record
            if record[0] != b"PK\x06\x06":
                raise ZipError("its 64-bit directory record is damaged")
    if disk or first_disk or here != count:
        raise ZipError("is a part of a split archive")
    if offset + size != directory_end:
        raise ZipError("its directory is not where it says")
    return count, offset, size


@dataclass(frozen=True, kw_only=True)
class _Record:
    """What the directory says of an entry."""

    raw_name: bytes
    header: int
    size: int
    crc: int
    method: int


def _read_record(directory: bytes, position: int) -> tuple[_Record, int]:
    """Return a record of the directory, and the next position."""
    if position + _CENTRAL.size > len(directory):
        raise ZipError("its directory is cut short")
    record = _CENTRAL.unpack_from(directory, position)
    signature, _, _, flags, method, _, _, crc, packed, size, name_size, extra_size = record[:12]
    comment_size, disk, _, _, header = record[12:]
    name_at = position + _CENTRAL.size
    extra_at = name_at + name_size
    following = extra_at + extra_size + comment_size
    if signature != b"PK\x01\x02" or following > len(directory) or disk:
        raise ZipError("its directory is damaged")
    raw_name = directory[name_at:extra_at]
    if 0xFFFFFFFF in (size, packed, header):
        wide = _wide_numbers(directory[extra_at : extra_at + extra_size])
        size, packed, header = (
            next(wide, -1) if number == 0xFFFFFFFF else number for number in (size, packed, header)
        )
    if flags & _ENCRYPTED:
        raise ZipError(f"entry {raw_name!r} is encrypted")
    if packed < 0 or header < 0 or (packed != size and not method):
        raise ZipError(f"entry {raw_name!r} has a damaged record")
    record = _Record(raw_name=raw_name, header=header, size=packed, crc=crc, method=method)
    return record, following


def _wide_numbers(extra: bytes) -> Iterator[int]:
    """Yield the 64-bit numbers of the extra field 0x0001: those that 32 bits did not hold."""
    position = 0
    while position + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, position)
        if kind == 1:
            usable = extra[position + 4 : position + 4 + size // 8 * 8]
            yield from struct.unpack(f"<{len(usable) // 8}Q", usable[: len(usable) // 8 * 8])
            return
        position += 4 + size


def _locate(file: BufferedIOBase, record: _Record) -> Entry:
    """Find where an entry's bytes begin, behind its local header."""
    local = _LOCAL.unpack(_read_at(file, record.header, _LOCAL.size))
    signature, method, name_size, extra_size = local[0], local[3], *local[-2:]
    known = signature == b"PK\x03\x04" and method == record.method
    if not known or file.read(name_size) != record.raw_name:
        raise ZipError(f"entry {record.raw_name!r} contradicts the directory")
    return Entry(
        name=_check_name(record.raw_name),
        header=record.header,
        start=record.header + _LOCAL.size + name_size + extra_size,
        size=record.size,
        crc=record.crc,
        compressed=record.method != 0,
    )


def _check_name(raw_name: bytes) -> str:
    try:
        name = raw_name.decode()
    except UnicodeDecodeError:
        name = ""
    parts = re.split(r"[/\\]", name)
    if not name.isprintable() or ":" in name or "" in parts or ".." in parts or "." in parts:
        raise ZipError(f"entry {raw_name[:80]!r} has an unsafe name")
    return name
