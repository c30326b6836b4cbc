"""What the reader of DynamoDB's streams promises, on AWS's own DynamoDB Local: shards that close, and positions with leading zeros."""

from collections.abc import Iterator

import pytest

from ingestion_platform_tests.sources.dynamodb_worlds import DynamoDbLocalWorld, dynamodb_local
from ingestion_platform_tests.sources.test_dynamodb_streams import (
    test_a_table_without_a_stream_on_a_server,
    test_from_a_table_to_its_history_and_its_current_state,
    test_latest_gives_what_comes_next,
    test_what_is_put_arrives_once_in_order,
)

__all__ = [
    "test_a_table_without_a_stream_on_a_server",
    "test_from_a_table_to_its_history_and_its_current_state",
    "test_latest_gives_what_comes_next",
    "test_what_is_put_arrives_once_in_order",
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The server's URL."""
    with dynamodb_local() as url:
        yield url


@pytest.fixture
def world(server: str) -> DynamoDbLocalWorld:
    """An empty table on it."""
    return DynamoDbLocalWorld(server)
