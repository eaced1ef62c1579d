"""`POST /v1/explain`: what comes back, what is refused, and that live frames do not wait for it."""

import asyncio
import json
import threading

import httpx
import numpy as np
import pytest
import websockets
from test_explain import EyeClassifier
from test_web_stream import Follower

from ferkit._support.parallel import usable_cores
from ferkit.evaluation import Occlusion, explain
from ferkit.recognizer import EmotionRecognizer
from ferkit.serve.settings import Limits, Settings
from ferkit.sources.images import read_image
from recognition import face_at
from web import claims, client_of, picture, running

WHITE, BLACK = picture(255, (200, 100)), picture(0, (200, 100))
PLACES = [face_at(0, 0, 60, 60), face_at(40, 0, 100, 60), face_at(130, 20, 190, 80)]


def recognizer(classifier=None) -> EmotionRecognizer:
    """Finds three faces, of which two overlap, in everything but the dark."""
    find = lambda image: PLACES if image.max() > 40 else []  # noqa: E731
    return EmotionRecognizer(classifier or EyeClassifier(), detector=find, threads=1)


def ask(query="", settings=None, data=WHITE, **request) -> httpx.Response:
    async def go():
        async with client_of(settings, recognizer()) as client:
            request.setdefault("files", {"picture": ("me.jpg", data)})
            return await client.post(f"/v1/explain{query}", **request)

    return asyncio.run(go())


def test_a_face_is_explained_as_the_command_line_does():
    response = ask()
    assert response.status_code == 200, response.text
    answer = response.json()
    assert {name: answer[name] for name in ("source", "width", "height", "method")} == {
        "source": "me.jpg", "width": 200, "height": 100, "method": "occlusion",
    }  # fmt: skip
    expected = explain(EyeClassifier(), read_image(WHITE), faces=PLACES, method=Occlusion(EyeClassifier()))
    assert answer["faces"] == [one.to_dict() for one in expected]
    assert len(answer["ramp"]) > 10


@pytest.mark.parametrize(
    ("query", "places"),
    [
        pytest.param("?face=2", [1], id="by-number"),
        pytest.param("?x=150&y=50", [2], id="by-place"),
        pytest.param("?x=55&y=30", [1], id="by-place-where-two-overlap"),
        pytest.param("?x=45.5&y=30", [0], id="the-nearer-one"),
    ],
)
def test_faces_are_chosen(query, places):
    found = ask(query).json()["faces"]
    assert [one["box"] for one in found] == [PLACES[place].box.to_list() for place in places]


def test_another_label_is_explained():
    (one,) = ask("?face=1&label=sadness").json()["faces"]
    assert (one["label"], one["explained"]) == ("happy", "sad")


@pytest.mark.parametrize(
    ("query", "request_", "status", "code"),
    [
        pytest.param("?method=magic", {}, 422, "bad_parameter", id="unknown-method"),
        pytest.param("?method=grad-cam", {}, 422, "bad_parameter", id="method-not-here"),
        pytest.param("?label=bored", {}, 422, "bad_parameter", id="label"),
        pytest.param("?face=0", {}, 422, "bad_parameter", id="face-0"),
        pytest.param("?face=one", {}, 422, "bad_parameter", id="face-in-words"),
        pytest.param("?x=1", {}, 422, "bad_parameter", id="half-a-place"),
        pytest.param("?face=4", {}, 422, "no_face", id="face-4"),
        pytest.param("?x=nan&y=inf", {}, 422, "no_face", id="nowhere"),
        pytest.param("", {"data": BLACK}, 422, "no_face", id="no-face"),
        pytest.param("", {"data": b"nonsense"}, 422, "bad_picture", id="nonsense"),
        pytest.param("", {"data": WHITE[:200]}, 422, "bad_picture", id="cut-off"),
        pytest.param("", {"data": claims(60_000, 60_000)}, 413, "picture_too_large", id="bomb"),
        pytest.param("", {"files": [("a", WHITE), ("b", WHITE)]}, 413, "too_many_pictures", id="two-pictures"),
        pytest.param("", {"settings": Settings(limits=Limits(explained=2))}, 413, "too_many_faces", id="many-faces"),
        pytest.param("", {"files": None, "content": b"x"}, 415, "wrong_type", id="no-type"),
    ],
)  # fmt: skip
def test_what_cannot_be_explained_says_why(query, request_, status, code):
    response = ask(query, **request_)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code), response.text
    assert set(response.json()) == {"error"}
    assert "\n" not in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("query", "request_", "said"),
    [
        pytest.param(
            "?face=9", {}, "face must be 1 to 3, the number of faces in this image. Received: 9.", id="number"
        ),
        pytest.param("?face=9", {"data": BLACK}, "No face was found in this image.", id="no-face"),
        pytest.param("?x=1&y=99", {}, "No face was found there.", id="place"),
    ],
)
def test_a_face_that_is_not_there(query, request_, said):
    assert ask(query, **request_).json()["error"] == {"code": "no_face", "message": said}


def test_explanations_and_refusals_are_counted():
    async def go():
        async with client_of(None, recognizer()) as client:
            for query in ("", "?face=1", "?face=0", "?label=bored"):
                await client.post(f"/v1/explain{query}", files={"a": WHITE})
            return (await client.get("/metrics")).text, (await client.get("/v1/model")).json()

    text, model = asyncio.run(go())
    for line in (
        'ferkit_explanations_total{method="occlusion"} 4.0',
        "ferkit_explain_seconds_count 2.0",
        'ferkit_refusals_total{code="bad_parameter"} 2.0',
        'ferkit_requests_total{route="/v1/explain",status="200"} 2.0',
    ):
        assert line in text.splitlines()
    assert model["explanations"] == ["occlusion"]


def test_the_packaged_model_offers_both_methods_and_takes_occlusion():
    pytest.importorskip("keras")

    async def go():
        async with client_of(None, EmotionRecognizer(detector="haar")) as client:
            return (await client.get("/v1/model")).json()

    assert asyncio.run(go())["explanations"] == ["occlusion", "grad-cam"]


def test_live_frames_do_not_wait_for_an_explanation():
    entered, leave = threading.Semaphore(0), threading.Event()

    class Slow(EyeClassifier):
        def predict_proba(self, faces):
            if len(faces) > len(PLACES):  # patches
                entered.release()
                assert leave.wait(20)
            return super().predict_proba(faces)

    async def go(server):
        async with httpx.AsyncClient(base_url=server.address, timeout=30) as client:
            asked = [client.post("v1/explain?face=1", files={"a": WHITE}) for _ in range(usable_cores())]
            waiting = asyncio.gather(*asked)
            for _ in asked:  # all threads that there are for pictures
                assert await asyncio.to_thread(entered.acquire, timeout=10)
            url = server.address.replace("http", "ws") + "v1/stream"
            async with websockets.connect(url, proxy=None) as stream:
                await stream.recv()
                await stream.send(WHITE)
                answer = json.loads(await asyncio.wait_for(stream.recv(), 10))
            pending = not waiting.done()
            leave.set()
            return answer, pending, await waiting

    with running(recognizer=recognizer(Slow()), follower=lambda recognizer: Follower()) as server:
        answer, pending, explained = asyncio.run(go(server))
    assert (answer["type"], pending, {one.status_code for one in explained}) == ("faces", True, {200})
    assert np.array(explained[0].json()["faces"][0]["heatmap"]).shape == (48, 48)
