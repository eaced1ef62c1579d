"""Pictures by HTTP: what comes back, and every way of being refused."""

import asyncio
import base64
import json
import logging
import socket
import tempfile
import threading

import httpx
import pytest

from ferkit.errors import FerkitError, UsageError
from ferkit.labels import EMOTION_COLORS
from ferkit.models import sample_picture
from ferkit.models.classifier import EmotionClassifier
from ferkit.recognizer import EmotionRecognizer
from ferkit.serve import answers
from ferkit.serve.app import create_app
from ferkit.serve.guard import RateLimit
from ferkit.serve.requests import RequestError
from ferkit.serve.settings import Limits, Settings
from web import claims, client_of, fast_recognizer, in_the_middle, picture, running

JPEG = {"content-type": "image/jpeg"}
SMALL = Limits(body_bytes=20_000, pixels=100_000, pictures=3)


def ask(method, path, *, settings=None, recognizer=None, **request) -> httpx.Response:
    async def go():
        async with client_of(settings, recognizer) as client:
            return await client.request(method, path, **request)

    return asyncio.run(go())


def code_of(response) -> str:
    assert set(response.json()) == {"error"}
    assert "\n" not in response.json()["error"]["message"]
    return response.json()["error"]["code"]


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


WHITE, BLACK = picture(255), picture(0)


@pytest.mark.parametrize(
    ("request_", "source"),
    [
        pytest.param({"files": {"picture": ("me.jpg", WHITE)}}, "me.jpg", id="multipart"),
        pytest.param({"json": {"pictures": [base64_of(WHITE)]}}, "picture 1", id="base64"),
        pytest.param({"json": {"pictures": [{"name": "me.jpg", "data": base64_of(WHITE)}]}}, "me.jpg", id="named"),
        pytest.param(
            {"json": {"pictures": ["data:image/jpeg;base64," + base64_of(WHITE)]}}, "picture 1", id="data-uri"
        ),
        pytest.param({"content": WHITE, "headers": {"content-type": "image/jpeg"}}, "picture", id="body"),
    ],
)
def test_a_picture_is_answered_as_the_command_line_does(request_, source):
    response = ask("POST", "/v1/predict", **request_)
    assert response.status_code == 200, response.text
    (result,) = response.json()
    (expected,) = fast_recognizer()([WHITE])
    assert result == {**expected.to_dict(), "source": source}
    assert result["faces"][0]["label"] == "neutral"


def test_several_pictures_are_answered_in_order_and_errors_stay_with_their_own():
    files = [
        ("a", ("white.jpg", WHITE)),
        ("b", ("broken.jpg", b"nonsense")),
        ("c", ("black.jpg", BLACK)),
        ("d", ("huge.png", claims(60_000, 60_000))),
        ("e", ("cut.jpg", picture(200, (640, 480))[:400])),
        ("f", ("again.png", picture(255, form="PNG"))),
    ]
    response = ask("POST", "/v1/predict", files=files)
    assert response.status_code == 200, response.text
    results = response.json()
    assert [one["source"] for one in results] == [name for _, (name, _) in files]
    assert [len(one["faces"]) for one in results] == [1, 0, 0, 0, 0, 1]
    errors = [one["error"] for one in results]
    assert [bool(one) for one in errors] == [False, True, False, True, True, False]
    assert "broken.jpg" in errors[1]
    assert "pixels" in errors[3]
    assert "cut.jpg" in errors[4]


