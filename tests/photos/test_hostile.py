"""Every kind of bad picture the web serves: each is decoded right or refused with the expected reason."""

from __future__ import annotations

import io
import os
import resource
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable

import numpy as np
import pillow_heif
import pytest
from PIL import Image, PngImagePlugin

from landseer.photos import MAX_PIXELS, UnreadablePhoto, decode, read_facts, shape_of, size_of, thumbnail
from landseer.photos.formats import MAX_JPEG_SCANS

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow remarks on every broken tag

WIDTH, HEIGHT = 96, 64
RED, GREEN, BLUE, YELLOW, WHITE, GREY = (
    (220, 30, 30),
    (30, 160, 40),
    (30, 40, 200),
    (230, 220, 40),
    (255,) * 3,
    (128,) * 3,
)


def upright() -> np.ndarray:
    """Four quarters of different colour, so that every turn and flip shows."""
    quarters = np.array([[RED, GREEN], [BLUE, YELLOW]], np.uint8)
    return quarters.repeat(HEIGHT // 2, axis=0).repeat(WIDTH // 2, axis=1)


UPRIGHT = upright()
NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def encode(kind: str, picture: np.ndarray | Image.Image = UPRIGHT, **options) -> bytes:
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    stream = io.BytesIO()
    if kind == "HEIF":
        pillow_heif.from_pillow(image).save(stream, quality=90, **options)
    else:
        if kind == "JPEG":
            options = {"quality": 95, "subsampling": 0, **options}
        image.save(stream, kind, **options)
    return stream.getvalue()


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def stored(orientation: int) -> np.ndarray:
    """The pixels that EXIF *orientation* turns into UPRIGHT: it says where row 0 and column 0 lie."""
    return {
        1: UPRIGHT,
        2: UPRIGHT[:, ::-1],
        3: UPRIGHT[::-1, ::-1],
        4: UPRIGHT[::-1],
        5: UPRIGHT.transpose(1, 0, 2),
        6: np.rot90(UPRIGHT, 1),
        7: UPRIGHT[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(UPRIGHT, -1),
    }[orientation].copy()


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(
    width: int, height: int, *, bits: int = 8, colour: int = 2, pixels: bytes = b"", extra: bytes = b""
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + extra
        + png_chunk(b"IDAT", zlib.compress(pixels))
        + png_chunk(b"IEND", b"")
    )


def late_exif_png() -> bytes:
    whole = encode("PNG", stored(6))
    end = whole.rindex(b"IEND") - 4
    return whole[:end] + png_chunk(b"eXIf", exif(6).removeprefix(b"Exif\0\0")) + whole[end:]


def rgb16_png() -> bytes:
    rows = UPRIGHT.astype(">u2") * 257
    return png(WIDTH, HEIGHT, bits=16, pixels=b"".join(b"\0" + row.tobytes() for row in rows))


def gif(screen: tuple[int, int], frame: tuple[int, int]) -> bytes:
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", *screen, 0x80, 0, 0)
        + bytes(6)
        + b"\x2c"
        + struct.pack("<HHHHB", 0, 0, *frame, 0)
        + b"\x02\x02\x44\x01\x00;"
    )


def tiff(width: int, height: int, *, compression: int = 1, layout: dict[int, int] | None = None) -> bytes:
    tags = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 277: 1}
    tags |= layout or {273: 400, 278: height, 279: 100}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(600)


