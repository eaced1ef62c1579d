"""Who may ask: host, origin, key; and what every answer carries."""

import asyncio
import base64
import hmac

import pytest

from ferkit.errors import UsageError
from ferkit.serve import guard
from ferkit.serve.settings import Settings
from web import client_of, picture

KEY = "long-and-secret"
OTHER = "https://evil.example"
ALL = "0.0.0.0"  # noqa: S104 - nothing listens there


def ask(method, path, settings=None, **request):
    async def go():
        async with client_of(settings) as client:
            return await client.request(method, path, **request)

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("settings", "host", "status"),
    [
        pytest.param({}, "127.0.0.1:8000", 200, id="address"),
        pytest.param({}, "localhost:8000", 200, id="localhost"),
        pytest.param({}, "[::1]:8000", 200, id="ipv6"),
        pytest.param({}, "LOCALHOST", 200, id="capitals"),
        pytest.param({}, "evil.example:8000", 403, id="rebinding"),
        pytest.param({}, "localhost.evil.example", 403, id="looks-alike"),
        pytest.param({}, "[::1", 403, id="no-host"),
        pytest.param({}, "evil.example@localhost", 403, id="with-a-user"),
        pytest.param({}, "localhost/evil.example", 403, id="with-a-path"),
        pytest.param({"host": "127.0.0.5"}, "127.0.0.5:8000", 200, id="another-loopback"),
        pytest.param({"allow_hosts": ("faces.local",)}, "faces.local:80", 200, id="allowed"),
        pytest.param({"host": ALL}, "anything.example", 200, id="open-to-all"),
        pytest.param({"host": ALL, "allow_hosts": ("faces.example",)}, "evil.example", 403, id="open-by-name"),
        pytest.param({"host": ALL, "allow_hosts": ("faces.example",)}, "faces.example", 200, id="by-its-name"),
    ],
)
def test_the_name_by_which_the_server_is_called(settings, host, status):
    response = ask("GET", "/healthz", Settings(**settings), headers={"host": host})
    assert response.status_code == status
    if status == 403:
        assert response.json()["error"]["code"] == "wrong_host"


@pytest.mark.parametrize(
    ("origin", "allowed", "status"),
    [
        pytest.param(None, (), 200, id="no-browser"),
        pytest.param("http://127.0.0.1:8000", (), 200, id="own-page"),
        pytest.param("https://127.0.0.1:8000", (), 200, id="own-page-behind-tls"),
        pytest.param("http://127.0.0.1:9000", (), 403, id="another-port"),
        pytest.param(OTHER, (), 403, id="another-page"),
        pytest.param("null", (), 403, id="a-file"),
        pytest.param("http://[", (), 403, id="no-address"),
        pytest.param(OTHER, (OTHER,), 200, id="allowed"),
        pytest.param(OTHER, ("https://other.example",), 403, id="another-is-allowed"),
        pytest.param(OTHER, ("*",), 200, id="all-allowed"),
    ],
)
def test_the_page_that_asks(origin, allowed, status):
    headers = {"origin": origin} if origin else {}
    files = {"a": ("a.jpg", picture())}
    response = ask("POST", "/v1/predict", Settings(allow_origins=allowed), headers=headers, files=files)
    assert response.status_code == status
    may_read = response.headers.get("access-control-allow-origin")
    assert may_read == (
        (origin if allowed != ("*",) else "*") if origin and origin in (*allowed, OTHER) and status == 200 else None
    )


@pytest.mark.parametrize(("allowed", "status"), [((), 405), ((OTHER,), 200), (("https://other.example",), 400)])
def test_preflights(allowed, status):
    headers = {"origin": OTHER, "access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
    assert ask("OPTIONS", "/v1/predict", Settings(allow_origins=allowed), headers=headers).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 401, id="none"),
        pytest.param({"x-api-key": KEY}, 200, id="x-api-key"),
        pytest.param({"authorization": f"Bearer {KEY}"}, 200, id="bearer"),
        pytest.param({"authorization": f"bearer  {KEY}"}, 200, id="bearer-loosely"),
        pytest.param({"x-api-key": KEY[:-1]}, 401, id="too-short"),
        pytest.param({"x-api-key": KEY + "x"}, 401, id="too-long"),
        pytest.param({"x-api-key": "\u00e9".encode("latin-1")}, 401, id="not-ascii"),
        pytest.param({"authorization": f"Basic {KEY}"}, 401, id="basic"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/model", "/metrics"])
def test_keys(headers, status, path):
    response = ask("GET", path, Settings(api_key=KEY), headers=headers)
    assert response.status_code == status
    assert KEY not in response.text
    if status == 401:
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json()["error"]["code"] == "wrong_key"


@pytest.mark.parametrize("path", ["/", "/healthz", "/openapi.json", "/static/main.js"])
def test_what_needs_no_key(path):
    assert ask("GET", path, Settings(api_key=KEY)).status_code == 200


def test_keys_are_compared_in_constant_time(monkeypatch):
    compared = []
    monkeypatch.setattr(guard.hmac, "compare_digest", lambda *both: compared.append(both) or True)
    assert ask("GET", "/metrics", Settings(api_key=KEY), headers={"x-api-key": "wrong"}).status_code == 200
    assert compared == [(b"wrong", KEY.encode())]
    assert hmac is guard.hmac


@pytest.mark.parametrize(
    ("subprotocols", "key"),
    [
        pytest.param([], None, id="none"),
        pytest.param(["ferkit.v1", "ferkit.key." + base64.urlsafe_b64encode(KEY.encode()).decode().rstrip("=")], KEY, id="key"),
        pytest.param(["ferkit.key.!!!"], None, id="nonsense"),
        pytest.param(["ferkit.key._w"], None, id="no-text"),
    ],
)  # fmt: skip
def test_keys_in_a_subprotocol(subprotocols, key):
    assert guard.key_of(guard.Headers({}), subprotocols) == key


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/model", "/static/style.css", "/nothing"])
def test_every_answer_says_how_it_may_be_used(path):
    headers = ask("GET", path).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_refusals_carry_the_same_headers():
    assert ask("GET", "/", headers={"host": "evil.example"}).headers["cache-control"] == "no-store"


def test_settings_never_show_the_key():
    assert KEY not in repr(Settings(api_key=KEY))


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"api_key": "two\nlines"}, id="key"),
        pytest.param({"api_key": ""}, id="empty-key"),
        pytest.param({"allow_origins": ("example.org",)}, id="origin-without-scheme"),
        pytest.param({"allow_origins": ("https://example.org/",)}, id="origin-with-path"),
    ],
)
def test_settings_that_make_no_sense(settings):
    with pytest.raises(UsageError):
        Settings(**settings)
