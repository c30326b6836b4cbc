"""What errors of AWS's clients mean, whichever service they come from."""

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from ingestion_platform import aws
from ingestion_platform.errors import LandingError, SourceError


def refused(code: str, status: int = 400, message: str = "no") -> ClientError:
    """An error as a service tells it."""
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "Get",
    )


@pytest.mark.parametrize(
    ("error", "is_busy"),
    [
        (refused("ThrottlingException"), True),
        (refused("ProvisionedThroughputExceededException"), True),
        (refused("Whatever", 503), True),
        (refused("Whatever", 429), True),
        (refused("SlowDown"), False),
        (refused("AccessDenied", 403), False),
        (ClientError({}, "Get"), False),
        (TimeoutError(), False),
    ],
    ids=repr,
)
def test_a_busy_service_is_told_by_its_code_or_by_the_status(error: Exception, is_busy: bool) -> None:
    """Either will do: other servers than AWS have codes of their own, and some have none."""
    assert aws.is_busy(error) == is_busy


def test_a_service_may_have_codes_of_its_own_for_being_busy() -> None:
    """They count for who names them."""
    assert aws.is_busy(refused("SlowDown"), {"SlowDown"})


@pytest.mark.parametrize(
    "error",
    [ReadTimeoutError(endpoint_url="http://127.0.0.1:1"), EndpointConnectionError(endpoint_url="x"), ConnectionResetError()],
    ids=repr,
)  # fmt: skip
def test_half_an_answer_is_none(error: Exception) -> None:
    """Connections that can't be made, break or stay silent are broken, not refused."""
    assert isinstance(error, aws.BROKEN)
    assert (aws.code_of(error), aws.status_of(error), aws.message_of(error)) == ("", 0, "")


def test_an_error_is_told_in_a_few_words() -> None:
    """Status and code, or the first line; never a password, nor all of what a server wrote."""
    assert aws.told(refused("Throttling", 400, "x" * 1000)) == "400 Throttling"
    assert aws.told(refused("InternalFailure", 0)) == "InternalFailure"
    assert aws.message_of(refused("Throttling", 400, "x" * 1000)) == "x" * 200
    assert aws.told(ValueError("bad http://me:secret@host/\nand more")) == "ValueError: bad http://host/"
    assert aws.told(ValueError()) == "ValueError: "


def test_waits_double_up_to_a_bound() -> None:
    """However often something failed, and drawn from the whole of it."""
    waits = aws.Waits(first_seconds=1.0, longest_seconds=8.0)
    for failures, bound in ((1, 1.0), (2, 2.0), (4, 8.0), (5, 8.0), (100_000, 8.0)):
        drawn = [waits.after(failures) for _ in range(200)]
        assert 0 <= min(drawn) < bound / 4
        assert bound * 3 / 4 < max(drawn) <= bound


def test_an_endpoint_with_a_password_is_refused_as_an_error_of_whoever_asks() -> None:
    """It isn't shown."""
    for kind in (LandingError, SourceError):
        with pytest.raises(kind, match="place: the endpoint's URL has a user or password") as told:
            aws.check_endpoint("https://me:secret@s3.example", "place", kind)
        assert "secret" not in str(told.value)
    aws.check_endpoint("https://s3.example", "place", LandingError)
