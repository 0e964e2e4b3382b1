"""Pictures that are wrong in the right place: a fuzzer that knows how the files are built.

A case is a good picture of some kind, of which one part is changed: a chunk of a PNG with its checksum mended, a
segment of a JPEG, an entry of a TIFF directory, a box of a HEIC, or just bytes; or one of the special cases, which are
whole and yet not to be borne: bombs, NaN, sides of one pixel. What is drawn follows from the generator alone.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pillow_heif
import tifffile
from PIL import Image, ImageCms

Generator = random.Random
Bytes = bytes | bytearray


@dataclass(frozen=True)
class Case:
    """A file: its name, which tells what was done, and its bytes."""

    name: str
    data: bytes


def cases(generator: Generator, count: int, *, first: int = 0) -> Iterator[Case]:
    """Give so many cases: the special ones once each, spread among the others, all with names of their own."""
    special = [*SPECIAL]
    generator.shuffle(special)
    every = max(1, count // len(special))
    for i in range(first, first + count):
        if special and i % every == 0:
            name = special.pop()
            suffix, data = SPECIAL[name](generator)
        else:
            name, suffix, data = mutant(generator)
        if generator.random() < 0.1:
            suffix = generator.choice(["jpg", "png", "tif", "webp", "gif", "bmp", "heic", "avif"])
        yield Case(f"{i:03d}-{name}.{suffix}", data)


def mutant(generator: Generator) -> tuple[str, str, bytes]:
    """Return a name, a suffix, and a good picture with one to three changes."""
    kind = generator.choice([*KINDS])
    suffix, make = KINDS[kind]
    data: Bytes = make(generator)
    done = []
    for _ in range(generator.choice([1, 1, 1, 2, 3])):
        ways = [*ANY.items(), *(2 * [*STRUCTURES.get(suffix, {}).items()])]
        name, change = generator.choice(ways)
        try:
            data = change(bytes(data), generator)
        except (struct.error, IndexError, ValueError, StopIteration):  # an earlier change has left nothing to change
            continue
        done.append(name)
    return f"{kind}-{'-'.join(done)}", suffix, bytes(data)


# Good pictures.


def pixels(generator: Generator, *, deep: bool = False, channels: int = 3) -> np.ndarray:
    """Return slow waves and grain, (H, W, channels), sides from 17 to 120."""
    height, width = generator.randrange(17, 120), generator.randrange(17, 120)
    draw = np.random.default_rng(generator.getrandbits(32))
    y, x = np.mgrid[:height, :width] / 40
    waves = np.stack([np.sin((c + 1) * x + (2 - c) * y + c) for c in range(channels)], -1)
    values = np.clip(0.5 + 0.3 * waves + 0.05 * draw.standard_normal(waves.shape), 0, 1)
    return np.rint(values * (65535 if deep else 255)).astype(np.uint16 if deep else np.uint8)


def picture(generator: Generator, mode: str = "RGB") -> Image.Image:
    made = Image.fromarray(pixels(generator)).convert(mode)
    made.info.clear()  # Lab brings a profile that has the time in it
    return made


def profile(space: str) -> bytes:
    """Return a colour profile, without the time at which it was made: the same seed makes the same file."""
    whole = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes())
    whole[24:36] = bytes(12)
    return bytes(whole)


def notes(generator: Generator) -> dict[str, bytes]:
    """Return EXIF with GPS, a profile and XMP, each in half of the pictures."""
    found = {}
    if generator.random() < 0.5:
        block = Image.Exif()
        block[0x010E], block[0x0112], block[0x011A] = "a photograph", generator.randrange(1, 9), 300.0
        block.get_ifd(0x8769).update({0x9003: "2024:01:02 03:04:05", 0xA002: 100, 0x927C: bytes(40)})
        block.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 9.5)})
        found["exif"] = block.tobytes()
    if generator.random() < 0.5:
        found["icc_profile"] = profile(generator.choice(["sRGB", "LAB"]))
    if generator.random() < 0.3:
        found["xmp"] = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF tiff:Orientation="6"/></x:xmpmeta>'
    return found


def saved(image: Image.Image, kind: str, **settings: object) -> bytes:
    kept = io.BytesIO()
    image.save(kept, kind, **settings)
    return kept.getvalue()


def frames(generator: Generator, kind: str) -> bytes:
    first = picture(generator)
    more = [first.rotate(90 * i) for i in range(1, generator.randrange(2, 5))]
    return saved(first, kind, save_all=True, append_images=more, duration=40, loop=0)


def tiff(generator: Generator) -> bytes:
    """Return a TIFF of one of the many ways in which there are TIFFs."""
    kept = io.BytesIO()
    deep, channels = generator.random() < 0.5, generator.choice([1, 3, 4])
    values = pixels(generator, deep=deep, channels=channels)
    form = generator.choice(["whole", "float", "half"])
    if form != "whole":
        values = (values / values.max()).astype(np.float32 if form == "float" else np.float16)
    settings = {
        "photometric": {1: "minisblack", 3: "rgb", 4: generator.choice(["rgb", "separated"])}[channels],
        "compression": generator.choice([None, "zlib", "lzw", "packbits"]) if form == "whole" else None,
        "tile": generator.choice([None, (16, 32)]),
        "bigtiff": generator.random() < 0.2,
        "byteorder": generator.choice("<>"),
        "rowsperstrip": None,
    }
    if settings["tile"] is None:
        settings["rowsperstrip"] = generator.choice([None, 7])
    tifffile.imwrite(kept, values[..., 0] if channels == 1 else values, metadata=None, **settings)
    return kept.getvalue()


def png(generator: Generator) -> bytes:
    if generator.random() < 0.4:
        import imagecodecs

        return bytes(imagecodecs.png_encode(pixels(generator, deep=True, channels=generator.choice([1, 2, 3, 4]))))
    mode = generator.choice(["RGB", "RGBA", "L", "LA", "P", "1"])
    kept = notes(generator)
    kept.pop("xmp", None)
    return saved(picture(generator, mode), "png", **kept)


def heif(generator: Generator) -> bytes:
    kept = io.BytesIO()
    pillow_heif.from_pillow(picture(generator)).save(kept, **notes(generator))
    return kept.getvalue()


KINDS: dict[str, tuple[str, Callable[[Generator], bytes]]] = {
    "jpeg": ("jpg", lambda g: saved(picture(g, g.choice(["RGB", "L", "CMYK"])), "jpeg", **notes(g))),
    "progressive": ("jpg", lambda g: saved(picture(g), "jpeg", progressive=True, **notes(g))),
    "png": ("png", png),
    "tiff": ("tif", tiff),
    "pillow-tiff": ("tif", lambda g: saved(picture(g, g.choice(["RGB", "P", "1", "LAB"])), "tiff")),
    "jpeg-tiff": ("tif", lambda g: saved(picture(g), "tiff", compression="jpeg")),
    "webp": ("webp", lambda g: saved(picture(g), "webp", lossless=g.random() < 0.5, **notes(g))),
    "webp-clip": ("webp", lambda g: frames(g, "webp")),
    "gif": ("gif", lambda g: saved(picture(g), "gif")),
    "gif-clip": ("gif", lambda g: frames(g, "gif")),
    "bmp": ("bmp", lambda g: saved(picture(g, g.choice(["RGB", "P", "1"])), "bmp")),
    "heic": ("heic", heif),
    "avif": ("avif", lambda g: saved(picture(g), "avif", **notes(g))),
}


# Changes of bytes, whatever they mean.


def cut(data: bytes, generator: Generator) -> bytes:
    return data[: generator.randrange(1, len(data))]


def bits(data: bytes, generator: Generator) -> bytes:
    """Flip some, half of them in the first 600 bytes, where sizes, offsets and kinds are."""
    found = bytearray(data)
    for _ in range(generator.randrange(1, 12)):
        end = min(600, len(data)) if generator.random() < 0.5 else len(data)
        found[generator.randrange(end)] ^= 1 << generator.randrange(8)
    return bytes(found)


def block(data: bytes, generator: Generator) -> bytes:
    at, length = generator.randrange(len(data)), generator.randrange(1, 64)
    return data[:at] + generator.randbytes(length) + data[at + length :]


def hole(data: bytes, generator: Generator) -> bytes:
    at = generator.randrange(len(data))
    return data[:at] + data[at + generator.randrange(1, 200) :]


def extreme(data: bytes, generator: Generator) -> bytes:
    """Put a number at the end of its range into the head."""
    form = generator.choice(["<H", ">H", "<I", ">I"])
    value = generator.choice([0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
    size = struct.calcsize(form)
    at = generator.randrange(4, min(len(data), 600))
    return data[:at] + struct.pack(form, value % 256**size) + data[at + size :]


ANY = {"cut": cut, "bits": bits, "block": block, "hole": hole, "extreme": extreme}


# Changes of what means something.


def absurd(generator: Generator) -> int:
    return generator.choice([0, 1, 2, 15, 16, 20_000, 32_767, 65_535, 2**31 - 1, 2**32 - 1])


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def png_size(data: bytes, generator: Generator) -> bytes:
    parts = png_chunks(data)
    head = bytearray(parts[0][1])
    struct.pack_into(">I", head, generator.choice([0, 4]), absurd(generator))
    return data[:8] + b"".join(chunk(*part) for part in [(b"IHDR", bytes(head)), *parts[1:]])


def png_part(data: bytes, generator: Generator) -> bytes:
    """Damage, drop, double or rename a chunk, its checksum right."""
    parts = png_chunks(data)
    at = generator.randrange(len(parts))
    name, content = parts[at]
    way = generator.choice(["damage", "drop", "double", "rename", "empty", "garbage"])
    if way == "damage" and content:
        parts[at] = name, bits(content, generator)
    elif way == "double":
        parts.insert(generator.randrange(len(parts)), parts[at])
    elif way == "rename":
        parts[at] = generator.choice([b"iCCP", b"eXIf", b"zTXt", b"tRNS", b"PLTE", b"acTL", b"fcTL", b"IDAT"]), content
    elif way == "empty":
        parts[at] = name, b""
    elif way == "garbage":
        named = generator.choice([b"iCCP", b"eXIf", b"zTXt", b"iTXt", b"pHYs", b"gAMA", b"cHRM", b"acTL"])
        parts.insert(1, (named, b"x\0\0" + generator.randbytes(generator.randrange(80))))
    else:
        del parts[at]
    return data[:8] + b"".join(chunk(*part) for part in parts)


def jpeg_segments(data: bytes) -> list[tuple[int, int]]:
    """Return the place and length of each segment before the pixels."""
    found, at = [], 2
    while at + 4 < len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        found.append((at, length))
        at += length
    return found


def jpeg_size(data: bytes, generator: Generator) -> bytes:
    found = bytearray(data)
    at = next(at for at, _ in jpeg_segments(data) if data[at + 1] in (0xC0, 0xC1, 0xC2))
    struct.pack_into(">H", found, at + generator.choice([5, 7]), min(65_535, absurd(generator)))
    return bytes(found)


def jpeg_part(data: bytes, generator: Generator) -> bytes:
    at, length = generator.choice(jpeg_segments(data))
    part = data[at : at + length]
    way = generator.choice(["damage", "damage", "drop", "double", "length"])
    if way == "damage" and length > 4:
        part = part[:4] + bits(part[4:], generator)
    elif way == "double":
        part = 2 * part
    elif way == "length":
        part = part[:2] + struct.pack(">H", absurd(generator) % 65_536) + part[4:]
    else:
        part = b""
    return data[:at] + part + data[at + length :]


def jpeg_notes(data: bytes, generator: Generator) -> bytes:
    """Put broken EXIF or a broken profile in front."""
    body = generator.choice([broken_exif, broken_profile])(generator)
    head = b"Exif\0\0" if body[:2] in (b"II", b"MM") else b"ICC_PROFILE\0" + bytes([1, generator.choice([0, 1, 1, 3])])
    body = (head + body)[:65_000]
    marker = b"\xff\xe1" if head.startswith(b"Exif") else b"\xff\xe2"
    return data[:2] + marker + struct.pack(">H", len(body) + 2) + body + data[2:]


def broken_exif(generator: Generator) -> bytes:
    """Return directories that end in themselves, point out of the file, or count to billions."""
    order, name = generator.choice([("<", b"II*\0"), (">", b"MM\0*")])
    entries = b"".join(
        struct.pack(
            order + "HHII",
            generator.choice([0x0112, 0x8769, 0x8825, 0x010E, 0x0201, 0x0202, 0x927C, generator.randrange(65_536)]),
            generator.randrange(14),
            generator.choice([0, 1, 2, 2**31, 2**32 - 1]),
            generator.choice([0, 8, 26, 2**31, 2**32 - 1, generator.randrange(2**32)]),
        )
        for _ in range(3)
    )
    count = generator.choice([3, 3, 0, 65_535])
    link = generator.choice([0, 8, 2**32 - 1])
    return name + struct.pack(order + "IH", 8, count) + entries + struct.pack(order + "I", link)


def broken_profile(generator: Generator) -> bytes:
    whole = bytearray(profile("sRGB"))
    way = generator.choice(["bits", "cut", "tags", "space", "noise"])
    if way == "cut":
        return bytes(whole[: generator.randrange(1, len(whole))])
    if way == "tags":
        struct.pack_into(">I", whole, 128, absurd(generator))
    elif way == "space":
        whole[16:20] = generator.choice([b"CMYK", b"GRAY", b"Lab ", b"XYZ ", b"????"])
    elif way == "noise":
        whole[128:] = generator.randbytes(len(whole) - 128)
    else:
        for _ in range(8):
            whole[generator.randrange(128, len(whole))] ^= 1 << generator.randrange(8)
    return bytes(whole)


def tiff_entry(data: bytes, generator: Generator) -> bytes:
    """Change an entry of the first directory: its kind, its count, its value."""
    order = "<" if data[:2] == b"II" else ">"
    if data[2:4] not in (b"*\0", b"\0*"):
        return bits(data, generator)  # the large kind
    found = bytearray(data)
    first = struct.unpack_from(order + "I", data, 4)[0]
    at = first + 2 + 12 * generator.randrange(struct.unpack_from(order + "H", data, first)[0])
    way = generator.choice(["kind", "count", "value", "value", "value"])
    if way == "kind":
        struct.pack_into(order + "H", found, at + 2, generator.randrange(20))
    elif way == "count":
        struct.pack_into(order + "I", found, at + 4, absurd(generator))
    else:
        short = struct.unpack_from(order + "H", data, at + 2)[0] == 3
        struct.pack_into(order + ("H" if short else "I"), found, at + 8, absurd(generator) % 2 ** (16 if short else 32))
    return bytes(found)


def riff(data: bytes, generator: Generator) -> bytes:
    """Change the length of a chunk of a WebP, or the size of its canvas."""
    found, places, at = bytearray(data), [], 12
    while at + 8 <= len(data):
        places.append(at)
        at += 8 + (int.from_bytes(data[at + 4 : at + 8], "little") + 1) // 2 * 2
    at = generator.choice(places)
    if data[at : at + 4] == b"VP8X" and generator.random() < 0.7:
        found[at + 12 : at + 18] = struct.pack("<IH", absurd(generator), absurd(generator) % 65_536)
    else:
        struct.pack_into("<I", found, at + 4, absurd(generator))
    return bytes(found)


def gif_size(data: bytes, generator: Generator) -> bytes:
    """Change the size of the screen, or that and the place of a frame."""
    found = bytearray(data)
    at = 6 if generator.random() < 0.5 else data.index(b"\x2c", 13) + 1
    struct.pack_into("<H", found, at + 2 * generator.randrange(2 if at == 6 else 4), absurd(generator) % 65_536)
    return bytes(found)


def bmp_field(data: bytes, generator: Generator) -> bytes:
    found = bytearray(data)
    struct.pack_into("<I", found, generator.choice([2, 10, 14, 18, 22, 28, 30, 34, 46]), absurd(generator))
    return bytes(found)


def box(data: bytes, generator: Generator) -> bytes:
    """Change the length or the content of a box of a HEIC or AVIF: its size, its places, its kind."""
    found = bytearray(data)
    named = [b"ispe", b"iloc", b"iinf", b"ipco", b"ipma", b"hvcC", b"av1C", b"pitm", b"meta", b"colr", b"mdat", b"irot"]
    places = [at for at in (data.find(name) for name in named) if at >= 4]
    at = generator.choice(places)
    if generator.random() < 0.4:
        struct.pack_into(">I", found, at - 4, absurd(generator))
    elif data[at : at + 4] == b"ispe" or generator.random() < 0.3:
        struct.pack_into(">I", found, at + generator.choice([8, 12]), absurd(generator))
    else:
        found[at + 4 + generator.randrange(24)] ^= 1 << generator.randrange(8)
    return bytes(found)


STRUCTURES: dict[str, dict[str, Callable[[bytes, Generator], bytes]]] = {
    "png": {"size": png_size, "chunk": png_part},
    "jpg": {"size": jpeg_size, "segment": jpeg_part, "notes": jpeg_notes},
    "tif": {"entry": tiff_entry},
    "webp": {"riff": riff},
    "gif": {"size": gif_size},
    "bmp": {"field": bmp_field},
    "heic": {"box": box},
    "avif": {"box": box},
}


# Files that are whole, and yet not to be borne.


def flat_png(width: int, height: int, *extra: tuple[bytes, bytes]) -> bytes:
    """Return a black grey PNG, a thousandth of its pixels long."""
    packer = zlib.compressobj(1)
    rows = max(1, (1 << 24) // (width + 1))
    packed = (
        b"".join(packer.compress(bytes((width + 1) * min(rows, height - top))) for top in range(0, height, rows))
        + packer.flush()
    )
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", head), *extra, (b"IDAT", packed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def text_bomb(_: Generator) -> tuple[str, bytes]:
    """Return a small picture with a text, and a profile, that unpack to 200 MB."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
    return "png", flat_png(40, 40, (b"iCCP", b"p\0\0" + packed), (b"zTXt", b"t\0\0" + packed))


