"""The web server: images by HTTP, live frames by WebSocket, one page; and the desktop window.

`create_app` gives an ASGI application, for any ASGI server; `WebServer` runs it with uvicorn. Both need the extra
`web`.
"""

from typing import Any

import lazy_loader

from ferkit.errors import MissingDependencyError

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    try:
        return _load(name)
    except ModuleNotFoundError as problem:
        if (problem.name or "").startswith("ferkit"):
            raise
        raise MissingDependencyError(f"The web server needs {problem.name}: pip install 'ferkit[web]'.") from problem
