"""
From the setting to the landing zone: which kind a URL names.

Belongs here: choosing. Doesn't: anything about how a kind works.
"""

import re

from ingestion_platform.errors import LandingError
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.landing.zone import LandingZone


def open_landing(url: str) -> LandingZone:
    """
    Open the landing zone at *url*, without asking it anything yet.

    Args:
        url: a folder, or `s3://bucket/prefix`; for S3, credentials, region and endpoint are read as boto3 reads them.

    Raises:
        LandingError: *url* names no kind of landing zone.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    if scheme is None:
        return LocalLanding(url)
    if scheme[1].lower() != "s3":
        raise LandingError(f"a landing zone is a folder or s3://…, not {scheme[1]}://…", "set INGESTION_LANDING")
    # boto3 takes 0.7 s to import: nobody pays who lands in a folder.
    from ingestion_platform.landing.s3 import S3Landing

    return S3Landing(url)
