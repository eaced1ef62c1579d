"""Everything that is drawn or laid out: images, figures, pages, tables, notebooks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
