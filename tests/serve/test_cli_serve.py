import importlib
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import httpx
import pytest
import websockets.sync.client
from websockets.exceptions import ConnectionClosed

from ferkit.errors import UsageError
from ferkit.models import sample_picture
from ferkit.serve.settings import Limits

command = importlib.import_module("ferkit.cli.serve")  # by this name the package has the function
SERVE = [sys.executable, "-m", "ferkit", "serve", "--port", "0", "--detector", "haar"]


@contextmanager
def started(*arguments, **environment):
    """The command as people run it; yields the process and the first line that it wrote."""
    process = subprocess.Popen(
        [*SERVE, *arguments],
        env={**os.environ, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process, process.stdout.readline()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def close_code(stream) -> int:
    while True:
        try:
            stream.recv(timeout=30)
        except ConnectionClosed as closed:
            return closed.rcvd.code


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_it_says_where_answers_and_ends_well_while_a_frame_streams():
    with started("--json", FERKIT_API_KEY="secret") as (process, line):
        address = json.loads(line)["address"]
        assert httpx.get(address + "healthz").status_code == 200
        picture = sample_picture().read_bytes()
        files = {"picture": ("me.jpg", picture)}
        assert httpx.post(address + "v1/predict", files=files).status_code == 401
        (result,) = httpx.post(address + "v1/predict", files=files, headers={"x-api-key": "secret"}, timeout=60).json()
        assert [face["label"] for face in result["faces"]] == ["happy"]

        url = address.replace("http", "ws") + "v1/stream"
        with websockets.sync.client.connect(url, additional_headers={"x-api-key": "secret"}, proxy=None) as stream:
            assert json.loads(stream.recv())["type"] == "hello"
            stream.send(picture)
            assert json.loads(stream.recv())["type"] == "faces"
            stream.send(picture)
            process.send_signal(signal.SIGTERM)
            assert close_code(stream) == 1001
        rest, errors = process.communicate(timeout=30)
        assert (process.returncode, rest) == (0, "")
        assert "Traceback" not in errors
        assert "secret" not in errors
        assert "me.jpg" not in errors


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_is_how_it_ends():
    with started() as (process, line):
        assert line.startswith("Serving at http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "Ctrl-C" in errors
        assert "Traceback" not in errors


@pytest.fixture
def served(monkeypatch):
    """What would be served, instead of serving it."""
    calls = []
    monkeypatch.setattr(command, "run_server", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(command, "load_recognizer", lambda *arguments: arguments)
    return calls


def run(*arguments):
    from ferkit.cli import app

    return app(["serve", *arguments], standalone_mode=False)


def test_options_reach_the_server(served, monkeypatch, capsys):
    monkeypatch.delenv("FERKIT_API_KEY", raising=False)
    run("--host", "0.0.0.0", "--port", "1234", "--model", "default-int8", "--min-confidence", "0.5",  # noqa: S104
        "--allow-origin", "https://a.example", "--allow-host", "faces.example", "--trusted-proxy", "10.0.0.1",
        "--limit", "rate=7", "--limit", "streams=3", "--classes", "a,b", "--pixel-scale", "-1..1")  # fmt: skip
    ((recognizer, settings, port, _, proxies),) = served
    assert recognizer == ("default-int8", "auto", 0.5, None, "a,b", "-1..1", "upright")
    assert (settings.host, port, proxies) == ("0.0.0.0", 1234, "10.0.0.1")  # noqa: S104
    assert settings.allow_origins == ("https://a.example",)
    assert settings.allow_hosts == ("faces.example",)
    assert settings.limits == Limits(rate=7.0, streams=3)
    assert settings.api_key is None
    assert "FERKIT_API_KEY" in capsys.readouterr().err  # open to all, so it says so


@pytest.mark.parametrize(("arguments", "host"), [(["--api-key", "k"], "0.0.0.0"), ([], "127.0.0.1")])  # noqa: S104
def test_there_is_no_warning_where_none_is_due(served, arguments, host, capsys):
    run("--host", host, *arguments)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("word", "says"),
    [
        pytest.param("speed=3", "Unknown limit 'speed'. Choices: body_bytes", id="unknown"),
        pytest.param("rate=fast", "rate must be a number, as in rate=50", id="words"),
        pytest.param("streams=1.5", "streams must be a number", id="half"),
        pytest.param("streams=0", "streams must be above 0", id="zero"),
        pytest.param("rate", "rate must be a number", id="nothing"),
    ],
)
def test_limits_that_make_no_sense(word, says):
    with pytest.raises(UsageError, match=says):
        Limits.changed([word])


def test_every_limit_has_a_row_in_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)`.*?\| ([\d,.]+)", text, re.MULTILINE))
    assert {name: float(rows[name].replace(",", "")) for name in asdict(Limits())} == asdict(Limits())


def test_without_the_extra_it_says_which_to_install(tmp_path):
    (tmp_path / "fastapi.py").write_text("raise ModuleNotFoundError('no', name='fastapi')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*SERVE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'ferkit[web]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
