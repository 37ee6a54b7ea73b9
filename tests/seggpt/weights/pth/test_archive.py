import io
import struct
import zipfile

import pytest

from seggpt.weights.pth import archive as zipstore
from seggpt.weights.pth.archive import ZipError, check_contents, read_entries


def write(names, *, compression=zipfile.ZIP_STORED, comment=b""):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for i, name in enumerate(names):
            archive.writestr(name, bytes([65 + i]) * 20)
        archive.comment = comment
    return buffer.getvalue()


def read(data):
    file = io.BytesIO(data)
    entries = read_entries(file, file_size=len(data))
    check_contents(file, entries.values())
    return entries


def test_entries_are_where_the_standard_library_finds_them():
    data = write(["a/data.pkl", "a/data/0"], comment=b"made by hand")
    entries = read(data)
    assert list(entries) == ["a/data.pkl", "a/data/0"]
    assert data[entries["a/data/0"].start :][:20] == b"B" * 20


def test_64_bit_records_are_read(monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    data = write(["a", "b", "c"])
    assert b"PK\x06\x06" in data
    assert [entry.size for entry in read(data).values()] == [20, 20, 20]


def test_compressed_entries_are_refused():
    with pytest.raises(ZipError, match="'a' is compressed"):
        read(write(["a"], compression=zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize(
    "name", ["../a", "a/../b", "/etc/x", "C:x", "a\\..\\b", "a//b", "./a", "a\nb", "a/"]
)
def test_unsafe_names_are_refused(name):
    with pytest.raises(ZipError, match="unsafe name"):
        read(write([name]))


def test_a_name_with_nul_is_refused():
    data = write(["aXb"]).replace(b"aXb", b"a\0b")
    with pytest.raises(ZipError, match="unsafe name"):
        read(data)


def test_overlapping_entries_are_refused():
    """The second record points at the first entry's bytes: a bomb without compression."""
    data = bytearray(write(["aaaa", "bbbb"]))
    second = data.rfind(b"PK\x01\x02")
    struct.pack_into("<I", data, second + 42, 0)
    data[second + 46 : second + 50] = b"aaaa"
    with pytest.raises(ZipError, match="called 'aaaa'"):
        read(bytes(data))
    inner = write(["aaaa"])
    data = bytearray(write(["o", "bbbb"]).replace(b"A" * 20, inner[:20]))
    second = data.rfind(b"PK\x01\x02")
    struct.pack_into("<I", data, second + 42, data.find(b"PK\x03\x04", 4))
    with pytest.raises(ZipError, match="contradicts"):
        read(bytes(data))


def test_an_entry_inside_another_is_refused():
    inner = write(["i"])[: 30 + 1 + 20]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("o", inner)
        archive.writestr("i", b"A" * 20)
    data = bytearray(buffer.getvalue())
    struct.pack_into("<I", data, data.rfind(b"PK\x01\x02") + 42, 31)
    with pytest.raises(ZipError, match="overlap"):
        read(bytes(data))


def test_repeated_names_are_refused():
    with pytest.warns(UserWarning, match="Duplicate"):
        data = write(["a", "a"])
    with pytest.raises(ZipError, match="two entries are called 'a'"):
        read(data)


def test_encrypted_entries_are_refused():
    data = bytearray(write(["a"]))
    data[data.rfind(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ZipError, match="encrypted"):
        read(bytes(data))


def test_local_and_central_names_must_agree():
    data = write(["aaaa"])
    with pytest.raises(ZipError, match="contradicts"):
        read(data[:30] + b"bbbb" + data[34:])


def test_a_changed_byte_of_the_contents_is_noticed():
    data = write(["a"])
    with pytest.raises(ZipError, match="checksum mismatch in entry 'a'"):
        read(data.replace(b"A" * 20, b"A" * 19 + b"B"))


def test_too_many_entries_are_refused_before_the_directory_is_read(monkeypatch):
    monkeypatch.setattr(zipstore, "MAX_ENTRIES", 2)
    with pytest.raises(ZipError, match=r"3 entries.*too many"):
        read(write(["a", "b", "c"]))


@pytest.mark.parametrize("cut", [1, 21, 22, 40, 100])
def test_truncated_archives_are_refused(cut):
    with pytest.raises(ZipError):
        read(write(["a", "b"])[:-cut])


@pytest.mark.parametrize("extra", [b"x", b"PK\x05\x06" + bytes(18)])
def test_bytes_around_the_archive_are_refused(extra):
    data = write(["a"])
    with pytest.raises(ZipError):
        read(extra + data)
    with pytest.raises(ZipError):
        read(data + extra)
