"""Networks, the classifier and its runtimes, model folders and files, export, the packaged models."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# They register themselves.
from ferkit.models import architectures as architectures  # noqa: E402
from ferkit.models import pretrained as pretrained  # noqa: E402