def flat_tiff(side: int) -> bytes:
    kept = io.BytesIO()
    tifffile.imwrite(kept, np.zeros((side, side), np.uint8), compression="zlib", metadata=None)
    return kept.getvalue()


def many_frames(side: int, count: int) -> bytes:
    """Return a GIF of one large frame and many of one pixel, each of which has to be shown whole."""
    head = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(3) + b"\xff" * 3
    dot = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return head + dot * count + b"\x3b"


def not_a_number(generator: Generator) -> tuple[str, bytes]:
    kept = io.BytesIO()
    values = pixels(generator).astype(np.float32) / 255
    values[generator.randrange(len(values))] = generator.choice([np.nan, np.inf, -np.inf, 3e38])
    if generator.random() < 0.3:
        values[:] = np.nan
    tifffile.imwrite(kept, values, photometric="rgb", metadata=None)
    return "tif", kept.getvalue()


def strip(width: int, height: int) -> Callable[[Generator], tuple[str, bytes]]:
    def make(generator: Generator) -> tuple[str, bytes]:
        values = np.random.default_rng(generator.getrandbits(32)).integers(0, 256, (height, width, 3), np.uint8)
        kind = generator.choice(["png", "jpeg"])
        return kind.replace("e", ""), saved(Image.fromarray(values), kind)

    return make