def test_the_smile_of_the_sample_is_seen():
    recognizer = EmotionRecognizer(detector="haar")
    (result,) = ask("POST", "/v1/predict", recognizer=recognizer, content=sample_picture().read_bytes(),
                    headers={"content-type": "image/jpeg"}).json()  # fmt: skip
    assert [face["label"] for face in result["faces"]] == ["happy"]


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        pytest.param({"content": b"x" * 20_001, "headers": {"content-type": "image/jpeg"}}, 413, "body_too_large", id="long"),
        pytest.param({"files": {"a": ("a.jpg", b"x" * 20_001)}}, 413, "body_too_large", id="long-form"),
        pytest.param({"files": {"a": ("a.png", claims(1000, 101))}}, 413, "picture_too_large", id="many-pixels"),
        pytest.param({"files": {"a": ("a.png", claims(60_000, 60_000))}}, 413, "picture_too_large", id="bomb"),
        pytest.param({"files": [("a", (f"{n}.jpg", WHITE)) for n in range(4)]}, 413, "too_many_pictures", id="many"),
        pytest.param({"json": {"pictures": [base64_of(WHITE)] * 4}}, 413, "too_many_pictures", id="many-in-json"),
        pytest.param({"content": WHITE}, 415, "wrong_type", id="no-type"),
        pytest.param({"content": WHITE, "headers": {"content-type": "text/plain"}}, 415, "wrong_type", id="text"),
        pytest.param({"files": {"a": ("a.jpg", b"nonsense")}}, 422, "bad_picture", id="nonsense"),
        pytest.param({"files": {"a": ("a.jpg", WHITE[:200])}}, 422, "bad_picture", id="cut-off"),
        pytest.param({"files": {"a": ("a.jpg", b"")}}, 422, "bad_picture", id="empty-file"),
        pytest.param({"json": {"pictures": ["https://example.org/me.jpg"]}}, 422, "bad_picture", id="address"),
        pytest.param({"json": {"pictures": ["/etc/passwd"]}}, 422, "bad_picture", id="path"),
        pytest.param({"json": {"pictures": []}}, 422, "no_pictures", id="none"),
        pytest.param({"json": {"pictures": [{"name": "a"}]}}, 422, "no_pictures", id="no-data"),
        pytest.param({"json": [1]}, 422, "no_pictures", id="a-list"),
        pytest.param({"content": b"", "headers": {"content-type": "image/png"}}, 422, "no_pictures", id="empty-body"),
        pytest.param({"data": {"url": "https://example.org"}, "files": {}}, 415, "wrong_type", id="url-form"),
        pytest.param({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "bad_body", id="bad-json"),
        pytest.param({"content": b"[" * 9_999, "headers": {"content-type": "application/json"}}, 400, "bad_body", id="deep-json"),
        pytest.param({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "bad_body", id="no-boundary"),
        pytest.param(
            {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=y"}}, 400, "bad_body", id="no-form"
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_says_why(request_, status, code):
    response = ask("POST", "/v1/predict", settings=Settings(limits=SMALL), **request_)
    assert (response.status_code, code_of(response)) == (status, code)


@pytest.mark.parametrize("length", [pytest.param(True, id="announced"), pytest.param(False, id="in-pieces")])
def test_a_long_body_is_refused_over_a_real_connection_and_the_server_goes_on(length):
    body = b"x" * 3_000_000
    pieces = body if length else (body[at : at + 65_536] for at in range(0, len(body), 65_536))
    with running(Settings(limits=SMALL)) as server, httpx.Client(base_url=server.address) as client:
        refused = client.post("v1/predict", content=pieces, headers={"content-type": "image/jpeg"})
        assert (refused.status_code, code_of(refused)) == (413, "body_too_large")
        assert client.post("v1/predict", files={"a": WHITE}).status_code == 200


def test_a_body_that_claims_to_be_endless_is_refused_before_it_comes():
    with running() as server, socket.create_connection(server.listening.getsockname(), timeout=10) as raw:
        raw.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
                    b"Content-Length: 10000000000\r\n\r\n")  # fmt: skip
        assert b" 413 " in raw.recv(4096)


def test_a_body_that_does_not_come_is_given_up():
    async def go():
        async def slowly():
            yield WHITE[:10]
            await asyncio.Event().wait()

        async with client_of(Settings(limits=Limits(upload_s=0.05))) as client:
            return await client.post("/v1/predict", content=slowly(), headers={"content-type": "image/jpeg"})

    response = asyncio.run(go())
    assert (response.status_code, code_of(response)) == (408, "too_slow")


def test_a_full_queue_is_refused_and_empties_again():
    entered, leave = threading.Semaphore(0), threading.Event()

    def slow(image):
        entered.release()
        assert leave.wait(10)
        return []

    async def go():
        recognizer = EmotionRecognizer(fast_recognizer().classifier, detector=slow, threads=1)
        async with client_of(Settings(limits=Limits(queue=0)), recognizer) as client:
            places = client._transport.app.state.workers.slots
            waiting = [asyncio.create_task(client.post("/v1/predict", files={"a": WHITE})) for _ in range(places)]
            await asyncio.to_thread(entered.acquire)
            refused = await client.post("/v1/predict", files={"a": WHITE})
            alive = await client.get("/healthz")
            leave.set()
            answered = await asyncio.gather(*waiting)
            later = await client.post("/v1/predict", files={"a": WHITE})
            return refused, alive, answered, later

    refused, alive, answered, later = asyncio.run(go())
    assert (refused.status_code, code_of(refused), refused.headers["retry-after"]) == (503, "busy", "1")
    assert alive.status_code == 200
    assert {one.status_code for one in [*answered, later]} == {200}


def test_too_many_requests_are_told_when_to_come_back():
    async def go():
        async with client_of(Settings(limits=Limits(rate=1))) as client:
            return [await client.get("/v1/model") for _ in range(3)] + [await client.get("/healthz")]

    *first, third, health = asyncio.run(go())
    assert [one.status_code for one in first] == [200, 200]
    assert (third.status_code, code_of(third)) == (429, "too_many_requests")
    assert 1 <= int(third.headers["retry-after"]) <= 2
    assert health.status_code == 200


def test_rates_are_counted_by_client_and_refill():
    now = [0.0]
    limit = RateLimit(2, clock=lambda: now[0])
    for _ in range(4):
        limit.check("10.0.0.1")
    with pytest.raises(RequestError, match="at most 2 per second"):
        limit.check("10.0.0.1")
    limit.check("10.0.0.2")
    now[0] = 0.5
    limit.check("10.0.0.1")
    for n in range(4):
        limit.check(f"2001:db8::{n}")
    with pytest.raises(RequestError):
        limit.check("2001:db8::ffff")
    limit.check("2001:db8:0:1::1")
    for n in range(10_000):
        limit.check(f"client {n}")
    assert len(limit._buckets) < 5000


def test_the_model_its_card_and_the_colours():
    recognizer = EmotionRecognizer(detector="haar")
    model = ask("GET", "/v1/model", recognizer=recognizer).json()
    assert model["colors"] == EMOTION_COLORS
    assert model["classes"] == list(EMOTION_COLORS)
    assert model["detector"] == "haar"
    assert model["card"] == EmotionClassifier.load().card
    assert "## Intended and prohibited use" in model["markdown"]
    assert "not what a person feels" in model["notice"]


def test_a_model_without_a_card_is_described():
    model = ask("GET", "/v1/model").json()
    assert model["name"] == "brightness"
    assert model["markdown"]


def test_metrics_are_counted_for_each_application_alone():
    async def go():
        async with client_of() as client:
            await client.post("/v1/predict", files={"a": WHITE})
            await client.post("/v1/predict", files={"a": b"nonsense"})
            return (await client.get("/metrics")).text

    text = asyncio.run(go())
    assert asyncio.run(go()) is not text
    for line in (
        'ferkit_requests_total{route="/v1/predict",status="200"} 1.0',
        'ferkit_requests_total{route="/v1/predict",status="422"} 1.0',
        'ferkit_refusals_total{code="bad_picture"} 1.0',
        "ferkit_faces_total 1.0",
        "ferkit_request_seconds_count 1.0",
        'ferkit_frames_total{outcome="dropped"} 0.0',
    ):
        assert line in text.splitlines()


def test_openapi_knows_the_routes_and_their_refusals():
    schema = ask("GET", "/openapi.json").json()
    assert set(schema["paths"]) == {"/v1/predict", "/v1/explain", "/v1/model", "/healthz", "/metrics"}
    predict = schema["paths"]["/v1/predict"]["post"]
    assert set(predict["responses"]) == {"200", "400", "401", "403", "408", "413", "415", "422", "429", "503"}
    assert set(predict["requestBody"]["content"]) == {"multipart/form-data", "application/json", "image/*"}


def test_openapi_has_an_example_of_every_answer_and_every_json_body():
    """Each validates: those of errors as an error, those of answers as the model that the server answers with."""
    schema = ask("GET", "/openapi.json").json()
    for methods in schema["paths"].values():
        for route in methods.values():
            for status, response in route["responses"].items():
                if status != "200":
                    example = response["content"]["application/json"]["example"]
                    answers.ProblemAnswer.model_validate(example, strict=True)
                    assert status not in ("429", "503") or "Retry-After" in response["headers"]
    for model in (answers.PictureAnswer, answers.ExplanationAnswer, answers.ModelAnswer, answers.Health):
        (example,) = schema["components"]["schemas"][model.__name__]["examples"]
        # FastAPI leaves null out of examples.
        example = {**({"error": None} if model is answers.PictureAnswer else {}), **example}
        if "faces" in example:
            example["faces"] = [{**dict.fromkeys(answers.FaceAnswer.model_fields), **one} for one in example["faces"]]
        model.model_validate_json(json.dumps(example), strict=True)
        assert set(example) == set(model.model_fields)
    body = schema["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert ask("POST", "/v1/predict", json=body).status_code == 200


@pytest.mark.parametrize("key", [None, "secret"])
def test_openapi_says_how_a_key_is_sent_where_there_is_one(key):
    schema = create_app(fast_recognizer(), Settings(api_key=key)).openapi()
    ways = schema["components"].get("securitySchemes", {})
    assert {(one["type"], one.get("name", one.get("scheme"))) for one in ways.values()} == (
        {("apiKey", "X-API-Key"), ("http", "bearer")} if key else set()
    )
    assert ("security" in schema["paths"]["/v1/predict"]["post"]) == bool(key)
    assert "security" not in schema["paths"]["/healthz"]["get"]


def test_no_picture_touches_the_disk_or_the_log(monkeypatch, caplog):
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", lambda self: pytest.fail("a temporary file"))
    data = picture(255, (1800, 1800), "BMP")  # 9 MB: Starlette would spool it
    with caplog.at_level(logging.DEBUG, "ferkit"):
        assert ask("POST", "/v1/predict", files={"a": ("secret-name.bmp", data)}).status_code == 200
        assert ask("POST", "/v1/predict", files={"a": ("secret-name.bmp", data[:9])}).status_code == 422
    assert "secret-name" not in caplog.text


def test_an_unforeseen_error_gives_no_insight():
    def broken(image):
        raise RuntimeError("secret")

    recognizer = EmotionRecognizer(fast_recognizer().classifier, detector=broken, threads=1)
    response = ask("POST", "/v1/predict", recognizer=recognizer, files={"a": WHITE})
    assert (response.status_code, code_of(response)) == (500, "internal")
    assert "secret" not in response.text


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        pytest.param("/nothing", 404, "not_found", id="unknown"),
        pytest.param("/static/../app.py", 404, "not_found", id="climbing"),
        pytest.param("/static/%2e%2e/app.py", 404, "not_found", id="climbing-in-disguise"),
        pytest.param("/v1/predict", 405, "method_not_allowed", id="method"),
    ],
)
def test_other_paths_are_refused_in_the_same_words(path, status, code):
    response = ask("GET", path)
    assert (response.status_code, code_of(response)) == (status, code)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"body_bytes": 0}, id="zero"),
        pytest.param({"rate": -1}, id="negative"),
        pytest.param({"idle_s": float("nan")}, id="nan"),
    ],
)
def test_limits_that_make_no_sense(values):
    with pytest.raises(UsageError, match=next(iter(values))):
        Limits(**values)


