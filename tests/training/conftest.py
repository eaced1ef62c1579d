"""What tests of training share."""

import pytest


@pytest.fixture(scope="module")
def tiny_network():
    """The architecture `tiny`, of a few hundred weights, where a test is about training and not about a network."""
    pytest.importorskip("keras")
    from devices_run import tiny
    from ferkit.models.architectures import ARCHITECTURES

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES._choices, "tiny", tiny)
        yield
