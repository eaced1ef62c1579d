"""What a server may be asked to do, and how much of it."""

import ipaddress
import math
from dataclasses import dataclass, field, fields

from ferkit.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """How much one server takes on; beyond it a client gets a clear no. docs/serve.md lists the answers.

    body_bytes: of a request. pixels: of a picture. pictures: in one request. explained: faces that one request explains.
    queue: requests that wait while all workers are busy.
    rate: requests to /v1/ per second and client, twice as many in a burst; 0 for any number.
    streams: live streams at once. frame_bytes, frame_pixels: of one frame.
    upload_s: seconds for sending a body. idle_s: seconds without a frame. send_s: seconds for taking an answer.
    bad_frames: frames in a row that cannot be read before a stream is closed.
    """

    body_bytes: int = 20_000_000
    pixels: int = 50_000_000
    pictures: int = 32
    explained: int = 4
    queue: int = 64
    rate: float = 50
    streams: int = 8
    frame_bytes: int = 2_000_000
    frame_pixels: int = 1920 * 1080
    upload_s: float = 30
    idle_s: float = 60
    send_s: float = 10
    bad_frames: int = 30

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            least = 0 if one.name in ("rate", "queue") else 1e-9
            if not (math.isfinite(value) and value >= least):
                raise UsageError(f"{one.name} must be {'0 or more' if not least else 'above 0'}. Received: {value}.")


@dataclass(frozen=True)
class Settings:
    """Who may ask.

    host: the address that is listened on. allow_hosts: further names by which browsers may call the server; without any,
    a server on another address than loopback takes every name.
    api_key: what clients must send; None asks for none. allow_origins: pages of other hosts that may ask, or "*".
    """

    host: str = "127.0.0.1"
    allow_hosts: tuple[str, ...] = ()
    api_key: str | None = field(default=None, repr=False)
    allow_origins: tuple[str, ...] = ()
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if self.api_key is not None and not (self.api_key and self.api_key.isascii() and self.api_key.isprintable()):
            raise UsageError("An API key must be made of printable ASCII characters. Received: something else.")
        for origin in self.allow_origins:
            if origin != "*" and not _is_origin(origin):
                raise UsageError(f"An origin looks like https://example.org:8443, or is *. Received: {origin!r}.")

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def _is_origin(text: str) -> bool:
    scheme, _, rest = text.partition("://")
    return scheme in ("http", "https") and bool(rest) and not set(rest) & set("/?#@ ")
