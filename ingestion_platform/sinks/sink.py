"""
What a sink is: who is told of which alerts, how fast, and how long it is tried.

Belongs here: what a deployment says of a sink, and what is wrong with it. Doesn't: telling (`carrier.py`).
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from ingestion_platform.alert import Action, Alert
from ingestion_platform.errors import SettingsError

NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")

Kind = Literal["log", "webhook", "sns", "sqs"]

_TOPIC = re.compile(r"arn:[a-z0-9-]+:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,251}(\.fifo)?")
_EXAMPLES = {
    "webhook": 'where = "https://example.com/hook"',
    "sns": 'where = "arn:aws:sns:eu-west-1:123456789012:alerts"',
    "sqs": 'where = "https://sqs.eu-west-1.amazonaws.com/123456789012/alerts"',
}


class Sink(BaseModel):
    """
    Who is told of alerts.

    Args:
        name: of the sink; what was told to it is noted under this name.
        kind: `log`, `webhook`, `sns` or `sqs`.
        where: a secret of webhooks: whoever has the URL can post. Of `log` a file, to which lines of JSON are appended; empty: the
            program's own log. Of `sns` the topic's ARN, of `sqs` the queue's URL.
        secret: webhooks are signed with it; none: they aren't signed.
        private_hosts: the webhook's host may have an address that isn't public, and it may be http://.
        rules: names of those told; empty: all.
        actions: `hold`, `notify`, `review`; empty: all.
        up_to_priority: alerts of this priority and of more urgent ones; 1 is the most urgent.
        messages_per_minute: at most; the most urgent ones go first.
        window_seconds: of a group there is one message in so many seconds: the first alert goes at once, those that follow it are
            one message when the time is over. 0: each alert is a message.
        group_by: what an alert is about by which groups are made, beside the rule: columns, as in `["store_id"]`.
        shown: alerts that a message shows whole; of the others it has the ids.
        patience_seconds: a sink that takes nothing for so long has what is due to it made dead letters.
        timeout_seconds: for one message.
        look_back_hours: alerts that landed so long ago and haven't been told are told when the outbox opens.
        unsent_minutes: alerts that have landed so long ago are reported as not told.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str
    kind: Kind
    where: SecretStr = SecretStr("")
    secret: SecretStr | None = None
    private_hosts: bool = False
    rules: tuple[str, ...] = ()
    actions: tuple[Action, ...] = ()
    up_to_priority: int = Field(9, ge=1)
    messages_per_minute: int = Field(60, ge=1, le=100_000)
    window_seconds: float = Field(60.0, ge=0, le=86_400, allow_inf_nan=False)
    group_by: tuple[str, ...] = ()
    shown: int = Field(10, ge=1, le=100)
    patience_seconds: float = Field(300.0, gt=0, le=86_400, allow_inf_nan=False)
    timeout_seconds: float = Field(10.0, gt=0, le=300, allow_inf_nan=False)
    look_back_hours: Annotated[float, Field(gt=0, le=24 * 31, allow_inf_nan=False)] = 24.0
    unsent_minutes: float = Field(10.0, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        where = self.where.get_secret_value()
        if NAME.fullmatch(self.name) is None:
            raise ValueError("a sink's name is snake_case, of 60 letters at most: it is part of keys")
        if self.kind in _EXAMPLES and not where:
            raise ValueError(f"where is missing: {_EXAMPLES[self.kind]}")
        if self.kind == "sns" and _TOPIC.fullmatch(where) is None:
            raise ValueError(f"where is no topic's ARN: {_EXAMPLES['sns']}")
        if self.kind == "sqs" and not where.startswith(("https://", "http://")):
            raise ValueError(f"where is no queue's URL: {_EXAMPLES['sqs']}")
        if self.kind != "webhook" and (self.secret is not None or self.private_hosts):
            raise ValueError("secret and private_hosts are webhooks'")
        if self.secret is not None and len(self.secret.get_secret_value()) < 16:
            raise ValueError("secret has less than 16 letters: whoever guesses it can forge alerts")
        return self

    @property
    def is_fifo(self) -> bool:
        """Whether the topic or queue keeps order, and takes each message once."""
        return self.kind in ("sns", "sqs") and self.where.get_secret_value().endswith(".fifo")

    def takes(self, alert: Alert) -> bool:
        """Whether it is told of an alert."""
        return (
            (not self.rules or alert.rule in self.rules)
            and (not self.actions or alert.action in self.actions)
            and alert.priority <= self.up_to_priority
        )


def read_sinks(tables: Mapping[str, Mapping[str, Any]]) -> list[Sink]:
    """
    Sinks as the settings say them.

    Args:
        tables: by name, as `Settings.sink_tables` gives them.

    Raises:
        SettingsError: one isn't as it must be; the message names it, and no value.
    """
    found = []
    for name, table in tables.items():
        try:
            found.append(Sink.model_validate({**table, "name": name}))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise SettingsError(
                f"INGESTION_SINKS: sink {name!r:.100}{f', {place:.100}' if place else ''}: {first['msg']}",
                "see the README on telling alerts",
            ) from None
    return found
