"""Find faces and crop them: detectors, tiles, aligned crops."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# They register themselves.
from ferkit.detection import haar as haar  # noqa: E402
from ferkit.detection import yunet as yunet  # noqa: E402
