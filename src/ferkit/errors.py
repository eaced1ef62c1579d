"""What can go wrong, by the part of the work that failed.

Every message says what came, what was expected and what to do. The command line prints it as one line and leaves with
`exit_code`; Python users catch `FerkitError`, which is a `ValueError`.
"""


class FerkitError(ValueError):
    """Base of all errors that a user's input or environment can cause."""

    exit_code = 1


class UsageError(FerkitError):
    """A choice or a value that makes no sense whatever the data: an unknown recipe, zero epochs."""

    exit_code = 2


class ImageError(FerkitError):
    """A picture that cannot be read."""


class VideoError(FerkitError):
    """A video that cannot be read or written."""


class DownloadError(FerkitError):
    """A file that cannot be fetched, or is not the one that was expected."""


class DatasetError(FerkitError):
    """A data set that cannot be read or does not hold what was asked for."""


class ModelError(FerkitError):
    """A model that cannot be loaded, saved or trusted."""


class TrainingError(FerkitError):
    """A training run that cannot start, go on or be written."""


class ClusterError(FerkitError):
    """A Ray cluster that cannot be started or reached, or that loses what it works on."""


class MissingDependencyError(FerkitError, ImportError):
    """An optional part that is not installed; the message names the extra to install."""
