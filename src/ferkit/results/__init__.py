"""What recognition returns: boxes, faces, emotions, pictures; the JSON keys and table columns of a face."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
