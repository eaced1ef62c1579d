"""Where images come from: paths, folders, globs, URLs, bytes, archives; and how they are decoded."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
