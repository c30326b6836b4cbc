"""
From the setting to the landing zone: which kind a URL names.

Belongs here: choosing. Doesn't: anything about how a kind works.
"""

import re

from ingestion_platform.errors import LandingError
from ingestion_platform.landing.local import LocalLanding
from ingestion_platform.landing.zone import LandingZone


def open_landing(url: str, warm: str = "", cold: str = "") -> LandingZone:
    """
    Open the landing zone at *url*, without asking it anything yet.

    Args:
        url: a folder, or `s3://bucket/prefix`; for S3, credentials, region and endpoint are read as boto3 reads them.
        warm: folder that a folder's objects age into; empty: none.
        cold: likewise.

    Raises:
        LandingError: *url* names no kind of landing zone.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    if scheme is None:
        return LocalLanding(url, warm=warm, cold=cold)
    if scheme[1].lower() != "s3":
        raise LandingError(f"a landing zone is a folder or s3://…, not {scheme[1]}://…", "set INGESTION_LANDING")
    if warm or cold:
        raise LandingError(
            "objects on S3 age in S3 itself, not into a folder",
            "unset INGESTION_LANDING_WARM and INGESTION_LANDING_COLD; see `python -m ingestion_platform lifecycle`",
        )
    # boto3 takes 0.7 s to import: nobody pays who lands in a folder.
    from ingestion_platform.landing.s3 import S3Landing

    return S3Landing(url)
