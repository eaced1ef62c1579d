"""The command `ferkit` with the addresses of YuNet's weights on this machine; and the server that gives them, slowly.

python stress/from_loopback.py http://127.0.0.1:8000/yunet.onnx predict photo.jpg --detector yunet
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_PIECE = 8192
_PAUSE_S = 0.04


@contextmanager
def served(file: Path) -> Iterator[str]:
    """Serve a file on the loopback in small pieces, over about a second; yields its address."""
    content = file.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(OSError):  # whoever asked may be dead
                for start in range(0, len(content), _PIECE):
                    self.wfile.write(content[start : start + _PIECE])
                    time.sleep(_PAUSE_S)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/{file.name}"
    finally:
        server.shutdown()
        server.server_close()


def main() -> None:
    from ferkit.cli import main as ferkit
    from ferkit.detection import yunet_file

    yunet_file.URLS = (sys.argv.pop(1),)  # type: ignore[assignment]
    ferkit()


if __name__ == "__main__":
    main()
