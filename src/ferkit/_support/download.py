"""Fetching over HTTP: bounded in time and size, and one clear line when it fails.

Nothing else in ferkit opens a connection. What it needs of the standard library is imported when a file is fetched:
most runs never fetch any.
"""

import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ferkit.errors import DownloadError

if TYPE_CHECKING:
    from urllib.request import OpenerDirector

_log = logging.getLogger(__name__)

TIMEOUT = 10.0  # seconds that a server may stay silent
_FETCH_SECONDS = 60.0  # that one `fetch` may take in all
_PATIENCE = 3.0  # until it is said what is waited for
_PIECE = 1 << 16
_REDIRECTS = 5
_REDIRECT_STATUS = (301, 302, 303, 307, 308)


def offline() -> bool:
    """Whether `FERKIT_OFFLINE` is set (to anything but "" and "0"): then ferkit never touches the network."""
    return os.environ.get("FERKIT_OFFLINE", "") not in ("", "0")


def fetch(url: str, *, limit: int, timeout: float = TIMEOUT, seconds: float = _FETCH_SECONDS) -> bytes:
    """Fetch what a http or https address holds, at most `limit` bytes of it.

    Redirects are followed to http and https only, and from https to https only.

    Args:
        url: As a browser's address bar shows it.
        limit: Bytes beyond which it is refused.
        timeout: Seconds without a byte, after which the server is given up.
        seconds: The same for the whole of it, so that a server that drips bytes cannot hold us.

    Raises:
        DownloadError: It cannot be fetched. `AddressError` where that will stay so.
    """
    shown = " ".join((url if len(url) <= 200 else f"{url[:200]}...").split())
    if offline():
        raise DownloadError(f"Cannot fetch {shown}: FERKIT_OFFLINE is set. Unset it, or give a file.")
    deadline = _Deadline(seconds)
    waiting = threading.Timer(_PATIENCE, _log.info, ("Fetching %s ...", shown))
    waiting.daemon = True
    waiting.start()
    try:
        data = b"".join(_answer(_checked(url), limit, timeout, deadline))
        if not deadline.passed:
            return data
        kind, why, cause = DownloadError, "", None
    except Exception as problem:
        kind, why, cause = AddressError if _stays(problem) else DownloadError, _why(problem, timeout), problem
    finally:
        deadline.cancel()
        waiting.cancel()
    if deadline.passed:
        kind, why = DownloadError, f"it was not done after {seconds:g} seconds"
    raise kind(f"Cannot fetch {shown}: {why}.") from cause


class AddressError(DownloadError):
    """What is wrong with one address or the file behind it, and stays so; the network and the server are well."""


class _ReasonError(Exception):
    """Why an address cannot be fetched, in words."""


class _PassingError(_ReasonError):
    """A reason that may be gone later."""


def _stays(problem: Exception) -> bool:
    from http.client import InvalidURL

    return isinstance(problem, _ReasonError | ValueError | InvalidURL) and not isinstance(problem, _PassingError)


def _answer(url: str, limit: int, timeout: float, deadline: "_Deadline") -> Iterator[bytes]:
    from importlib import metadata
    from urllib.parse import urljoin
    from urllib.request import Request

    opener = _opener(deadline)
    headers = {"User-Agent": f"ferkit/{metadata.version('ferkit')}", "Accept": "*/*"}
    for _ in range(_REDIRECTS + 1):
        with opener.open(Request(url, headers=headers), timeout=timeout) as response:  # noqa: S310 - _checked() did
            if response.status not in _REDIRECT_STATUS or "Location" not in response.headers:
                yield from _body(response, limit)
                return
            target = _checked(urljoin(url, response.headers["Location"]))
        if url.startswith("https:") and not target.startswith("https:"):
            raise _ReasonError(f"it leads away from https, to {target[:100]}")
        url = target
    raise _ReasonError(f"it is redirected more than {_REDIRECTS} times")


