"""
The landing zone: list, read, put once. A local folder and S3 behave alike.

Belongs here: moving bytes. Doesn't: what they mean. Landed objects are never changed or deleted: this room has no call for it.
"""

from ingestion_platform.landing.opening import open_landing
from ingestion_platform.landing.zone import LandedObject, LandingZone, ObjectFile

__all__ = ["LandedObject", "LandingZone", "ObjectFile", "open_landing"]
