"""The served OpenAPI held against the server: what it answers to requests made from its own description, good and bad."""

import base64
import os

import pytest

if os.environ.get("FERKIT_SLOW_TESTS") != "1":
    pytest.skip("slow; set FERKIT_SLOW_TESTS=1", allow_module_level=True)  # before what it needs is imported

from ferkit.serve.app import create_app
from ferkit.serve.settings import Limits, Settings
from web import fast_recognizer, picture, running

schemathesis = pytest.importorskip("schemathesis")

from hypothesis import HealthCheck, Phase, settings  # noqa: E402 - brought by the package above
from hypothesis import strategies as st  # noqa: E402
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


# Real pictures among what is made up, so that there are faces in answers as well.
PICTURES = [picture(), picture(0), picture(form="PNG")]
schemathesis.openapi.media_type("image/*", st.sampled_from([*PICTURES, b"no picture"]), aliases=["image/png"])
schemathesis.openapi.format("byte", st.sampled_from([base64.b64encode(one).decode() for one in PICTURES]))
SCHEMA = schemathesis.openapi.from_dict(create_app(fast_recognizer()).openapi())


@pytest.fixture(scope="module")
def address():
    # The rate is for clients that come too often, as this one does.
    with running(Settings(limits=Limits(rate=0))) as server:
        yield server.address


@SCHEMA.parametrize()
@settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_answers_are_as_the_schema_says(case, address):
    """Every status is described, every answer has its shape and type, nothing bad is taken, nothing breaks."""
    # No schema can say what is a picture: bytes made from ours are refused with 422.
    case.call_and_validate(base_url=address, excluded_checks=[positive_data_acceptance])
