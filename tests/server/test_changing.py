"""Photos come and go, labels change, and the next answer knows."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from landseer.pipeline import rebuild_index, search_index
from landseer.search import open_index


def verdict(client, data):
    return client.post("/api/search", files={"photo": ("q", data)}).json()["recognition"]


def landmarks(client):
    return {
        each["name"]: (each["landmark"], each["photos"])
        for each in client.get("/api/landmarks").json()["landmarks"]
    }


def send(client, *contents, **fields):
    return client.post("/api/photos", files=[("photos", ("../../x.png", c)) for c in contents], data=fields)


def with_facts(picture):
    """A JPEG that says when and where it was taken, and carries a comment."""
    exif = Image.Exif()
    exif[0x0132] = "2020:02:03 04:05:06"
    details = exif.get_ifd(0x8769)
    details[0x9003] = "2019:07:14 12:00:05"
    place = exif.get_ifd(0x8825)
    place.update({1: "N", 2: (48.0, 51.0, 30.0), 3: "E", 4: (2.0, 17.0, 40.0)})
    stream = BytesIO()
    picture.save(stream, "JPEG", exif=exif, comment=b"secret", quality=98)
    return stream.getvalue()


def test_a_photo_that_is_sent_is_found_recognised_and_survives_a_rebuild(
    writer, index, drawn, encoded, tmp_path
):
    new = [encoded(drawn(50, noise)) for noise in range(3)]
    done = send(writer, *new, landmark_name="Tower", country="fr").json()
    assert len(done["added"]) == 3 and done["unreadable"] == done["there_already"] == []
    found = writer.post("/api/search", files={"photo": ("q", encoded(drawn(50, 7)))}).json()
    assert {answer["id"] for answer in found["answers"][:3]} == set(done["added"])
    assert (found["recognition"]["name"], found["recognition"]["country"]) == ("Tower", "FR")
    assert send(writer, new[0]).json()["there_already"] == done["added"][:1]
    (tmp_path / "other.toml").write_text(
        'title = "o"\nseed = 6\n[model]\nbackbone = "test_resnet"\nweights = "none"\npooling = "gap"\n'
        "[descriptors]\nsize = 64\n"
    )
    assert rebuild_index(index, model=tmp_path / "other.toml", workers=1).finished
    again = writer.post("/api/search", files={"photo": ("q", new[0])}).json()  # by the new model
    assert again["answers"][0]["id"] in done["added"]
    index.rename(index.with_name("MOVED"))  # uploads lie in the index, wherever that lies
    (tmp_path / "q.png").write_bytes(new[0])
    best = search_index(index.with_name("MOVED"), [tmp_path / "q.png"], k=1)[0].answers[0]
    assert Path(best["path"]).is_file() and "MOVED" in best["path"]


def test_what_a_photo_says_of_itself_is_not_kept_nor_shown(writer, index, drawn):
    sent = with_facts(drawn(51))
    assert b"secret" in sent and b"Exif" in sent
    (photo,) = send(writer, sent).json()["added"]
    record = writer.get("/api/photo", params={"id": photo}).json()
    assert (record["taken"], record["latitude"]) == ("2019-07-14T12:00:05.000", None)
    stored = [file.read_bytes() for file in (index / "uploads").rglob("*.jpg")]
    shown = [writer.get(f"/api/{kind}", params={"id": photo}).content for kind in ("thumbnail", "image")]
    for data in (*stored, *shown):
        assert data.startswith(b"\xff\xd8") and b"Exif" not in data and b"secret" not in data
    (other,) = send(writer, with_facts(drawn(52)), position="true").json()["added"]
    record = writer.get("/api/photo", params={"id": other}).json()
    assert record["latitude"] == pytest.approx(48.8583, abs=1e-3) and record["place"] == "photo"


def test_one_that_cannot_be_read_costs_the_others_nothing(writer, index, drawn, encoded):
    good = encoded(drawn(53))
    done = send(writer, b"no photo", good, good[:200]).json()
    assert len(done["added"]) == 1
    assert [each["name"] for each in done["unreadable"]] == ["1", "3"]
    assert send(writer, b"no photo").json()["added"] == []
    assert len(list((index / "uploads").rglob("*.jpg"))) == 1


def test_a_photo_that_is_removed_is_gone_and_so_is_its_upload(writer, index, drawn, encoded):
    (photo,) = send(writer, encoded(drawn(54))).json()["added"]
    for each in (photo, "rome/0.png"):
        assert writer.delete("/api/photo", params={"id": each}).json() == {"photos": 1}
        assert writer.get("/api/photo", params={"id": each}).status_code == 404
        assert writer.delete("/api/photo", params={"id": each}).status_code == 404
    assert not list((index / "uploads").rglob("*.jpg"))
    found = writer.post("/api/search", params={"k": 100}, files={"photo": ("q", encoded(drawn(54)))}).json()
    assert not {photo, "rome/0.png"} & {answer["id"] for answer in found["answers"]}


def test_a_label_votes_in_the_next_answer(writer, drawn, encoded):
    query = encoded(drawn(10, noise=3))
    assert not verdict(writer, query)["known"]
    assert writer.patch("/api/photo?id=10.png", json={"landmark_name": " The  Mill "}).json() == {
        "landmark": 3
    }
    best = verdict(writer, query)["votes"]
    assert "The Mill" in [vote["name"] for vote in best]
    assert landmarks(writer)["The Mill"] == (3, 1)
    assert writer.patch("/api/photo?id=11.png", json={"landmark_name": "The Mill"}).json() == {"landmark": 3}
    assert writer.patch("/api/photo?id=11.png", json={"landmark": None}).json() == {"landmark": None}
    assert writer.patch("/api/photo?id=10.png", json={"landmark": None}).json() == {"landmark": None}
    assert "The Mill" not in landmarks(writer)
    assert "The Mill" not in [vote["name"] for vote in verdict(writer, query)["votes"]]


def test_landmarks_are_named_merged_and_split(writer, drawn, encoded):
    numbers = {name: number for name, (number, _) in landmarks(writer).items()}
    rome, oslo = numbers["rome"], numbers["oslo"]
    assert writer.patch(f"/api/landmark?landmark={rome}", json={"name": "Roma"}).status_code == 200
    assert verdict(writer, encoded(drawn(0, noise=5)))["name"] == "Roma"
    taken = writer.patch(f"/api/landmark?landmark={rome}", json={"name": "oslo"})
    assert taken.status_code == 400 and "merge the two" in taken.json()["error"]
    merged = writer.post("/api/landmarks/merge", json={"into": rome, "from": [oslo]})
    assert merged.json() == {"photos": 8}
    assert landmarks(writer)["Roma"] == (rome, 16) and "oslo" not in landmarks(writer)
    assert verdict(writer, encoded(drawn(1, noise=5)))["name"] == "Roma"
    some = [f"oslo/{n}.png" for n in range(8)]
    number = writer.post("/api/landmarks/split", json={"photos": some, "name": "Oslo"}).json()["landmark"]
    assert landmarks(writer)["Oslo"] == (number, 8)
    assert verdict(writer, encoded(drawn(1, noise=5)))["name"] == "Oslo"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("patch", "/api/photo?id=absent", {"landmark": 1}, 404),
        ("patch", "/api/photo?id=rome/0.png", {"landmark": 99}, 404),
        ("patch", "/api/photo?id=rome/0.png", {}, 400),
        ("patch", "/api/photo?id=rome/0.png", {"landmark": 1, "landmark_name": "x"}, 400),
        ("patch", "/api/photo?id=rome/0.png", {"landmark_name": "  "}, 400),
        ("patch", "/api/photo?id=rome/0.png", {"landmark_name": "a\u0000b"}, 400),
        ("patch", "/api/photo?id=rome/0.png", {"landmark_name": "a\u202eb"}, 400),
        ("patch", "/api/photo?id=rome/0.png", {"landmark_name": "x" * 201}, 422),
        ("patch", "/api/photo?id=rome/0.png", {"landmark": True}, 422),
        ("patch", "/api/photo?id=rome/0.png", {"landmark": 2**70}, 422),
        ("patch", "/api/photo?id=rome/0.png", {"country": "FR"}, 422),
        ("patch", "/api/landmark?landmark=99", {"name": "x"}, 404),
        ("post", "/api/landmarks/merge", {"into": 1, "from": [1]}, 400),
        ("post", "/api/landmarks/merge", {"into": 1, "from": []}, 422),
        ("post", "/api/landmarks/merge", {"into": 1, "from": [77]}, 404),
        ("post", "/api/landmarks/split", {"photos": ["absent"], "name": "x"}, 404),
        ("post", "/api/landmarks/split", {"photos": ["rome/0.png"], "name": "oslo"}, 400),
    ],
)
def test_a_wrong_change_changes_nothing(writer, index, method, path, body, status):
    with open_index(index) as opened:
        before = opened.generation
        answer = writer.request(method, path, json=body)
        assert answer.status_code == status, answer.text
        assert set(answer.json()) == {"error"} and str(index) not in answer.text
        assert opened.generation == before


def test_a_change_waits_for_another_writer_and_says_when_that_takes_too_long(writer, index, monkeypatch):
    monkeypatch.setattr("landseer.pipeline.online.online._WRITE_TRIES", 3)
    with open_index(index, write=True):
        answer = writer.patch("/api/photo?id=rome/0.png", json={"landmark": None})
    assert answer.status_code == 409 and "try again" in answer.json()["error"]
    assert writer.patch("/api/photo?id=rome/0.png", json={"landmark": None}).status_code == 200


def test_changes_by_others_are_seen(client_on, index, drawn, encoded):
    with client_on(index) as client:
        query = encoded(drawn(0, noise=3))
        assert verdict(client, query)["name"] == "rome"
        with open_index(index, write=True) as opened:
            opened.update({f"rome/{n}.png": {"landmark_name": "Rom"} for n in range(8)})
        assert verdict(client, query)["name"] == "Rom"
