"""
Secrets of an API, and keeping them out of whatever is told or lands.

Belongs here: which secrets an API needs, and taking them out of texts, bodies and URLs. Doesn't: where they are from (`settings.py`),
who gets them (`http_client.py`).
"""

import base64
import json
import re
from collections.abc import Mapping
from urllib.parse import quote, quote_plus, unquote_plus

from ingestion_platform.api import SECRETS, Api, ApiKey, BasicAuth
from ingestion_platform.errors import SettingsError

SHORTEST = 6
"""Letters. A shorter secret would be found where it isn't meant."""
HIDDEN = "***"

_NO_SECRETS = ("username", "client_id")
"""They say who asks, and may well stand in what is told."""
_SENDABLE = re.compile(r"[\x20-\x7e]*")


def needed(api: Api, secrets: Mapping[str, str]) -> Mapping[str, str]:
    """
    The secrets of an API's `auth`, as they may be sent.

    Raises:
        SettingsError: one is missing, or has letters that can't be sent.
    """
    if api.auth is None:
        return {}
    names = SECRETS[type(api.auth)]
    hint = f"the file of INGESTION_APIS needs [{api.name}] with " + " and ".join(f'{name} = "…"' for name in names)
    for name in names:
        # A password may be empty: some want a key as the user, and nothing else.
        if name not in secrets or (not secrets[name] and name != "password"):
            raise SettingsError(f"API {api.name!r}: {name} isn't known", hint)
        is_header = not isinstance(api.auth, BasicAuth) and not (
            isinstance(api.auth, ApiKey) and api.auth.where == "query"
        )
        if is_header and (_SENDABLE.fullmatch(secrets[name]) is None or secrets[name] != secrets[name].strip()):
            raise SettingsError(
                f"API {api.name!r}: {name} has letters that no header can hold, or begins or ends with a blank",
                "is it copied whole, without its line end?",
            )
    if isinstance(api.auth, BasicAuth) and ":" in secrets["username"]:
        raise SettingsError(f"API {api.name!r}: username holds a colon", "basic authentication has no way to send one")
    return {name: secrets[name] for name in names}


class Secrecy:
    """
    Takes secrets out of what others see.

    Args:
        secrets: by name.
        key_name: the query's parameter that holds a key; empty: none does.
    """

    def __init__(self, secrets: Mapping[str, str], key_name: str = "") -> None:
        self._key_name = key_name
        self._forms: tuple[str, ...] = ()
        user, password = secrets.get("username", ""), secrets.get("password", "")
        is_key = "password" in secrets and len(password) < SHORTEST
        for name, value in secrets.items():
            if name not in _NO_SECRETS or (name == "username" and is_key):
                self.add(value)
        if user or password:
            self.add(basic(user, password))

    def add(self, secret: str) -> None:
        """Another secret, in every way in which it may be written."""
        if len(secret) < SHORTEST:
            return
        written = json.dumps(secret)[1:-1]
        forms = {secret, written, written.replace("/", "\\/"), json.dumps(secret, ensure_ascii=False)[1:-1]}
        for quoted in (quote(secret, safe=""), quote_plus(secret), quote(secret)):
            forms |= {quoted, re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), quoted)}
        # One assignment: other threads read meanwhile.
        self._forms = tuple(sorted({*self._forms, *forms}, key=len, reverse=True))

    def text(self, text: str) -> str:
        """A text without them."""
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        return text

    def content(self, content: bytes) -> bytes:
        """A body without them."""
        for form in self._forms:
            written = form.encode()
            if written in content:
                content = content.replace(written, HIDDEN.encode())
        return content

    def query(self, query: str) -> str:
        """A URL's query without the key's parameter; all else stays as it is."""
        if not self._key_name:
            return query
        return "&".join(part for part in query.split("&") if unquote_plus(part.partition("=")[0]) != self._key_name)


def basic(user: str, password: str) -> str:
    """User and password as the header `Authorization` takes them (RFC 7617)."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()
