"""EXIF blocks as bytes: what is not changed stays as the camera wrote it.

An EXIF block is ``Exif\\0\\0`` and a small TIFF file of directories, whose entries are (tag, kind, count, value or its
place). The maker's notes hold places within the block, so a block is changed where it lies and never written anew;
only from and into TIFF files, whose directories lie among the pixels, are they moved. (EXIF 2.32, section 4.6.)
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable, Iterator
from typing import IO, Literal

PREFIX = b"Exif\0\0"
EXIF, GPS = 0x8769, 0x8825
_ORIENTATION = 0x0112
_INTEROPERABILITY = 0xA005
_WIDTHS, _HEIGHTS = {0x0100, 0xA002}, {0x0101, 0xA003}
_THUMBNAIL, _THUMBNAIL_LENGTH = 0x0201, 0x0202
_SHORT, _LONG = 3, 4
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_MOST_ENTRIES, _MOST_BYTES = 1000, 1 << 24
# What of the first directory of a TIFF file is about the photograph, not about how its pixels are stored there:
# description, make, model, orientation, software, date, artist, host, rating, copyright, and Windows' titles.
_ABOUT_THE_PHOTOGRAPH = frozenset(
    {0x010E, 0x010F, 0x0110, _ORIENTATION, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749, 0x8298}
    | set(range(0x9C9B, 0x9CA0))
)

Entries = dict[int, tuple[int, int, bytes]]
"""A directory: (kind, count, value) by tag, values in the byte order of their file."""


def tidy(block: bytes) -> bytes | None:
    """Return a block with orientation 1 and without the thumbnail; None if it is damaged."""

    def tidied(body: bytearray, first: int, order: str) -> None:
        for tag, at in _entries(body, first, order):
            if tag == _ORIENTATION:
                _set(body, at, order, 1)
        _drop_thumbnail(body, first, order)

    return _changed(block, tidied)


def sized(block: bytes, width: int, height: int) -> bytes:
    """Return a block with orientation 1 and the size of its picture in it."""

    def resized(body: bytearray, first: int, order: str) -> None:
        directories = [first]
        directories += [_long(body, at, order) for tag, at in _entries(body, first, order) if tag == EXIF]
        for directory in directories:
            for tag, at in _entries(body, directory, order):
                if tag == _ORIENTATION:
                    _set(body, at, order, 1)
                elif tag in _WIDTHS | _HEIGHTS:
                    _set(body, at, order, width if tag in _WIDTHS else height)

    return _changed(block, resized) or block


def without_orientation(block: bytes) -> bytes:
    """Return a block of :func:`tidy` that says no orientation, for AVIF, which says it elsewhere."""

    def shortened(body: bytearray, first: int, order: str) -> None:
        places = [at for tag, at in _entries(body, first, order) if tag == _ORIENTATION]
        count = struct.unpack_from(order + "H", body, first)[0]
        for at in places[:1]:
            end = first + 2 + 12 * count + 4  # with the link to the next directory
            body[at : end - 12] = body[at + 12 : end]
            struct.pack_into(order + "H", body, first, count - 1)

    return _changed(block, shortened) or block


def from_tiff(file: IO[bytes], at: int, order: str, *, big: bool = False) -> bytes | None:
    """Return the block of a TIFF file whose first directory lies at a place; None if it says nothing."""
    entries = read(file, at, order, big=big)
    kept = {tag: entries[tag] for tag in _ABOUT_THE_PHOTOGRAPH & entries.keys()}
    parts = {}
    for tag in (EXIF, GPS):
        if tag in entries:
            part = read(file, int.from_bytes(entries[tag][2], _name(order)), order, big=big)
            part.pop(_INTEROPERABILITY, None)
            if part:
                parts[tag] = part
    if not kept and not parts:
        return None
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return tidy(PREFIX + head + with_parts(kept, parts, 8, order))


def into_tiff(block: bytes) -> tuple[str, Entries, dict[int, Entries]]:
    """Return the byte order of a block, what of its first directory goes into a TIFF file, and its EXIF and GPS parts.

    Raises:
        ValueError, struct.error: where the block is damaged.
    """
    body = block.removeprefix(PREFIX)
    (order, first), file = _header(body), io.BytesIO(body)
    entries = read(file, first, order)
    parts = {
        tag: read(file, int.from_bytes(entries[tag][2], _name(order)), order) for tag in (EXIF, GPS) if tag in entries
    }
    for part in parts.values():
        part.pop(_INTEROPERABILITY, None)
    kept = {tag: entries[tag] for tag in _ABOUT_THE_PHOTOGRAPH & entries.keys()}
    return order, kept, {tag: part for tag, part in parts.items() if part}


def read(file: IO[bytes], at: int, order: str, *, big: bool = False) -> Entries:
    """Return the directory at a place, without the entries whose values are not there."""
    file.seek(at)
    count = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))[0]
    if count > _MOST_ENTRIES:
        raise ValueError(f"a directory of {count} entries")
    size, form = (20, "HHQ8s") if big else (12, "HHI4s")
    heads = file.read(size * count)
    entries, left = {}, _MOST_BYTES
    for tag, kind, n, value in struct.iter_unpack(order + form, heads[: len(heads) // size * size]):
        length = _SIZES.get(kind, 0) * n
        if length > len(value):
            if length > left:
                continue
            file.seek(struct.unpack(order + ("Q" if big else "I"), value)[0])
            value = file.read(length)
        if 0 < length <= len(value):
            entries[tag] = (kind, n, value[:length])
            left -= length
    return entries


def write(entries: Entries, at: int, order: str) -> bytes:
    """Return a directory, with the values that do not fit into it behind it, for a place in a file."""
    head, behind = struct.pack(order + "H", len(entries)), b""
    start = at + 2 + 12 * len(entries) + 4
    for tag, (kind, count, value) in sorted(entries.items()):
        if len(value) > 4:
            field = struct.pack(order + "I", start + len(behind))
            behind += value + bytes(len(value) % 2)
        else:
            field = value.ljust(4, b"\0")
        head += struct.pack(order + "HHI", tag, kind, count) + field
    return head + bytes(4) + behind


def with_parts(entries: Entries, parts: dict[int, Entries], at: int, order: str) -> bytes:
    """Return a directory for a place in a file, followed by the directories that its entries point to."""
    pointers: Entries = {tag: (_LONG, 1, bytes(4)) for tag in parts}
    place, written = at + len(write(entries | pointers, at, order)), b""
    for tag, part in parts.items():
        pointers[tag] = (_LONG, 1, struct.pack(order + "I", place + len(written)))
        written += write(part, place + len(written), order)
    return write(entries | pointers, at, order) + written


def _changed(block: bytes, change: Callable[[bytearray, int, str], None]) -> bytes | None:
    """Return a block of which ``change`` was given body, place of the first directory, byte order; None if damaged."""
    body = bytearray(re.sub(rb"^(Exif\0\0)+", b"", block))
    try:
        order, first = _header(body)
        change(body, first, order)
    except (struct.error, ValueError):
        return None
    return PREFIX + bytes(body)


def _header(body: bytes | bytearray) -> tuple[str, int]:
    """Return the byte order of a body, and the place of its first directory."""
    orders = {b"II": "<", b"MM": ">"}
    if bytes(body[:2]) not in orders:
        raise ValueError("no TIFF header")
    order = orders[bytes(body[:2])]
    return order, struct.unpack_from(order + "I", body, 4)[0]


def _name(order: str) -> Literal["little", "big"]:
    return "little" if order == "<" else "big"


def _entries(body: bytearray, at: int, order: str) -> Iterator[tuple[int, int]]:
    """Give the tag and the place of each entry of a directory."""
    count = struct.unpack_from(order + "H", body, at)[0]
    for i in range(count):
        place = at + 2 + 12 * i
        yield struct.unpack_from(order + "H", body, place)[0], place


def _set(body: bytearray, at: int, order: str, value: int) -> None:
    if value < 65536:
        struct.pack_into(order + "HIHH", body, at + 2, _SHORT, 1, value, 0)
    else:
        struct.pack_into(order + "HII", body, at + 2, _LONG, 1, value)


def _long(body: bytearray, at: int, order: str) -> int:
    return int(struct.unpack_from(order + "I", body, at + 8)[0])


def _drop_thumbnail(body: bytearray, first: int, order: str) -> None:
    link = first + 2 + 12 * struct.unpack_from(order + "H", body, first)[0]
    second = struct.unpack_from(order + "I", body, link)[0] if link + 4 <= len(body) else 0
    if not second:
        return
    struct.pack_into(order + "I", body, link, 0)
    try:
        found = {tag: _long(body, at, order) for tag, at in _entries(body, second, order)}
    except struct.error:
        return
    begin, length = found.get(_THUMBNAIL, 0), found.get(_THUMBNAIL_LENGTH, 0)
    end = min(begin + length, len(body))
    if 8 < begin < end:
        body[begin:end] = bytes(end - begin)
        if end >= len(body) - 1:
            del body[begin:]
