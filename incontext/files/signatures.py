"""What files are that are no pictures, and what is wrong with pictures: words for messages."""

import struct
import zlib

from PIL import Image

_PNG = b"\x89PNG\r\n\x1a\n"
_COMMENTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_MOST_COMMENT = 1 << 20  # bytes; Pillow's MAX_TEXT_CHUNK
_SMALL_COMMENT = 1000  # bytes; deflate packs at most 1032 to 1

HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

# (offset, bytes, what it is) of files that people mistake for pictures.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%PDF", "PDF is not accepted; convert the page to PNG first"),
    (0, b"%!PS", "EPS is not accepted; convert it to PNG first"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS is not accepted; convert it to PNG first"),
    (0, b"\xd7\xcd\xc6\x9a", "WMF is not accepted; convert it to PNG first"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5 is not accepted; export the picture as PNG or TIFF first"),
    (0, b"\x93NUMPY", "this is a numpy file; read it with numpy.load and pass the array"),
    (0, b"8BPS", "PSD is not accepted; export it as PNG first"),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000 is not accepted; convert it to PNG first"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL is not accepted; convert it to PNG first"),
    (0, b"\xff\x0a", "JPEG XL is not accepted; convert it to PNG first"),
    (128, b"DICM", "DICOM is not accepted; convert the slice to PNG or 16-bit TIFF first"),
    (0, b"PK\x03\x04", "this is a zip archive; unpack it first"),
    (0, b"\x1f\x8b", "this is a gzip archive; unpack it first"),
    (4, b"ftypavi", "AVIF is not accepted; convert it to PNG or JPEG first"),
    (4, b"ftyp", "this is a video file, not a picture"),
    (0, b"\x1aE\xdf\xa3", "this is a video file, not a picture"),
)


def what_it_is(data: bytes) -> str:
    """Say in words what a file is that is no picture; "" when its first bytes tell nothing."""
    head = data[:512]
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return "Git-LFS pointer, not the picture itself; run git lfs pull"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "not an image (looks like HTML); was it a download that failed?"
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return "SVG is not accepted; convert it to PNG first"
    for offset, magic, words in _SIGNATURES:
        if head[offset:].startswith(magic):
            return words
    if not head.strip(b"\0"):
        return "only zero bytes; copy or download the picture again"
    try:
        # The cut at 512 may fall inside a character.
        is_text = head[:-4].decode("utf-8").replace("\n", "").replace("\r", "").replace("\t", "")
    except UnicodeDecodeError:
        return ""
    return "not an image (looks like text)" if is_text.isprintable() and len(head) > 4 else ""


def describe_damage(error: Exception, file_format: str) -> str:
    """Say in words why Pillow could not decode a file."""
    words = (str(error).splitlines() or [""])[0]
    lowered = words.lower()
    if isinstance(error, Image.DecompressionBombError):
        return "more pixels than Pillow decodes in this format; shrink it or convert it to PNG"
    if "truncated" in lowered or "unexpected end" in lowered or isinstance(error, EOFError):
        return "truncated image; copy or download it again"
    if "checksum" in lowered or "broken" in lowered:
        return f"corrupt {file_format} (checksum or data stream); copy or download it again"
    if isinstance(error, MemoryError):
        return "not enough memory to decode the picture; shrink it"
    return f"corrupt {file_format} ({words or type(error).__name__}); copy or download it again"


def readable(data: bytes) -> bytes:
    """Leave comments and profiles out of a PNG that are larger than Pillow reads.

    Pillow takes a picture for damaged if one unpacks to above 1 MiB; no pixel depends on it.
    """
    if not data.startswith(_PNG):
        return data
    place, kept = len(_PNG), [(0, len(_PNG))]
    while place + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        end = place + 12 + length
        body = slice(place + 8, end - 4)
        if length <= _SMALL_COMMENT or kind not in _COMMENTS or not _is_huge(data[body], kind):
            kept.append((place, end))
        place = end
    dropped = place > len(_PNG) and sum(end - start for start, end in kept) < place
    return b"".join(data[start:end] for start, end in kept) if dropped else data


def _is_huge(body: bytes, kind: bytes) -> bool:
    if len(body) > _MOST_COMMENT:
        return True
    _, _, rest = body.partition(b"\0")
    if kind == b"iTXt":
        if rest[:1] != b"\1":
            return False
        _, _, rest = rest[2:].partition(b"\0")  # the language
        _, _, packed = rest.partition(b"\0")  # the translated keyword
    elif kind == b"tEXt":
        return False
    else:
        packed = rest[1:]
    try:
        return len(zlib.decompressobj().decompress(packed, _MOST_COMMENT + 1)) > _MOST_COMMENT
    except zlib.error:
        return False
