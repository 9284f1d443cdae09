"""What a server answers is what the pipeline answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from urllib.parse import quote

import pytest
from PIL import Image

from landseer.pipeline import search_index
from landseer.pipeline.online import Online, Query, Unknown


def ask(client, data, name="photo.png", **parameters):
    found = client.post("/api/search", params=parameters, files={"photo": (name, data)})
    assert found.status_code == 200, found.text
    return found.json()


def told(found):
    return [(answer["id"], answer["landmark"], answer["landmark_name"]) for answer in found["answers"]]


def piped(index, photo, **more):
    answers = search_index(index, [photo], **more)[0].answers
    return [(each["id"], each["landmark"], each.get("landmark_name")) for each in answers], [
        each["score"] for each in answers
    ]


@pytest.mark.parametrize("where", [None, "landmark_name = 'rome'", "landmark is null", "landmark = 99"])
@pytest.mark.parametrize("rerank", [False, True])
def test_an_uploaded_photo_is_answered_as_by_the_command_line(client, built, photo_file, where, rerank):
    more = {} if where is None else {"filter": where}
    found = ask(client, photo_file.read_bytes(), k=6, rerank=rerank, **more)
    expected, scores = piped(built, photo_file, k=6, where=where, rerank=rerank)
    assert told(found) == expected
    assert [answer["score"] for answer in found["answers"]] == pytest.approx(scores, abs=2e-6)
    assert [answer["rank"] for answer in found["answers"]] == list(range(1, len(expected) + 1))
    assert found["query"]["width"] == found["query"]["height"] == 48
    assert found["seconds"]["total"] >= found["seconds"]["model"] > 0


def test_a_crop_is_answered_as_the_cropped_photo(client, built, drawn, encoded, tmp_path):
    whole = drawn(20, size=60)
    part = whole.crop((6, 12, 48, 60))
    part.save(tmp_path / "part.png")
    found = ask(client, encoded(whole), k=5, crop="0.1,0.2,0.8,1")
    expected, scores = piped(built, tmp_path / "part.png", k=5)
    assert told(found) == expected
    assert [answer["score"] for answer in found["answers"]] == pytest.approx(scores, abs=2e-6)
    assert found["query"]["crop"] == [0.1, 0.2, 0.8, 1]
    whole_answer = ask(client, encoded(whole), k=5)
    assert [a["score"] for a in whole_answer["answers"]] != pytest.approx(scores, abs=1e-5)


def test_a_turned_photo_is_cropped_as_it_is_seen(client, drawn, encoded):
    upright = drawn(21)
    stored = upright.transpose(Image.Transpose.ROTATE_90)  # orientation 6 turns it back
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(stored, "PNG", exif=exif)
    for crop in ({}, {"crop": "0,0,0.5,0.25"}):
        one, other = (ask(client, data, k=4, **crop) for data in (encoded(upright), turned))
        assert told(one) == told(other)


def test_a_photo_of_the_index_is_no_answer_to_itself_and_does_not_vote(client, built, photos):
    found = client.get("/api/similar", params={"id": "rome/0.png", "k": 5}).json()
    expected, scores = piped(built, photos / "rome/0.png", k=6)
    assert expected[0][0] == "rome/0.png"
    assert told(found) == expected[1:]
    assert [answer["score"] for answer in found["answers"]] == pytest.approx(scores[1:], abs=2e-6)
    voters = [photo for vote in found["recognition"]["votes"] for photo in vote["photos"]]
    assert len(voters) == 2 and "rome/0.png" not in voters
    part = client.get("/api/similar", params={"id": "rome/0.png", "k": 12, "crop": "0,0,0.6,0.6"}).json()
    assert "rome/0.png" not in [answer["id"] for answer in part["answers"]]
    assert (part["query"]["id"], part["query"]["width"]) == ("rome/0.png", 48)


def test_votes_are_the_nearest_labelled_photos_whatever_the_filter(client, drawn, encoded):
    query = encoded(drawn(0, noise=9))
    for more in ({}, {"filter": "landmark is null"}, {"filter": "landmark_name = 'oslo'"}, {"rerank": True}):
        verdict = ask(client, query, k=3, **more)["recognition"]
        assert verdict["known"] and verdict["name"] == "rome"
        assert {photo for vote in verdict["votes"] for photo in vote["photos"]} <= {
            f"rome/{n}.png" for n in range(8)
        }
        assert sum(vote["share"] for vote in verdict["votes"]) == pytest.approx(1)
        assert verdict["calibrated"] is False


def test_what_no_labelled_photo_is_like_is_not_named(client, encoded):
    grey = Image.new("RGB", (48, 48), (120, 120, 120))
    verdict = ask(client, encoded(grey))["recognition"]
    assert not verdict["known"]
    assert verdict["landmark"] is verdict["name"] is verdict["country"] is None
    assert verdict["votes"]  # who came nearest is told all the same


def test_an_index_without_labels_recognises_nothing(writer, drawn, encoded):
    for place in ("rome", "oslo", "athens"):
        for number in range(8):
            assert (
                writer.patch(f"/api/photo?id={place}/{number}.png", json={"landmark": None}).status_code
                == 200
            )
    assert ask(writer, encoded(drawn(0)))["recognition"] is None


def test_questions_at_once_are_answered_as_one_by_one(client, drawn, encoded, built):
    queries = [encoded(drawn(seed, noise=4)) for seed in (0, 1, 2, 10, 11, 12, 13, 30)] * 3
    alone = [told(ask(client, query, k=4)) for query in queries[:8]] * 3
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda query: told(ask(client, query, k=4)), queries))
    assert together == alone
    with Online(built) as online:
        asked = [Query(photo=online.look(query), k=4) for query in queries]
        asked += [Query(photo="rome/0.png", k=4), Query(photo="absent", k=4), Query(photo="rome/0.png", k=2)]
        replies = online.ask(asked)
    assert isinstance(replies[-2], Unknown)
    assert [[answer.record["id"] for answer in reply.answers] for reply in replies[:24]] == [
        [photo for photo, *_ in each] for each in alone
    ]
    assert [a.record["id"] for a in replies[-3].answers[:2]] == [a.record["id"] for a in replies[-1].answers]


def test_re_ranking_inserts_nothing_that_the_filter_leaves_out(client, drawn, encoded):
    query = encoded(drawn(0, noise=5))
    found = ask(client, query, k=20, rerank=True, filter="landmark is null")
    assert len(found["answers"]) == 4
    assert all(answer["landmark"] is None for answer in found["answers"])


def test_re_ranking_says_why(client, drawn, encoded):
    plain, moved = (ask(client, encoded(drawn(0, noise=7)), k=12, rerank=r) for r in (False, True))
    assert all(answer["why"] is None for answer in plain["answers"])
    assert [a["id"] for a in moved["answers"][:3]] and {
        a["id"].split("/")[0] for a in moved["answers"][:3]
    } == {"rome"}
    ranks = {answer["id"]: answer["rank"] for answer in plain["answers"]}
    for answer in moved["answers"]:
        if ranks[answer["id"]] != answer["rank"]:
            assert answer["why"]
    silent = ask(client, encoded(drawn(0, noise=7)), k=12, rerank=True, explain=False)
    assert all(answer["why"] is None for answer in silent["answers"])


def test_points_in_common_lie_where_the_photos_agree(client, encoded, photos):
    rng_picture = Image.effect_noise((200, 160), 90).convert("RGB").resize((400, 320))
    found = client.post(
        "/api/match", files={"photo": ("x", encoded(rng_picture))}, data={"id": "rome/0.png"}
    ).json()
    assert found == {"inliers": 0, "points": []}
    same = client.post("/api/match", json={"a": "rome/0.png", "b": "rome/0.png"}).json()
    assert same["inliers"] == len(same["points"])
    assert all(x == u and y == v for x, y, u, v in same["points"])


def test_records_pages_and_pictures(client, photos):
    facts = client.get("/api/index").json()
    assert (facts["photos"], facts["labelled"], facts["landmarks"], facts["dated"]) == (28, 24, 3, 0)
    assert facts["reranking"] and not facts["writable"] and not facts["token_needed"]
    assert "root" not in facts["columns"]
    record = client.get("/api/photo", params={"id": "oslo/1.png"}).json()
    assert (record["landmark_name"], record["taken"], record["place"]) == ("oslo", None, None)
    assert str(photos) not in client.get("/api/photos?limit=500").text
    seen, after = [], None
    while True:
        page = client.get(
            "/api/photos", params={"limit": 4, **({} if after is None else {"after": after})}
        ).json()
        seen += [each["id"] for each in page["photos"]]
        after = page["next"]
        if after is None:
            break
    assert sorted(seen) == sorted(p.relative_to(photos).as_posix() for p in photos.rglob("*.png"))
    assert client.get("/api/photos?labelled=false").json()["total"] == 4
    rome = next(e for e in client.get("/api/landmarks?text=ROM").json()["landmarks"])
    assert (rome["name"], rome["photos"]) == ("rome", 8)
    assert client.get(f"/api/photos?landmark={rome['landmark']}").json()["total"] == 8
    picture = client.get("/api/thumbnail", params={"id": "oslo/1.png", "side": 32})
    assert Image.open(BytesIO(picture.content)).size == (32, 32)
    again = client.get(
        "/api/thumbnail?id=oslo/1.png&side=32", headers={"If-None-Match": picture.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


def test_ids_of_any_kind_are_found(writer, photos, drawn, encoded):
    sent = [("photos", ("x", encoded(drawn(40))))]
    photo = writer.post("/api/photos", files=sent).json()["added"][0]
    assert writer.get(f"/api/photo?id={quote(photo, safe='')}").json()["id"] == photo


def test_health_ready_metrics_and_the_page_of_the_calls(client):
    assert client.get("/api/health").json() == {"status": "ok"}
    assert client.get("/api/ready").json() == {"status": "ready", "photos": 28}
    client.get("/api/index")
    numbers = client.get("/metrics").text
    assert 'landseer_requests_total{method="GET",route="/api/index",status="200"}' in numbers
    assert "landseer_index_photos 28.0" in numbers
    page = client.get("/docs")
    assert page.status_code == 200
    for file in ("/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/docs/start.js"):
        assert file in page.text
        assert client.get(file).status_code == 200
    assert "//" not in page.text.replace("<!doctype", "")  # nothing from elsewhere
