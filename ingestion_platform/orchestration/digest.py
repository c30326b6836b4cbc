"""Fingerprints: of what has landed for a day, and of what a table's day was made of when somebody was asked to make it."""

import hashlib
from collections.abc import Iterable

from ingestion_platform.landing import LandedObject


def digest(objects: Iterable[LandedObject]) -> str:
    """Changes whenever an object comes, goes, or may have changed."""
    return fingerprint(f"{one.key}\t{one.size_bytes}\t{one.token}" for one in sorted(objects, key=lambda one: one.key))


def fingerprint(parts: Iterable[str]) -> str:
    """16 hex digits of SHA-256: short enough to keep one for each recent day in a cursor."""
    hashed = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogateescape")
        hashed.update(len(encoded).to_bytes(8) + encoded)
    return hashed.hexdigest()[:16]
