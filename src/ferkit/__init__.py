"""ferkit: facial emotion recognition with Keras 3.

Train on labelled faces, know how good the model is, recognise every face. Importing this does nothing but name things
(`__init__.pyi` lists them); each name loads its module on first use, so `import ferkit` needs neither Keras nor OpenCV.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"
__all__ += ["__version__"]
