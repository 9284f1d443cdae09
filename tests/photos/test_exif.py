"""When, where and with what: from good, odd and broken EXIF and XMP."""

from __future__ import annotations

import io
from datetime import datetime

import pillow_heif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from landseer.photos import PhotoFacts, read_facts
from landseer.photos.exif import _degrees, _exif_time, _xmp_degrees, _xmp_time

PARIS = {1: "N", 2: (48.0, 51.0, 30.0), 3: "E", 4: (2.0, 17.0, 40.2)}
EMPTY = PhotoFacts()


def tags(main: dict | None = None, details: dict | None = None, gps: dict | None = None) -> Image.Exif:
    exif = Image.Exif()
    exif.update(main or {})
    exif.update({pointer: table for pointer, table in ((0x8769, details), (0x8825, gps)) if table})
    return exif


def photo(kind: str = "JPEG", **options) -> bytes:
    stream = io.BytesIO()
    image = Image.new("RGB", (16, 16))
    if kind == "HEIF":
        pillow_heif.from_pillow(image).save(stream, **options)
    else:
        image.save(stream, kind, **options)
    return stream.getvalue()


def xmp(attributes: str = "", elements: str = "") -> bytes:
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        ' xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        ' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"'
        f' {attributes}>{elements}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
def test_everything_from_exif_in_every_format(kind):
    exif = tags({0x010F: "NIKON CORPORATION", 0x0110: "NIKON D70"}, {0x9003: "2004:07:14 21:05:09"}, PARIS)
    facts = read_facts(photo(kind, exif=exif.tobytes()))
    assert facts.taken == datetime(2004, 7, 14, 21, 5, 9)
    assert facts.camera == "NIKON D70"
    assert facts.latitude == pytest.approx(48 + 51 / 60 + 30 / 3600)
    assert facts.longitude == pytest.approx(2 + 17 / 60 + 40.2 / 3600)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF", "HEIF", "AVIF"])
def test_everything_from_xmp(kind):
    packet = xmp(
        'exif:GPSLatitude="33,51.5S" exif:GPSLongitude="151,12,30.6E" tiff:Model="Pixel 7"',
        "<xmp:CreateDate>2021-03-04T05:06:07.25+11:00</xmp:CreateDate>",
    )
    # Pillow writes the packet of a TIFF only as its tag
    options = {"tiffinfo": {700: packet}} if kind == "TIFF" else {"xmp": packet}
    facts = read_facts(photo(kind, **options))
    assert facts == PhotoFacts(
        taken=datetime(2021, 3, 4, 5, 6, 7),
        camera="Pixel 7",
        latitude=pytest.approx(-(33 + 51.5 / 60)),
        longitude=pytest.approx(151 + 12 / 60 + 30.6 / 3600),
    )


@pytest.mark.parametrize(
    ("latitude_ref", "longitude_ref", "signs"),
    [("N", "E", (1, 1)), ("S", "W", (-1, -1)), ("n", "w", (1, -1))],
)
def test_the_letters_give_the_signs(latitude_ref, longitude_ref, signs):
    facts = read_facts(photo(exif=tags(gps={**PARIS, 1: latitude_ref, 3: longitude_ref})))
    assert (facts.latitude > 0, facts.longitude > 0) == (signs[0] > 0, signs[1] > 0)


