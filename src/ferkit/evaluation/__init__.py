"""How good is a model? Metrics, reports, comparisons, fairness, robustness, explanations."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
