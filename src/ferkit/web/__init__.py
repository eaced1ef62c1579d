"""The web server: pictures by HTTP, live frames by WebSocket, one page. Needs the extra `web`.

`create_app` gives an ASGI application, for any ASGI server; `WebServer` runs it with uvicorn.
"""

from ferkit.errors import MissingDependencyError

try:
    import python_multipart  # noqa: F401 - Starlette and uvicorn would only miss these two when they are needed
    import websockets  # noqa: F401

    from ferkit.web.app import create_app
    from ferkit.web.server import WebServer
    from ferkit.web.settings import Limits, Settings
except ModuleNotFoundError as problem:
    if (problem.name or "").startswith("ferkit"):
        raise
    raise MissingDependencyError(f"The web server needs {problem.name}: pip install 'ferkit[web]'.") from problem

__all__ = ["Limits", "Settings", "WebServer", "create_app"]