@pytest.mark.parametrize(
    "change",
    [
        {1: ""},
        {1: "X"},
        {3: "N"},
        {2: (91.0, 0.0, 0.0)},
        {4: (180.0, 30.0, 0.0)},
        {2: (48.0, 75.0, 0.0)},
        {2: (IFDRational(48, 0), IFDRational(51, 0), IFDRational(0, 0))},
        {2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)},
        {2: (48.0, 51.0, 30.0, 1.0)},
    ],
    ids=str,
)
def test_a_doubtful_position_is_none(change):
    facts = read_facts(photo(exif=tags(gps={**PARIS, **change})))
    assert facts == EMPTY


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("Apple", "iPhone 12", "Apple iPhone 12"),
        ("OLYMPUS IMAGING CORP.  ", "E-M5\0\0junk", "OLYMPUS IMAGING CORP. E-M5"),
        ("Leica", "", "Leica"),
        ("", "   ", None),
        ("\0", "\0\0", None),
    ],
)
def test_the_camera_in_one_phrase(make, model, camera):
    assert read_facts(photo(exif=tags({0x010F: make, 0x0110: model}))).camera == camera


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2019:12:31 23:59:59", datetime(2019, 12, 31, 23, 59, 59)),
        ("2019:12:31 23:59:59\0", datetime(2019, 12, 31, 23, 59, 59)),
        ("2019-12-31 23:59", datetime(2019, 12, 31, 23, 59)),
        ("0000:00:00 00:00:00", None),
        ("2019:02:30 10:00:00", None),
        ("    :  :     :  :  ", None),
        ("yesterday", None),
        (b"2019:12:31 23:59:59", datetime(2019, 12, 31, 23, 59, 59)),
        (20191231, None),
        (None, None),
    ],
)
def test_times_of_exif(text, wanted):
    assert _exif_time(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2019", datetime(2019, 1, 1)),
        ("2019-05", datetime(2019, 5, 1)),
        ("2019-05-06", datetime(2019, 5, 6)),
        ("2019-05-06T07:08", datetime(2019, 5, 6, 7, 8)),
        ("2019-05-06T07:08:09Z", datetime(2019, 5, 6, 7, 8, 9)),
        ("2019-13-06", None),
        ("20190506", None),
        ("", None),
    ],
)
def test_times_of_xmp(text, wanted):
    assert _xmp_time(text) == wanted


def test_the_moment_of_the_picture_goes_before_the_moment_of_the_file():
    both = {0x9003: "2001:01:01 01:01:01", 0x9004: "2002:02:02 02:02:02"}
    assert read_facts(photo(exif=tags(details=both))).taken == datetime(2001, 1, 1, 1, 1, 1)
    assert read_facts(photo(exif=tags(details={0x9004: both[0x9004]}))).taken == datetime(2002, 2, 2, 2, 2, 2)
    # 0x0132 is when some program last changed the file
    assert read_facts(photo(exif=tags({0x0132: "2003:03:03 03:03:03"}))).taken is None


@pytest.mark.parametrize(
    ("text", "degrees"),
    [("48,51.5N", 48 + 51.5 / 60), ("48,51,36S", -48.86), ("7.25N", 7.25), ("48,51.5", None), ("N", None)],
)
def test_degrees_of_xmp(text, degrees):
    assert _xmp_degrees(text, "NS") == (None if degrees is None else pytest.approx(degrees))


@pytest.mark.parametrize("text", ["1..2N", "48,51.5E", "48,99N", "abc", "48,51.5NN", "", None])
def test_garbled_degrees_of_xmp(text):
    assert _xmp_degrees(text, "NS") is None


@given(st.integers(0, 89), st.integers(0, 59), st.floats(0, 59.99), st.sampled_from("NS"))
def test_degrees_survive_the_way_into_exif_and_back(whole, minutes, seconds, letter):
    value = _degrees((whole, minutes, seconds), letter, "NS")
    assert value == pytest.approx((whole + minutes / 60 + seconds / 3600) * (1 if letter == "N" else -1))


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"<x:xmpmeta",
        b"\xff\xfe\x00garbage",
        b'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">]><a>&b;</a>',
        b'<?xml version="1.0" encoding="klingon"?><a/>',
        xmp('exif:GPSLatitude="north" exif:GPSLongitude="" xmp:CreateDate="once"'),
    ],
)
def test_broken_xmp_tells_nothing(packet):
    assert read_facts(photo(xmp=packet)) == EMPTY


@pytest.mark.filterwarnings("ignore")
@given(st.binary(max_size=300))
def test_broken_exif_never_raises(garbage):
    assert isinstance(read_facts(photo(exif=b"Exif\0\0MM\0*\0\0\0\x08" + garbage)), PhotoFacts)


def test_entities_in_xmp_are_not_expanded():
    packet = xmp(elements="<xmp:CreateDate>2021-03-04</xmp:CreateDate>")
    assert read_facts(photo(xmp=packet)).taken == datetime(2021, 3, 4)
    declared = (
        b'<!DOCTYPE x [<!ENTITY day "2021-03-04">]>' + packet[packet.index(b"<x:") : packet.rindex(b"<?")]
    )
    assert read_facts(photo(xmp=declared.replace(b"2021-03-04</", b"&day;</"))) == EMPTY


def test_no_photo_no_facts():
    assert read_facts(b"") == read_facts(b"hello") == read_facts(photo()) == EMPTY
