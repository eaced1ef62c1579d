"""Millions of images: a job cut into shards, done by many workers, resumable; and summaries of its tables."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