def _body(response: Any, limit: int) -> Iterator[bytes]:
    if not 200 <= response.status < 300:
        busy = response.status in (408, 425, 429) or response.status >= 500
        raise (_PassingError if busy else _ReasonError)(_status(response.status))
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":  # asked for nothing of the kind; and a few bytes may inflate to gigabytes
        raise _ReasonError(f"the response is compressed ({encoding[:20]}), which ferkit did not request")
    # None where the server does not say.
    told = response.length
    if told is not None and told > limit:
        raise _ReasonError(f"it has {told:,} bytes; expected at most {limit:,}")
    done = 0
    while piece := response.read(_PIECE):
        done += len(piece)
        if done > limit:
            raise _ReasonError(f"it has more than {limit:,} bytes")
        yield piece
    if told is not None and done < told:
        raise _PassingError(f"the connection broke after {done:,} of {told:,} bytes")


class _Deadline:
    """Cuts a connection when time is up, wherever it waits: a server that drips bytes never meets a time-out."""

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._connection: socket.socket | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, connection: socket.socket) -> None:
        with self._lock:
            self._connection = connection
        if self.passed:
            self._cut()

    def cancel(self) -> None:
        self._timer.cancel()

    def _cut(self) -> None:
        with self._lock:
            self.passed = True
            if self._connection is not None:
                with suppress(OSError):  # it may be closed already
                    # The plain shutdown: TLS would first say goodbye to a server that does not listen.
                    socket.socket.shutdown(self._connection, socket.SHUT_RDWR)


def _opener(deadline: _Deadline) -> "OpenerDirector":
    """HTTP and HTTPS, through the proxy that the environment names, and nothing else.

    urllib's own opener reads files and FTP too, and the whole body of every redirect.
    """
    import http.client
    import ssl
    from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

    class Plain(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            deadline.watch(self.sock)

    class Secure(http.client.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            deadline.watch(self.sock)

    class Http(HTTPHandler):
        def http_open(self, request: Request) -> http.client.HTTPResponse:
            return self.do_open(Plain, request)

    class Https(HTTPSHandler):
        def https_open(self, request: Request) -> http.client.HTTPResponse:
            return self.do_open(Secure, request, context=ssl.create_default_context())

    opener = OpenerDirector()
    for handler in (ProxyHandler(), Http(), Https()):
        opener.add_handler(handler)
    return opener


def _checked(url: str) -> str:
    """A http or https address in ASCII, as it goes over the wire."""
    from urllib.parse import quote, urlsplit, urlunsplit

    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https"):
        raise _ReasonError(
            f"expected an address that begins with https:// or http://, received {parts.scheme or 'none'}:"
        )
    if not parts.hostname:
        raise _ReasonError("it names no host")
    if "@" in parts.netloc:
        raise _ReasonError("it holds a user name, which would show in results; fetch the file another way")
    # What a browser's address bar shows: letters of any language, blanks. "%" stays: it is quoted already.
    host, port = parts.netloc, parts.port  # the latter is checked here: a resolver would take 99999 modulo 65536
    if not host.isascii():
        host = str(parts.hostname).encode("idna").decode() + (f":{port}" if port else "")
    path, query = (quote(part, safe="/%:;=@&+$,!~*'()?[]|") for part in (parts.path, parts.query))
    return urlunsplit((parts.scheme, host, path or "/", query, ""))


def _status(status: int) -> str:
    from http import HTTPStatus

    if status in (404, 410):
        return f"the server has no such file ({status})"
    with suppress(ValueError):
        return f"the server answered {status} ({HTTPStatus(status).phrase})"
    return f"the server answered {status}"


def _why(problem: BaseException, timeout: float) -> str:
    """The reason of a failed transfer in words."""
    import http.client
    import ssl
    from urllib.error import URLError

    if isinstance(problem, URLError) and isinstance(problem.reason, BaseException):
        problem = problem.reason
    if isinstance(problem, TimeoutError):
        return f"the server was silent for {timeout:g} seconds"
    if isinstance(problem, socket.gaierror):
        return "there is no such host, or no network"
    if isinstance(problem, ConnectionRefusedError):
        return "the server refused the connection"
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"the certificate of the server cannot be trusted ({problem.verify_message.rstrip('.')})"
    if isinstance(problem, ssl.SSLError):
        return f"no secure connection ({problem.reason})"
    if isinstance(problem, http.client.InvalidURL | UnicodeError):
        return "it is no valid address"
    if isinstance(problem, http.client.IncompleteRead | http.client.RemoteDisconnected):
        return "the connection broke"
    if isinstance(problem, http.client.HTTPException):
        return f"the server speaks no proper HTTP ({type(problem).__name__})"
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    return " ".join(str(problem).split()).rstrip(".") or type(problem).__name__
