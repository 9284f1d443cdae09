"""Tiny data sets made by hand, with and without defects."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image


def jpeg(*, exif: Image.Exif | None = None) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), (200, 30, 30)).save(stream, "JPEG", exif=exif or Image.Exif())
    return stream.getvalue()


def facts(taken: str, latitude: float, longitude: float, camera: str) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0110] = camera
    exif.get_ifd(0x8769)[0x9003] = taken
    gps = exif.get_ifd(0x8825)
    for value, tag, positive, negative in ((latitude, 1, "N", "S"), (longitude, 3, "E", "W")):
        gps[tag] = positive if value >= 0 else negative
        gps[tag + 1] = (abs(value), 0.0, 0.0)
    return exif


def put_layered(root: Path, split: str, *ids: str) -> None:
    for name in ids:
        file = root / split / name[0] / name[1] / name[2] / f"{name}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jpeg())


def put_tar(file: Path, members: dict[str, bytes]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


CATEGORY = "http://commons.wikimedia.org/wiki/Category:"

GLDV2_FILES = {
    "train.csv": "id,url,landmark_id\naaa1,u,10\naaa2,u,10\nbbb1,u,20\nccc1,u,30\n",
    "train_clean.csv": "landmark_id,images\n10,aaa1 aaa2\n30,ccc1\n",
    "train_label_to_category.csv": (
        f'landmark_id,category\n10,{CATEGORY}Tour_d%27Or\n20,"{CATEGORY}Palace,_Old"\n30,{CATEGORY}Castle\n'
    ),
    "index.csv": "id\nddd1\nddd2\neee1\neee2\nfff1\n",
    "index_image_to_landmark.csv": "id,landmark_id\nddd1,7\nddd2,7\neee1,3\neee2,5\n",
    # the index numbers apart: 7 is train's 20; 3 and 5 are known to the index alone
    "index_label_to_category.csv": (
        f'landmark_id,category\n3,{CATEGORY}Zoo\n5,{CATEGORY}Abbey\n7,"{CATEGORY}Palace,_Old"\n'
    ),
    "test.csv": "id\nq001\nq002\nq003\nq004\nq005\nq006\n",
    "recognition_solution_v2.1.csv": (
        "id,landmarks,Usage\nq001,20,Public\nq002,10 20,Private\n"
        "q003,,Private\nq004,,Private\nq005,,Ignored\n"
    ),
    "retrieval_solution_v2.1.csv": (
        "id,images,Usage\nq001,ddd1 ddd2,Public\nq002,ddd1,Private\n"
        "q003,eee1,Private\nq004,None,Private\nq005,None,Ignored\n"
    ),
    "landmark_country.csv": "landmark_id,country\n10,FR\n20,NA\n",
    "landmark_location.csv": "landmark_id,latitude,longitude\n10,48.86,2.34\n30,-22.56,17.08\n",
    "index_landmark_location.csv": "landmark_id,latitude,longitude\n3,51.51,-0.12\n7,0,0\n",
}


@pytest.fixture
def make() -> SimpleNamespace:
    """The writers above, for tests that lay out a folder of their own."""
    return SimpleNamespace(
        jpeg=jpeg, facts=facts, put_layered=put_layered, put_tar=put_tar, files=GLDV2_FILES, category=CATEGORY
    )


@pytest.fixture
def gldv2(tmp_path: Path) -> Callable[..., Path]:
    """Writes a copy of Google Landmarks v2 in miniature, with other text for some files (None: absent)."""

    def write(name: str = "gld", *, photos: bool = True, **changed: str | bytes | None) -> Path:
        root = tmp_path / name
        (root / "metadata").mkdir(parents=True)
        for file, text in {
            **GLDV2_FILES,
            **{key.replace("__", "."): value for key, value in changed.items()},
        }.items():
            if isinstance(text, bytes):
                (root / "metadata" / file).write_bytes(text)
            elif text is not None:
                (root / "metadata" / file).write_text(text)
        if photos:
            put_layered(root, "train", "aaa1", "aaa2", "bbb1", "ccc1")
            put_layered(root, "index", "ddd1", "ddd2", "eee1", "eee2", "fff1")
            put_layered(root, "test", "q001", "q002", "q003", "q004", "q005", "q006")
        return root

    return write
