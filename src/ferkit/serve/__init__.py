"""The web server: images by HTTP, live frames by WebSocket, one page; and the desktop window."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
