"""
The landing zone: list, read, put once, age. A local folder and S3 behave alike.

Belongs here: moving bytes. Doesn't: what they mean. Landed objects are never changed or deleted: what this room shows has no call for it.
One that ages is moved, and keeps its key. The one exception, a person who is forgotten, has a door of its own (`erasing.py`).
"""

from ingestion_platform.landing.opening import open_landing
from ingestion_platform.landing.zone import LandedObject, LandingZone, ObjectFile, same_version

__all__ = ["LandedObject", "LandingZone", "ObjectFile", "open_landing", "same_version"]