def test_a_port_that_is_taken_is_one_clear_line():
    from ferkit.serve.server import listen

    with running() as server:
        port = server.listening.getsockname()[1]
        with pytest.raises(FerkitError, match=f"Cannot listen on 127.0.0.1, port {port}: .* Choose another --port"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["256.1.1.1", "192.0.2.7", "a..b"])
def test_a_host_that_is_not_this_machine_is_blamed_itself(host):
    """192.0.2.0/24 is for documentation: no machine has such an address."""
    from ferkit.serve.server import listen

    with pytest.raises(FerkitError, match=rf"Cannot listen on {host}, port 0: .*\. Choose another --host"):
        listen(host, 0)


def test_answers_leave_at_once():
    """asyncio switches Nagle's algorithm off only for sockets that say they are TCP."""
    with running() as server:
        assert server.listening.proto == socket.IPPROTO_TCP


def test_results_are_json_a_browser_can_read():
    response = ask("POST", "/v1/predict", files={"a": WHITE})
    assert response.headers["content-type"] == "application/json"
    assert json.loads(response.text)


def test_a_request_has_the_sensitivity_that_it_asks_for():
    recognizer = EmotionRecognizer(detector=in_the_middle)
    face = sample_picture().read_bytes()

    def probabilities(**params):
        response = ask("POST", "/v1/predict", recognizer=recognizer, content=face, params=params, headers=JPEG)
        return response.json()[0]["faces"][0]["probabilities"]

    as_served = recognizer.classifier.sensitivity
    assert probabilities() == probabilities(sensitivity=as_served)
    assert (
        probabilities(sensitivity=1)["disgust"] > probabilities()["disgust"] > probabilities(sensitivity=0)["disgust"]
    )
    explained = ask(
        "POST", "/v1/explain", recognizer=recognizer, content=face, params={"sensitivity": 1, "face": 1}, headers=JPEG
    ).json()["faces"][0]
    assert explained["probabilities"] == pytest.approx(probabilities(sensitivity=1))
    assert ask("GET", "/v1/model", recognizer=recognizer).json()["sensitivity"] == as_served


@pytest.mark.parametrize(
    ("sensitivity", "said"), [("2", "less than or equal to 1"), ("nan", "finite"), ("0.5", "no sensitivity")]
)
def test_a_sensitivity_that_cannot_be_is_refused(sensitivity, said):
    response = ask("POST", "/v1/predict", content=WHITE, params={"sensitivity": sensitivity}, headers=JPEG)
    assert response.status_code == 422
    assert code_of(response) == "bad_parameter"
    assert said in response.json()["error"]["message"]