def jpeg_claiming(width: int, height: int, **options) -> bytes:
    whole = bytearray(encode("JPEG", **options))
    at = whole.index(b"\xff\xc2" if options.get("progressive") else b"\xff\xc0")
    whole[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(whole)


def webp_claiming(width: int, height: int) -> bytes:
    whole = bytearray(encode("WEBP", exif=exif(1)))
    assert whole[12:16] == b"VP8X"
    whole[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(whole)


def corrupted(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(b ^ 0x5A for b in data[middle : middle + 40]) + data[middle + 40 :]


def ycck_jpeg() -> bytes:
    """UPRIGHT as Photoshop writes it: inverted CMYK in YCCK planes, said so by the Adobe marker.

    Pillow writes CMYK planes inverted and without the colour transform, so the planes are prepared here.
    """
    inks = 255 - UPRIGHT
    planes = 255 - np.asarray(Image.fromarray(inks).convert("YCbCr"))
    no_black = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    whole = bytearray(encode("JPEG", Image.fromarray(np.concatenate([planes, no_black], -1), "CMYK")))
    whole[whole.index(b"Adobe") + 11] = 2
    return bytes(whole)


def with_alpha(mode: str) -> Image.Image:
    """The picture, its left half opaque and its right half clear, in *mode*."""
    image = Image.fromarray(UPRIGHT).convert("RGBA")
    image.putalpha(
        Image.fromarray(
            np.where(np.arange(WIDTH) < WIDTH // 2, 255, 0).astype(np.uint8)[None].repeat(HEIGHT, 0)
        )
    )
    return image.convert(mode)


def over_white(picture: np.ndarray = UPRIGHT) -> np.ndarray:
    return np.where((np.arange(WIDTH) < WIDTH // 2)[None, :, None], picture, 255).astype(np.uint8)


def palette_with_clear_entry() -> bytes:
    image = Image.fromarray(UPRIGHT).quantize(4)
    entry = image.getpixel((WIDTH - 1, HEIGHT - 1))
    return encode("PNG", image, transparency=entry)


def grey(picture: np.ndarray = UPRIGHT) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).convert("L").convert("RGB"))


def ramp(dtype: type, top: float) -> np.ndarray:
    return np.tile(np.linspace(0, top, 256).astype(dtype), (16, 1))


RAMP = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (16, 1, 3))


def signed_float_tiff() -> bytes:
    values = ramp(np.float32, 2.0) - 1
    values[0, 0] = np.nan
    return encode("TIFF", Image.fromarray(values))


def signed_ramp() -> np.ndarray:
    expected = RAMP.copy()
    expected[0, 0] = 0
    return expected


def animated(kind: str, **options) -> bytes:
    frames = [Image.fromarray(frame) for frame in (UPRIGHT, 255 - UPRIGHT, UPRIGHT[::-1])]
    return encode(kind, frames[0], save_all=True, append_images=frames[1:], **options)


def many_scans() -> bytes:
    whole = encode("JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * (MAX_JPEG_SCANS + 1) + b"\xff\xd9"


def flat(colour: tuple[int, int, int], width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def broken_exif() -> bytes:
    return encode("JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xf0" + bytes(range(40)))


def cut(data: bytes, part: float) -> bytes:
    return data[: int(len(data) * part)]


# name -> (bytes, the exact picture with the largest mean difference allowed | the reason it is refused)
Case = tuple[Callable[[], bytes], "tuple[Callable[[], np.ndarray], float] | str"]
SAME = (lambda: UPRIGHT, 0.0)
NEAR = (lambda: UPRIGHT, 4.0)

CASES: dict[str, Case] = {
    "zero bytes": (lambda: b"", "empty file"),
    "one byte": (lambda: b"\xff", "not an image"),
    "text": (lambda: b"Not found. " * 40, "not an image"),
    "html": (lambda: b"<!DOCTYPE html><html><body>404</body></html>", "not an image"),
    "svg": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image"),
    "pdf": (lambda: b"%PDF-1.7\n" + bytes(200), "unsupported format: PDF"),
    "jpeg xl": (lambda: b"\xff\x0a" + bytes(200), "unsupported format: JPEG XL"),
    "mp4": (lambda: b"\0\0\0\x18ftypisom\0\0\0\0isomiso2" + bytes(200), "not an image"),
    "nothing but zeros": (lambda: bytes(5000), "not an image"),
    "text that begins with BM": (lambda: b"BMW 320i, used, one owner " * 9, "not an image"),
    "jpeg marker and nothing": (lambda: b"\xff\xd8\xff", "truncated"),
    "jpeg marker and garbage": (lambda: b"\xff\xd8\xff\xe0" + b"garbage" * 50 + b"\xff\xd9", "damaged"),
    "jpeg": (lambda: encode("JPEG"), NEAR),
    "jpeg progressive": (lambda: encode("JPEG", progressive=True), NEAR),
    "jpeg grey": (lambda: encode("JPEG", grey()[..., 0]), (grey, 4.0)),
    "jpeg cmyk": (lambda: encode("JPEG", Image.fromarray(UPRIGHT).convert("CMYK")), NEAR),
    "jpeg ycck": (ycck_jpeg, NEAR),
    "jpeg trailing garbage": (lambda: encode("JPEG") + b"\0garbage" * 5000, NEAR),
    "jpeg giant icc": (lambda: encode("JPEG", icc_profile=bytes(3_000_000)), NEAR),
    "jpeg broken exif": (broken_exif, NEAR),
    "jpeg exif orientation 77": (lambda: encode("JPEG", exif=exif(77)), NEAR),
    "jpeg mpo": (lambda: animated("MPO", quality=95, subsampling=0), NEAR),
    "jpeg corrupted in the middle": (lambda: corrupted(encode("JPEG", NOISE)), "either"),
    "jpeg claims 60000 x 60000": (lambda: jpeg_claiming(60000, 60000), "too large: 60000 x 60000 px"),
    "jpeg claims height 0": (lambda: jpeg_claiming(100, 0), "damaged"),
    "jpeg of 200 scans": (many_scans, "too many scans"),
    "jpeg 1 x 1": (lambda: encode("JPEG", flat(RED, 1, 1)), (lambda: flat(RED, 1, 1), 3.0)),
    "jpeg 60000 x 1": (lambda: encode("JPEG", flat(RED, 60000, 1)), (lambda: flat(RED, 60000, 1), 3.0)),
    "jpeg 1 x 60000": (lambda: encode("JPEG", flat(RED, 1, 60000)), (lambda: flat(RED, 1, 60000), 3.0)),
    "png": (lambda: encode("PNG"), SAME),
    "png trailing garbage": (lambda: encode("PNG") + b"garbage" * 99, SAME),
    "png palette": (lambda: encode("PNG", Image.fromarray(UPRIGHT).quantize(8)), SAME),
    "png palette, one entry clear": (
        palette_with_clear_entry,
        (lambda: np.where((UPRIGHT == YELLOW).all(-1, keepdims=True), 255, UPRIGHT), 0.0),
    ),
    "png alpha": (lambda: encode("PNG", with_alpha("RGBA")), (over_white, 0.0)),
    "png grey and alpha": (lambda: encode("PNG", with_alpha("LA")), (lambda: over_white(grey()), 0.0)),
    "png clear colour": (
        lambda: encode("PNG", Image.fromarray(UPRIGHT), transparency=GREEN),
        (lambda: np.where((UPRIGHT == GREEN).all(-1, keepdims=True), 255, UPRIGHT), 0.0),
    ),
    "png 1 bit": (
        lambda: encode("PNG", Image.fromarray(grey()[..., 0] > 90)),
        (lambda: np.where(grey() > 90, 255, 0), 0.0),
    ),
    "png 16 bit grey": (lambda: encode("PNG", Image.fromarray(ramp(np.uint16, 65535))), (lambda: RAMP, 0.0)),
    "png 16 bit colour": (rgb16_png, SAME),
    "png animated": (lambda: animated("PNG"), SAME),
    "png 1 x 1": (lambda: encode("PNG", flat(RED, 1, 1)), (lambda: flat(RED, 1, 1), 0.0)),
    "png 60000 x 1": (lambda: encode("PNG", flat(RED, 60000, 1)), (lambda: flat(RED, 60000, 1), 0.0)),
    "png 1 x 60000": (lambda: encode("PNG", flat(RED, 1, 60000)), (lambda: flat(RED, 1, 60000), 0.0)),
    "png exif after the pixels": (late_exif_png, SAME),
    "png bomb": (
        lambda: png(20000, 20000, bits=1, colour=0, pixels=bytes(2501 * 20000)),
        "too large: 20000 x 20000 px",
    ),
    "png just above the limit": (lambda: png(MAX_PIXELS + 1, 1), f"too large: {MAX_PIXELS + 1} x 1 px"),
    "png without pixels": (lambda: png(50, 50), "damaged"),
    "png text bomb": (
        lambda: png(
            8, 8, pixels=bytes(200), extra=png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(90_000_000))) * 2
        ),
        "either",
    ),
    "png corrupted in the middle": (lambda: corrupted(encode("PNG", NOISE)), "damaged"),
    "webp": (lambda: encode("WEBP", quality=95), (lambda: UPRIGHT, 5.0)),
    "webp lossless": (lambda: encode("WEBP", lossless=True), SAME),
    "webp alpha": (lambda: encode("WEBP", with_alpha("RGBA"), lossless=True), (over_white, 0.0)),
    "webp animated": (lambda: animated("WEBP", lossless=True), SAME),
    "webp 1 x 1": (lambda: encode("WEBP", flat(RED, 1, 1), lossless=True), (lambda: flat(RED, 1, 1), 0.0)),
    "webp claims 60000 x 60000": (lambda: webp_claiming(60000, 60000), "too large: 60000 x 60000 px"),
    "webp claims 14000 x 14000": (lambda: webp_claiming(14000, 14000), "too large: 14000 x 14000 px"),
    "webp corrupted in the middle": (lambda: corrupted(encode("WEBP", NOISE)), "either"),
    "gif": (lambda: encode("GIF"), SAME),
    "gif animated": (lambda: animated("GIF"), SAME),
    "gif clear entry": (
        lambda: encode("GIF", with_alpha("RGBA")),
        (over_white, 0.0),
    ),
    "gif claims 65535 x 65535": (
        lambda: gif((65535, 65535), (65535, 65535)),
        "too large: 65535 x 65535 px",
    ),
    "gif frame larger than its screen": (lambda: gif((10, 10), (65535, 65535)), "too large"),
    "gif claims more than it holds": (lambda: gif((9000, 9000), (9000, 9000)), "damaged"),
    "bmp": (lambda: encode("BMP"), SAME),
    "bmp palette": (lambda: encode("BMP", Image.fromarray(UPRIGHT).quantize(8)), SAME),
    "tiff": (lambda: encode("TIFF"), SAME),
    "tiff lzw": (lambda: encode("TIFF", compression="tiff_lzw"), SAME),
    "tiff cmyk": (lambda: encode("TIFF", Image.fromarray(UPRIGHT).convert("CMYK")), (lambda: UPRIGHT, 1.0)),
    "tiff 16 bit grey": (
        lambda: encode("TIFF", Image.fromarray(ramp(np.uint16, 65535))),
        (lambda: RAMP, 0.0),
    ),
    "tiff 32 bit grey": (lambda: encode("TIFF", Image.fromarray(ramp(np.int32, 65535))), (lambda: RAMP, 0.0)),
    "tiff float to 1": (lambda: encode("TIFF", Image.fromarray(ramp(np.float32, 1))), (lambda: RAMP, 0.0)),
    "tiff float to 255": (
        lambda: encode("TIFF", Image.fromarray(ramp(np.float32, 255))),
        (lambda: RAMP, 0.0),
    ),
    "tiff float signed with nan": (signed_float_tiff, (signed_ramp, 0.6)),
    "tiff float all nan": (
        lambda: encode("TIFF", Image.fromarray(np.full((4, 4), np.nan, np.float32))),
        (lambda: flat((0, 0, 0), 4, 4), 0.0),
    ),
    "tiff of three pages": (lambda: animated("TIFF"), SAME),
    "tiff claims 60000 x 60000": (lambda: tiff(60000, 60000), "too large: 60000 x 60000 px"),
    "tiff claims more than it holds": (lambda: tiff(9000, 9000), "truncated"),
    "tiff tile of 60000 x 60000": (
        lambda: tiff(10, 10, compression=5, layout={322: 60000, 323: 60000, 324: 400, 325: 100}),
        "damaged",
    ),
    "tiff strip of 2 GiB": (
        lambda: tiff(10, 10, compression=5, layout={273: 400, 278: 2**31 - 1, 279: 2**31 - 1}),
        "damaged",
    ),
    "heif": (lambda: encode("HEIF"), (lambda: UPRIGHT, 5.0)),
    "heif of nothing but its type": (
        lambda: encode("HEIF")[: int.from_bytes(encode("HEIF")[:4], "big")],
        "truncated",
    ),
    "heif alpha": (lambda: encode("HEIF", with_alpha("RGBA")), (over_white, 5.0)),
    "heif 1 x 1": (lambda: encode("HEIF", flat(RED, 1, 1)), (lambda: flat(RED, 1, 1), 5.0)),
    "heif corrupted in the middle": (lambda: corrupted(encode("HEIF", NOISE)), "either"),
    "avif": (lambda: encode("AVIF", quality=95), (lambda: UPRIGHT, 5.0)),
    "avif alpha": (lambda: encode("AVIF", with_alpha("RGBA"), quality=95), (over_white, 5.0)),
    "avif corrupted in the middle": (lambda: corrupted(encode("AVIF", NOISE)), "either"),
}

for _n in range(1, 9):
    CASES[f"jpeg exif orientation {_n}"] = (lambda n=_n: encode("JPEG", stored(n), exif=exif(n)), NEAR)
    CASES[f"png exif orientation {_n}"] = (lambda n=_n: encode("PNG", stored(n), exif=exif(n)), SAME)
    CASES[f"webp exif orientation {_n}"] = (
        lambda n=_n: encode("WEBP", stored(n), exif=exif(n), lossless=True),
        SAME,
    )
    CASES[f"tiff orientation {_n}"] = (lambda n=_n: encode("TIFF", stored(n), tiffinfo={0x0112: n}), SAME)
    CASES[f"heif orientation {_n}"] = (
        lambda n=_n: encode("HEIF", stored(n), exif=exif(n)),
        (lambda: UPRIGHT, 5.0),
    )
    CASES[f"avif orientation {_n}"] = (
        lambda n=_n: encode("AVIF", stored(n), exif=exif(n), quality=95),
        (lambda: UPRIGHT, 5.0),
    )

WHOLE: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encode("JPEG", NOISE),
    "jpeg progressive": lambda: encode("JPEG", NOISE, progressive=True),
    "png": lambda: encode("PNG", NOISE),
    "webp": lambda: encode("WEBP", NOISE),
    "webp lossless": lambda: encode("WEBP", NOISE, lossless=True),
    "gif": lambda: encode("GIF", NOISE),
    "bmp": lambda: encode("BMP", NOISE),
    "tiff": lambda: encode("TIFF", NOISE),
    "tiff lzw": lambda: encode("TIFF", NOISE, compression="tiff_lzw"),
    "heif": lambda: encode("HEIF", NOISE),
    "avif": lambda: encode("AVIF", NOISE),
}
for _name, _make in WHOLE.items():
    for _part in (0.03, 0.3, 0.6, 0.95):
        CASES[f"{_name} cut at {_part:.0%}"] = (lambda make=_make, part=_part: cut(make(), part), "truncated")


@pytest.mark.parametrize("name", CASES)
def test_it_is_decoded_right_or_refused_with_its_reason(name: str):
    make, expected = CASES[name]
    data = make()
    if isinstance(expected, str):
        try:
            picture = decode(data)
        except UnreadablePhoto as refusal:
            assert expected in ("either", refusal.reason)
        else:
            assert expected == "either", f"decoded to {picture.shape}"
        return
    wanted, tolerance = expected[0](), expected[1]
    picture = decode(data)
    assert picture.dtype == np.uint8 and picture.flags.writeable and picture.flags.c_contiguous
    assert picture.shape == wanted.shape
    assert np.abs(picture.astype(float) - wanted).mean() <= tolerance
    assert size_of(data) == (picture.shape[1], picture.shape[0])


def test_the_table_is_long_enough():
    assert len(CASES) >= 40


_CHILD = """
import resource, sys
from pathlib import Path
from landseer.photos import UnreadablePhoto, decode, read_facts, size_of, thumbnail
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for path in sorted(Path(sys.argv[1]).iterdir()):
    data = path.read_bytes()
    small, tiny = lambda d: decode(d, min_side=32), lambda d: thumbnail(d, longest=32)
    for act in (decode, size_of, read_facts, small, tiny):
        try:
            act(data)
        except UnreadablePhoto:
            pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_the_whole_table_stays_in_bounded_memory_and_time(tmp_path):
    for number, (make, _) in enumerate(CASES.values()):
        (tmp_path / f"{number:03}").write_bytes(make())
    (tmp_path / "progressive").write_bytes(jpeg_claiming(9000, 9000, progressive=True))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CHILD, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1_500_000, "kilobytes at the peak"


def test_the_shape_of_each_is_that_of_its_pixels_or_refused_with_the_reason(tmp_path):
    told, refused = 0, 0
    for name, (make, expected) in CASES.items():
        (tmp_path / "photo").write_bytes(make())
        try:
            shape = shape_of(tmp_path, "photo")
        except UnreadablePhoto as refusal:
            assert expected in ("either", refusal.reason), name
            refused += 1
            continue
        told += 1
        if isinstance(expected, str):
            assert not expected.startswith(("too large:", "empty", "not an", "unsupported")), name
            assert min(shape) >= 1
        else:
            assert shape == expected[0]().shape[1::-1], name
    assert told > 100 and refused > 20


def test_the_first_bytes_of_a_long_file_tell_what_all_of_it_tells(tmp_path):
    def outcome(act, *args):
        try:
            return act(*args)
        except UnreadablePhoto as refusal:
            return refusal.reason

    long = {name: make() + bytes(1 << 17) for name, (make, _) in CASES.items() if name.startswith("jpeg")}
    assert len(long) > 25
    for name, data in long.items():
        (tmp_path / "photo").write_bytes(data)
        assert outcome(shape_of, tmp_path, "photo") == outcome(size_of, data), name


def test_what_turns_a_picture_is_found_behind_its_pixels(tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (150, 240, 3), dtype=np.uint8)
    whole = encode("PNG", noise)
    end = whole.rindex(b"IEND") - 4
    assert end > 1 << 16
    turned = whole[:end] + png_chunk(b"eXIf", exif(6).removeprefix(b"Exif\0\0")) + whole[end:]
    (tmp_path / "late.png").write_bytes(turned)
    assert shape_of(tmp_path, "late.png") == decode(turned).shape[1::-1] == (150, 240)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("make", [png, tiff, lambda *size: gif(size, (0, 0))])
def test_a_picture_without_pixels_has_no_shape(tmp_path, make, size):
    (tmp_path / "photo").write_bytes(make(*size))
    with pytest.raises(UnreadablePhoto):
        shape_of(tmp_path, "photo")


def test_a_bomb_costs_nothing():
    data = CASES["png bomb"][0]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnreadablePhoto, match="too large"):
        decode(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def test_a_lying_header_costs_little_when_a_small_picture_is_asked_for():
    assert min(decode(jpeg_claiming(14000, 14000), min_side=224).shape[:2]) >= 224


@pytest.mark.parametrize("name", WHOLE)
def test_flipped_bytes_give_pixels_or_a_reason_and_nothing_else(name: str):
    whole = WHOLE[name]()
    rng = np.random.default_rng(len(name))
    for _ in range(60):
        damaged = np.frombuffer(whole, np.uint8).copy()
        # half of the flips hit the header, where they do the strangest things
        reach = min(len(whole), 200) if rng.random() < 0.5 else len(whole)
        spots = rng.integers(0, reach, size=rng.integers(1, 8))
        damaged[spots] = rng.integers(0, 256, size=len(spots))
        data = damaged.tobytes()
        try:
            width, height = size_of(data)
            assert min(width, height) >= 1, "whoever divides one by the other relies on it"
            if width * height > 4_000_000:
                continue  # a plausible lie: decoding it is allowed, and slow
            picture = decode(data)
        except UnreadablePhoto as refusal:
            assert refusal.reason and len(refusal.reason) < 60
        else:
            assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
        read_facts(data)


@pytest.mark.parametrize(
    "name", ["jpeg", "jpeg progressive", "png", "webp", "gif", "bmp", "tiff", "heif", "avif"]
)
def test_every_cut_is_survived(name: str):
    whole = WHOLE[name]()
    for end in range(0, len(whole) - 20, max(1, len(whole) // 80)):  # the last bytes only say that it ends
        with pytest.raises(UnreadablePhoto):
            decode(whole[:end])


def test_thumbnails_of_hostile_pictures():
    made = 0
    for name, (make, expected) in CASES.items():
        try:
            small = thumbnail(make(), longest=40)
        except UnreadablePhoto:
            assert isinstance(expected, str), name
            continue
        width, height = size_of(small)
        assert max(width, height) <= 40 and min(width, height) >= 1
        made += 1
    assert made > 40


def test_png_info_is_not_read_as_text():
    """Metadata of a picture never changes its pixels."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 10000)
    assert np.array_equal(decode(encode("PNG", pnginfo=info)), UPRIGHT)


def test_16_bit_grey_is_rounded_to_the_nearest_byte():
    values = np.array([[0, 128, 129, 257, 385, 386, 65406, 65407, 65535]], np.uint16)
    expected = np.rint(values / 257).astype(np.uint8)
    assert np.array_equal(decode(encode("PNG", Image.fromarray(values)))[..., 0], expected)
