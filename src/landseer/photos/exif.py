"""When, where and with what a photo was taken, from its EXIF and XMP.

Cameras write both badly: anything that is absent, garbled or impossible is None.  Nothing is guessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from xml.etree import ElementTree as ET

from PIL import ImageFile

from landseer.photos.formats import UnreadablePhoto, has_exif, open_lazily

_MAKE, _MODEL, _EXIF_IFD, _GPS_IFD = 0x010F, 0x0110, 0x8769, 0x8825
_DATE_TIME_ORIGINAL, _DATE_TIME_DIGITIZED = 0x9003, 0x9004
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE = 1, 2, 3, 4

_EXIF_NS: Final = "{http://ns.adobe.com/exif/1.0/}"
_TIFF_NS: Final = "{http://ns.adobe.com/tiff/1.0/}"
_XMP_DATES: Final = (
    f"{_EXIF_NS}DateTimeOriginal",
    "{http://ns.adobe.com/photoshop/1.0/}DateCreated",
    "{http://ns.adobe.com/xap/1.0/}CreateDate",
)
_MAX_XMP_BYTES: Final = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoFacts:
    """What a photo says about itself.  ``taken`` is the camera's local time; degrees are WGS 84."""

    taken: datetime | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None


def read_facts(data: bytes) -> PhotoFacts:
    """The facts in the EXIF and XMP of the photo in *data*, None where it does not tell.  Never raises."""
    try:
        picture = open_lazily(data)
    except UnreadablePhoto:
        return PhotoFacts()
    main, details, gps = _exif_of(picture, data)
    xmp = _xmp_of(picture)
    taken = _exif_time(details.get(_DATE_TIME_ORIGINAL)) or _exif_time(details.get(_DATE_TIME_DIGITIZED))
    taken = taken or next(filter(None, (_xmp_time(xmp.get(name)) for name in _XMP_DATES)), None)
    camera = _camera(main.get(_MAKE), main.get(_MODEL))
    camera = camera or _camera(xmp.get(f"{_TIFF_NS}Make"), xmp.get(f"{_TIFF_NS}Model"))
    position = _position(
        _degrees(gps.get(_LATITUDE), gps.get(_LATITUDE_REF), "NS"),
        _degrees(gps.get(_LONGITUDE), gps.get(_LONGITUDE_REF), "EW"),
    ) or _position(
        _xmp_degrees(xmp.get(f"{_EXIF_NS}GPSLatitude"), "NS"),
        _xmp_degrees(xmp.get(f"{_EXIF_NS}GPSLongitude"), "EW"),
    )
    latitude, longitude = position or (None, None)
    return PhotoFacts(taken=taken, camera=camera, latitude=latitude, longitude=longitude)


def _exif_of(
    picture: ImageFile.ImageFile, data: bytes
) -> tuple[Mapping[int, Any], Mapping[int, Any], Mapping[int, Any]]:
    """The main, detail and GPS tables of the EXIF, each empty where it cannot be read."""
    if not has_exif(picture, data):
        return {}, {}, {}
    tables: list[Mapping[int, Any]] = []
    for ifd in (None, _EXIF_IFD, _GPS_IFD):
        try:
            exif = picture.getexif()
            tables.append(dict(exif if ifd is None else exif.get_ifd(ifd)))
        except Exception:  # noqa: BLE001 - offsets into nowhere surface as any exception in the parser
            tables.append({})
    return tables[0], tables[1], tables[2]


def _xmp_of(picture: ImageFile.ImageFile) -> dict[str, str]:
    """Simple properties of the XMP packet: qualified name -> text, the first of each."""
    packet = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp") or b""
    if isinstance(packet, str):
        packet = packet.encode("utf-8", "replace")
    # entities are never needed in XMP, and are how a small packet grows without bound
    if not isinstance(packet, bytes) or len(packet) > _MAX_XMP_BYTES or b"<!" in packet:
        return {}
    try:
        root = ET.fromstring(packet.strip(b"\x00 \r\n\t"))  # noqa: S314 - no entity can occur, see above
    except (ET.ParseError, ValueError, LookupError):
        return {}
    found: dict[str, str] = {}
    for element in root.iter():
        for name, value in element.attrib.items():
            found.setdefault(name, value)
        if element.text and element.text.strip():
            found.setdefault(element.tag, element.text)
    return found


def _camera(make: object, model: object) -> str | None:
    """Maker and model in one phrase; many models repeat the maker."""
    maker, name = _text(make), _text(model)
    if maker and name and not name.lower().startswith(maker.lower().split()[0]):
        return f"{maker} {name}"
    return name or maker


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return None
    text = " ".join("".join(c if c.isprintable() else " " for c in value.split("\x00")[0]).split())
    return text[:200] or None


def _exif_time(value: object) -> datetime | None:
    match = re.match(
        r"(\d{4})[:/-](\d\d)[:/-](\d\d)[ T](\d\d):(\d\d)(?::(\d\d))?", _text(value) or "", re.ASCII
    )
    return _moment(match)


def _xmp_time(value: object) -> datetime | None:
    match = re.match(
        r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?)?)?)?(?!\d)",
        _text(value) or "",
        re.ASCII,
    )
    return _moment(match)


def _moment(match: re.Match[str] | None) -> datetime | None:
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) if part else None for part in match.groups())
    try:
        return datetime(
            year or 0,
            1 if month is None else month,
            1 if day is None else day,
            hour or 0,
            minute or 0,
            second or 0,
        )
    except ValueError:
        return None


def _degrees(value: object, ref: object, letters: str) -> float | None:
    """Degrees from up to three numbers (degrees, minutes, seconds), negative by the second of *letters*."""
    letter = (_text(ref) or "").upper()[:1]
    if not letter or letter not in letters:
        return None
    parts: Sequence[Any] = value if isinstance(value, tuple | list) else (value,)
    try:
        numbers = [float(part) for part in parts]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    if not 1 <= len(numbers) <= 3 or not all(n >= 0 for n in numbers):
        return None
    if any(n > 60 for n in numbers[1:]):
        return None
    total = math.fsum(n / 60.0**power for power, n in enumerate(numbers))
    return total if letter == letters[0] else -total


def _xmp_degrees(value: object, letters: str) -> float | None:
    """Degrees from "48,51.5N" or "48,51,30N"."""
    match = re.fullmatch(
        r"\s*([\d.]+)(?:,([\d.]+))?(?:,([\d.]+))?\s*([NSEWnsew])\s*", _text(value) or "", re.ASCII
    )
    if match is None:
        return None
    return _degrees([part for part in match.groups()[:3] if part is not None], match.group(4), letters)


def _position(latitude: float | None, longitude: float | None) -> tuple[float, float] | None:
    """Both or none; (0, 0) is what receivers write before they know."""
    if latitude is None or longitude is None or (latitude == 0 and longitude == 0):
        return None
    if abs(latitude) > 90 or abs(longitude) > 180:
        return None
    return latitude, longitude
