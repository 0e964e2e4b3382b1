"""Reading a form: its files straight into the private folder of their job, and no byte more than is allowed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from apps.style_transfer.serve.limits import Limits, RefusedError

FILES = ("content", "style", "content_mask", "style_mask")
MOST_TEXT = 1000
MOST_PARTS = 32


@dataclass
class Form:
    """A form as received: its texts, and for each file where it lies and what its sender called it."""

    texts: dict[str, str] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)


async def receive(request: Request, folder: Path, limits: Limits) -> Form:
    """Read a multipart form into a folder; raises :class:`RefusedError`.

    A file is stored under the name of its field: what its sender calls it is never a path.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise RefusedError(415, "send a form as multipart/form-data, as curl -F does")
    whole = len(FILES) * limits.bytes + MOST_PARTS * MOST_TEXT
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > whole:
        raise _too_large(limits)
    reader = _Reader(folder, limits)
    try:
        parser = MultipartParser(options[b"boundary"], reader.callbacks())
        async with asyncio.timeout(limits.upload_seconds):
            async for chunk in _chunks(request, limits.idle_seconds):
                parser.write(chunk)
        parser.finalize()
    except TimeoutError:
        raise RefusedError(408, "the upload was too slow and was given up: send it again, or a smaller one") from None
    except OSError as error:
        raise RefusedError(507, f"the server cannot keep the upload ({error.strerror}): try again later") from None
    except FormParserError:
        raise RefusedError(400, "the form is broken: send it as multipart/form-data, as curl -F does") from None
    finally:
        reader.close()
    if not reader.ended:
        raise RefusedError(400, "the form is cut short: send it again")
    return reader.form


async def drain(request: Request, seconds: float = 5, most: int = 1 << 25) -> None:
    """Read what a refused sender still sends, so long and so much: else a broken connection hides the reason."""
    with suppress(Exception):
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                most -= len(chunk)
                if most < 0:
                    return


async def _chunks(request: Request, idle: float) -> AsyncIterator[bytes]:
    stream = request.stream()
    while chunk := await asyncio.wait_for(anext(stream, b""), idle):
        yield chunk


def _too_large(limits: Limits) -> RefusedError:
    return RefusedError(413, f"a file may have {limits.bytes / 1e6:g} MB here: send a smaller one")


class _Reader:
    """What becomes of the parts of a form, as they come in."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.form, self.ended = Form(), False
        self._folder, self._limits = folder, limits
        self._header = self._value = b""
        self._field = ""
        self._text: bytearray | None = None
        self._file: BinaryIO | None = None
        self._size = 0
        self._parts = 0

    def callbacks(self) -> Any:
        """Return them as the parser wants them."""
        names = (
            "part_begin",
            "header_field",
            "header_value",
            "header_end",
            "headers_finished",
            "part_data",
            "part_end",
            "end",
        )
        return {f"on_{name}": getattr(self, f"_{name}") for name in names}

    def close(self) -> None:
        """Close a file that was left open."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise RefusedError(422, f"a form may have {MOST_PARTS} fields")
        self._field, self._text, self._size = "", None, 0

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end].lower()

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._open(_text(options.get(b"name", b"")), options.get(b"filename"))
        self._header = self._value = b""

    def _open(self, name: str, filename: bytes | None) -> None:
        if not name or name in self.form.texts or name in self.form.files:
            raise RefusedError(422, f"the field {name!r} is given twice" if name else "a field of the form has no name")
        self._field = name
        if filename is None:
            self._text = bytearray()
            return
        if name not in FILES:
            raise RefusedError(422, f"{name!r} takes no file: files are {', '.join(FILES)}")
        path = self._folder / name
        self._file = path.open("xb")
        self.form.files[name], self.form.names[name] = path, _text(filename)

    def _headers_finished(self) -> None:
        if not self._field:
            raise RefusedError(422, "a field of the form has no name")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._text is not None:
            if self._size > MOST_TEXT:
                raise RefusedError(413, f"the field {self._field!r} is longer than {MOST_TEXT} bytes")
            self._text += data[start:end]
        elif self._file is not None:
            if self._size > self._limits.bytes:
                raise _too_large(self._limits)
            self._file.write(memoryview(data)[start:end])

    def _part_end(self) -> None:
        if self._text is not None:
            self.form.texts[self._field] = _text(bytes(self._text))
        elif self._size == 0 and not self.form.names[self._field]:
            # What a browser sends for a file that was not chosen.
            self.close()
            self.form.files.pop(self._field).unlink()
        self.close()

    def _end(self) -> None:
        self.ended = True


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")
