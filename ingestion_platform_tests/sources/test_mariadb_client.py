"""What MariaDB's client says, in words that help: without a server."""

import pymysql
import pytest

from ingestion_platform.errors import IngestionError, SourceError, SourceUnavailable, StreamGap
from ingestion_platform.sources.mariadb_client import as_ours

_READING = 1236


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (
            pymysql.OperationalError(
                _READING, "Client requested master to start replication from impossible position; the first event 'x'"
            ),
            StreamGap,
            "impossible position",
        ),
        (
            pymysql.OperationalError(_READING, "Could not find first log file name in binary log index file"),
            StreamGap,
            "log file",
        ),
        (
            pymysql.OperationalError(_READING, "bogus data in log event; the first event 'mysql-bin.000003' at 342"),
            StreamGap,
            "no event begins where reading stood",
        ),
        (
            pymysql.OperationalError(_READING, "log event entry exceeded max_allowed_packet; Increase it"),
            SourceError,
            "max_allowed_packet = 1073741824",
        ),
        (
            pymysql.OperationalError(_READING, "A slave with the same server_uuid/server_id as this slave"),
            SourceUnavailable,
            "another one is taken",
        ),
        (pymysql.OperationalError(2003, "Can't connect to server"), SourceUnavailable, "is the database up"),
        (pymysql.ProgrammingError(1146, "Table 'shop.carts' doesn't exist"), SourceError, "check its name"),
        (pymysql.OperationalError(1045, "Access denied for user"), SourceError, "check user, password"),
    ],
)
def test_an_error_says_what_to_do(error: pymysql.Error, kind: type[IngestionError], says: str) -> None:
    """Whether waiting helps, a new beginning, or somebody who changes something; and which server it was."""
    ours = as_ours(error, "database books at 127.0.0.1")
    assert type(ours) is kind
    assert says in str(ours)
    assert "database books" in str(ours)