def with_exif(generator: Generator) -> tuple[str, bytes]:
    kind = generator.choice(["jpeg", "png", "webp"])
    return kind.replace("jpeg", "jpg"), saved(picture(generator), kind, exif=b"Exif\0\0" + broken_exif(generator))


def with_profile(generator: Generator) -> tuple[str, bytes]:
    kind = generator.choice(["jpeg", "png", "webp", "tiff"])
    suffix = kind.replace("jpeg", "jpg")
    return suffix, saved(picture(generator), kind, icc_profile=broken_profile(generator))


def heif_of(width: int, height: int) -> bytes:
    """Return a HEIC whose header says a size."""
    data = bytearray(heif(random.Random(0)))
    at = data.index(b"ispe")
    struct.pack_into(">II", data, at + 8, width, height)
    return bytes(data)


def polyglot(generator: Generator) -> tuple[str, bytes]:
    """Return what is no picture at all."""
    return generator.choice(
        [
            ("jpg", b"\xff\xd8\xff<script>alert(1)</script>"),
            ("png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n"),
            ("png", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'),
            ("gif", b"GIF89a" + bytes(7)),
            ("tif", b"II*\0" + struct.pack("<I", 4)),
            ("bmp", b"BM" + b"\xff" * 60),
            ("jpg", b""),
            ("webp", b"RIFF\xff\xff\xff\xffWEBPVP8X" + b"\xff" * 30),
        ]
    )


SPECIAL: dict[str, Callable[[Generator], tuple[str, bytes]]] = {
    "bomb-by-header": lambda g: ("png", flat_png(40, 40).replace(struct.pack(">II", 40, 40), b"\0\0\xff\xff" * 2)),
    "bomb-png": lambda g: ("png", flat_png(20_000, 20_000)),
    "bomb-within-the-limit": lambda g: ("png", flat_png(12_000, 12_000)),
    "bomb-tiff": lambda g: ("tif", flat_tiff(11_000)),
    "bomb-webp": lambda g: ("webp", saved(Image.new("RGB", (8_000, 8_000)), "webp", lossless=True, method=0)),
    "bomb-gif": lambda g: ("gif", saved(Image.new("L", (12_000, 12_000)), "gif")),
    "bomb-frames": lambda g: ("gif", many_frames(3_000, 20_000)),
    "bomb-small-frames": lambda g: ("gif", many_frames(16, 500_000)),
    "bomb-jpeg": lambda g: ("jpg", saved(Image.new("L", (10_000, 10_000)), "jpeg", quality=10)),
    "bomb-heic": lambda g: ("heic", heif_of(16_384, 16_384)),
    "bomb-text": text_bomb,
    "nan": not_a_number,
    "1x1": strip(1, 1),
    "16x20000": strip(16, 20_000),
    "20000x16": strip(20_000, 16),
    "15x40": strip(15, 40),
    "16x16": strip(16, 16),
    "broken-exif": with_exif,
    "broken-exif-2": with_exif,
    "broken-profile": with_profile,
    "broken-profile-2": with_profile,
    "no-picture": polyglot,
    "no-picture-2": polyglot,
}
