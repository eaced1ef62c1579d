"""Settings of a server: who has access, and limits."""

import ipaddress
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Self

from ferkit.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """Limits of one server; requests beyond them are rejected. docs/serve.md lists the responses.

    Attributes:
        body_bytes: Maximum size of a request body.
        pixels: Maximum number of pixels of an image.
        pictures: Maximum number of images in one request.
        total_pixels: Maximum number of pixels of all images of a request.
        explained: Maximum number of faces that one request explains.
        queue: Number of requests that may wait while all workers are busy.
        bodies: Bodies that a client may send at the same time.
        connections: Open connections; fewer where the process may open few files.
        rate: Requests to /v1/, /metrics and /openapi.json per second and client, with bursts of twice as many; 0 turns the limit off.
        streams: Maximum number of concurrent live streams.
        frame_bytes: Maximum size of a frame.
        frame_pixels: Maximum number of pixels of a frame.
        upload_s: Seconds for sending a body.
        work_s: Seconds from a complete body, or a frame, to its response.
        idle_s: Seconds without a frame after which a stream is closed.
        send_s: Seconds in which a client must read some of a response.
        bad_frames: Consecutive unreadable frames after which a stream is closed.

    """

    body_bytes: int = 20_000_000
    pixels: int = 50_000_000
    pictures: int = 32
    total_pixels: int = 100_000_000
    explained: int = 4
    queue: int = 64
    bodies: int = 64
    connections: int = 1000
    rate: float = 50
    streams: int = 8
    frame_bytes: int = 2_000_000
    frame_pixels: int = 1920 * 1080
    upload_s: float = 30
    work_s: float = 60
    idle_s: float = 60
    send_s: float = 10
    bad_frames: int = 30

    @classmethod
    def changed(cls, words: Sequence[str]) -> Self:
        """Limits with the values that `NAME=VALUE` words give.

        Raises:
            UsageError: There is no such limit, or its value does not fit.
        """
        usual = asdict(cls())
        changes = {}
        for word in words:
            name, _, value = word.partition("=")
            if name not in usual:
                raise UsageError(f"Unknown limit {name!r}. Choices: {', '.join(usual)}.")
            try:
                changes[name] = type(usual[name])(value)
            except ValueError:
                raise UsageError(f"{name} must be a number, as in {name}={usual[name]}. Received: {word!r}.") from None
        return cls(**changes)

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            least = 0 if one.name in ("rate", "queue") else 1e-9
            if not (math.isfinite(value) and value >= least):
                raise UsageError(f"{one.name} must be {'0 or more' if not least else 'above 0'}. Received: {value}.")


@dataclass(frozen=True)
class Settings:
    """Who has access to a server.

    Attributes:
        host: Address to listen on.
        allow_hosts: Additional accepted Host headers. Without any, a server on an address other than loopback accepts
            every Host header.
        api_key: Key that clients must send; None requires none.
        allow_origins: Allowed CORS origins, or "*".
        limits: Limits of requests and streams.

    """

    host: str = "127.0.0.1"
    allow_hosts: tuple[str, ...] = ()
    api_key: str | None = field(default=None, repr=False)
    allow_origins: tuple[str, ...] = ()
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if self.api_key is not None and not (self.api_key and self.api_key.isascii() and self.api_key.isprintable()):
            raise UsageError("An API key must consist of printable ASCII characters. It contains others, or is empty.")
        for origin in self.allow_origins:
            if origin != "*" and not _is_origin(origin):
                raise UsageError(f"Expected an origin such as https://example.org:8443, or *. Received: {origin!r}.")

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def network_of(client: str) -> str:
    """The unit that is limited: an IPv4 address, or an IPv6 /64, which is usually one household."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return client


def _is_origin(text: str) -> bool:
    scheme, _, rest = text.partition("://")
    return scheme in ("http", "https") and bool(rest) and not set(rest) & set("/?#@ ")
