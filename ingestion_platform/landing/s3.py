"""
A bucket, or a prefix in one, as landing zone: S3 and whatever speaks like it.

Belongs here: S3's requests, and what it refuses. Doesn't: making clients, and what is the same for every service of AWS (`aws.py`).
"""

import hashlib
import io
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal, TypeVar, cast
from uuid import uuid4

from boto3.session import Session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, FlexibleChecksumError

from ingestion_platform import aws
from ingestion_platform.errors import LandingError, LandingUnavailable, ObjectChanged, ObjectCold, ObjectMissing
from ingestion_platform.landing.erasing import FormerVersion
from ingestion_platform.landing.keys import can_begin_a_key, check_key, longest_sendable
from ingestion_platform.landing.zone import LandedObject, ObjectFile
from ingestion_platform.lifecycle import Place, RestoreTier, restore_takes

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import (
        CompletedPartTypeDef,
        GetObjectRequestTypeDef,
        HeadObjectOutputTypeDef,
        ListMultipartUploadsRequestTypeDef,
        ListObjectsV2RequestTypeDef,
        ListObjectVersionsRequestTypeDef,
        ListPartsRequestTypeDef,
    )

T = TypeVar("T")

SPOOL_BYTES = 16 * 1024**2
"""Objects up to this size are held in memory while they are read; larger ones go to disk, in ranges of this size."""
_THREADS = 32
_MOST_PARTS = 10_000
_MOST_PUT_BYTES = 5 * 1024**3
"""S3's limit of one request."""
_PUT_ID = "landing-put-id"

_BUSY_CODES = {
    "SlowDown",
    "BandwidthLimitExceeded",
    "IncompleteBody",
    "BadDigest",
    "XAmzContentChecksumMismatch",
    "ConditionalRequestConflict",
    "OperationAborted",
}


_ABOUT_THE_OBJECT = {
    "PreconditionFailed",
    "412",
    "NoSuchKey",
    "NoSuchVersion",
    "404",
    "InvalidRange",
    "NoSuchUpload",
    "InvalidPart",
    "416",
    "RestoreAlreadyInProgress",
    "NoSuchLifecycleConfiguration",
}
"""Refusals that say something of this object, and not of every request."""

ARCHIVES = {"GLACIER", "DEEP_ARCHIVE"}
"""Storage classes whose objects must be fetched back before they can be read."""

_PLACES: dict[str, Place] = {
    "STANDARD_IA": "warm",
    "ONEZONE_IA": "warm",
    "GLACIER_IR": "cold",
    "GLACIER": "cold",
    "DEEP_ARCHIVE": "cold",
}
"""The others, INTELLIGENT_TIERING among them, are hot: what they do within is S3's own affair."""


class _Truncated(Exception):
    """A body ended before its length, and nobody below had noticed."""


class S3Landing:
    """
    The landing zone under `s3://bucket/prefix`.

    The store must list by key in byte order (S3's directory buckets don't; that is noticed and refused) and know conditional writes.

    Retrying is a loop of our own, with full jitter: a connection that breaks *while a body is read*, an answer that was lost after
    the write, and a busy store share one budget of attempts. botocore's retries see only the last of these and would multiply ours, so
    they are off. stamina adds its jitter to a fixed wait instead of drawing the whole wait, and would save no line.

    Args:
        url: `s3://bucket` or `s3://bucket/prefix`.
        attempts: how often one request is sent before the zone counts as unavailable.
        first_wait_seconds: upper bound of the random wait after the first failure; it doubles with each.
        longest_wait_seconds: where the doubling ends.
        timeout_seconds: how long to wait for a connection, and for the next bytes of an answer.
        own_server: URL of a server on this machine that asks nobody who he is; empty: the endpoint and the credentials that boto3 finds.

    Raises:
        LandingError: *url* or the configuration that boto3 found can't be used.
    """

    def __init__(
        self,
        url: str,
        *,
        attempts: int = 8,
        first_wait_seconds: float = 0.2,
        longest_wait_seconds: float = 20.0,
        timeout_seconds: float = 60.0,
        own_server: str = "",
    ) -> None:
        self._bucket, self._prefix = _split(url)
        self._url = f"s3://{self._bucket}/{self._prefix}"
        self._waits = aws.Waits(attempts, first_wait_seconds, longest_wait_seconds)
        config = aws.client_config(connections=_THREADS, timeout_seconds=timeout_seconds)
        with aws.configuring(self._url, LandingError):
            session = Session(botocore_session=aws.new_session())
            if own_server:
                self._client = session.client(
                    "s3",
                    endpoint_url=own_server,
                    region_name="us-east-1",
                    config=config.merge(Config(signature_version=UNSIGNED, proxies={})),
                )
            else:
                self._client = session.client("s3", config=config)
            self._endpoint = self._client.meta.endpoint_url
            aws.check_endpoint(self._endpoint, self._url, LandingError)

    def __repr__(self) -> str:
        return f"S3Landing({self._url!r})"

    @property
    def url(self) -> str:
        """`s3://bucket/prefix/`."""
        return self._url

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[LandedObject]:
        """
        Yield the objects whose key starts with *prefix*, by key in byte order; see `LandingZone.list`.

        Holds one page of 1,000. The empty objects that consoles make for a folder (`sales/`) are left out.
        """
        if not can_begin_a_key(prefix):
            return
        request: ListObjectsV2RequestTypeDef = {"Bucket": self._bucket, "Prefix": self._prefix + prefix}
        beginning = longest_sendable(start_after)
        if beginning:
            request["StartAfter"] = self._prefix + beginning
        previous = ""
        while True:
            page = self._ask(f"listing {prefix!r}", lambda: self._client.list_objects_v2(**request))
            for item in page.get("Contents", ()):
                key, size_bytes = item["Key"].removeprefix(self._prefix), item["Size"]
                if previous and key <= previous:
                    raise LandingError(
                        f"{self._url}: lists {key!r} after {previous!r}, which is not the order of bytes",
                        "use a store that lists in order: a general purpose bucket, not a directory bucket",
                    )
                previous = key
                if key > start_after and not (size_bytes == 0 and key.endswith("/")):
                    landed_at = item["LastModified"].astimezone(UTC)
                    storage_class = item.get("StorageClass", "STANDARD")
                    yield LandedObject(
                        key,
                        size_bytes,
                        f"{item['ETag'].strip(chr(34))}-{size_bytes}",
                        landed_at,
                        _PLACES.get(storage_class, "hot"),
                        storage_class not in ARCHIVES,
                    )
            # A page can be empty and not the last (deleted versions), so its last key wouldn't do.
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or not token:
                return
            request["ContinuationToken"] = token

    def read(self, object_: LandedObject) -> bytes:
        """Read an object whole; see `LandingZone.read`."""
        return self._get(object_, 0, object_.size_bytes)

    def open(self, object_: LandedObject) -> ObjectFile:
        """
        Open an object; see `LandingZone.open`.

        Beyond `SPOOL_BYTES` it is fetched in ranges, each with attempts of its own, into a temporary file that has no name any more: it is
        gone with the process. All ranges are of the version that was listed: the ETag is held.
        """
        if object_.size_bytes <= SPOOL_BYTES:
            return ObjectFile(io.BytesIO(self.read(object_)), _is_unchanged)
        try:
            with ExitStack() as stack:
                file = stack.enter_context(tempfile.TemporaryFile(buffering=0))
                for begin in range(0, object_.size_bytes, SPOOL_BYTES):
                    file.write(self._get(object_, begin, min(begin + SPOOL_BYTES, object_.size_bytes)))
                file.seek(0)
                stack.pop_all()
        except OSError as error:
            raise LandingError(
                f"object {object_.key!r} of {object_.size_bytes:,} bytes: no temporary file can hold it: {error.strerror or error}",
                f"make room in {tempfile.gettempdir()}, or set TMPDIR to a folder on a larger disk",
            ) from error
        return ObjectFile(file, _is_unchanged)

    def _get(self, object_: LandedObject, begin: int, end: int) -> bytes:
        """The bytes from *begin* to *end* of an object, as it was listed."""
        what = f"object {object_.key!r}"
        etag = object_.token.rpartition("-")[0]
        changed = ObjectChanged(f"{self._url}: {what} isn't the one that was listed any more", "list it again")
        if not etag:
            raise changed
        is_whole = (begin, end) == (0, object_.size_bytes)
        request: GetObjectRequestTypeDef = {
            "Bucket": self._bucket,
            "Key": self._prefix + object_.key,
            "IfMatch": f'"{etag}"',
        }
        if not is_whole:
            request["Range"] = f"bytes={begin}-{end - 1}"

        def get() -> bytes:
            answer = self._client.get_object(**request)
            with closing(answer["Body"]) as body:
                content = body.read()
            if len(content) != answer["ContentLength"]:
                raise _Truncated(f"{len(content)} bytes of {answer['ContentLength']}")
            return content

        try:
            content = self._ask(what, get)
        except ClientError as error:
            if aws.code_of(error) in ("PreconditionFailed", "412", "InvalidRange", "416"):
                raise changed from error
            if aws.code_of(error) in ("NoSuchKey", "404"):
                raise ObjectMissing(f"{self._url}: {what} is gone", "list the landing zone again") from error
            raise self._refusal(what, error) from error
        if len(content) != end - begin:
            raise changed
        return content

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """Write an object whole, unless one is under that key already; see `LandingZone.put_if_absent`."""
        check_key(key)
        what = f"object {key!r}"
        name = self._prefix + key
        # When the answer to a write is lost, the next attempt finds the key taken: by us, if it carries this id.
        put_id, sent = uuid4().hex, 0

        def put() -> bool:
            nonlocal sent
            sent += 1
            try:
                self._client.put_object(
                    Bucket=self._bucket, Key=name, Body=content, IfNoneMatch="*", Metadata={_PUT_ID: put_id}
                )
            except ClientError as error:
                if aws.code_of(error) not in ("PreconditionFailed", "412"):
                    raise
                return sent > 1 and is_ours()
            return True

        def is_ours() -> bool:
            try:
                head = self._client.head_object(Bucket=self._bucket, Key=name)
            except ClientError as error:
                if aws.code_of(error) == "404":  # somebody deleted it meanwhile
                    return False
                raise
            return head.get("Metadata", {}).get(_PUT_ID) == put_id

        try:
            return self._ask(what, put)
        except ClientError as error:
            raise self._refusal(what, error) from error

    # --- ageing

    def is_at_hand(self, object_: LandedObject) -> bool:
        """Whether it can be read now; see `LandingZone.is_at_hand`."""
        return object_.is_at_hand or self._restore_of(object_)[1] == "done"

    def fetch_back(self, object_: LandedObject, *, days: int, tier: RestoreTier) -> timedelta | None:
        """Ask S3 to restore it; see `LandingZone.fetch_back`."""
        storage_class, state = self._restore_of(object_)
        if state == "done" or storage_class not in ARCHIVES:
            return None
        takes = restore_takes(storage_class, tier) or restore_takes(storage_class, "Standard")
        assert takes is not None, "known of every archive"
        if state == "under way":
            return takes
        what = f"fetching object {object_.key!r} back"
        try:
            self._ask(
                what,
                lambda: self._client.restore_object(
                    Bucket=self._bucket,
                    Key=self._prefix + object_.key,
                    RestoreRequest={"Days": days, "GlacierJobParameters": {"Tier": tier}},
                ),
            )
        except ClientError as error:
            if aws.code_of(error) == "RestoreAlreadyInProgress":
                return takes
            raise self._refusal(what, error) from error
        except ObjectCold:  # its class has nothing to restore: somebody has moved it out of the archive meanwhile
            return None
        return takes

    def _restore_of(self, object_: LandedObject) -> tuple[str, Literal["none", "under way", "done"]]:
        """Its storage class, and how far fetching it back has come."""
        what = f"object {object_.key!r}"
        try:
            head = self._ask(
                what, lambda: self._client.head_object(Bucket=self._bucket, Key=self._prefix + object_.key)
            )
        except ClientError as error:
            if aws.code_of(error) in ("NoSuchKey", "404"):
                raise ObjectMissing(f"{self._url}: {what} is gone", "list the landing zone again") from error
            raise self._refusal(what, error) from error
        restore = head.get("Restore", "")
        state: Literal["none", "under way", "done"] = "none"
        if 'ongoing-request="true"' in restore:
            state = "under way"
        elif 'ongoing-request="false"' in restore:
            state = "done"
        return head.get("StorageClass", "STANDARD"), state

    @contextmanager
    def ageing(self) -> Iterator[bool]:
        """S3 moves objects itself, by the bucket's rules; see `LandingZone.ageing`."""
        yield True

    def age(self, object_: LandedObject, place: Place, sha256: str) -> Place:
        """Where S3 has it; see `LandingZone.age`."""
        return object_.place

    # --- erasing; see `landing/erasing.py`

    @contextmanager
    def erasing(self) -> Iterator[bool]:
        """Each write says which version it is about; see `ErasableLanding.erasing`."""
        yield True

    def replace(self, object_: LandedObject, file: Path) -> None:
        """
        Put it on the condition that it is what it was, then delete its former versions; see `ErasableLanding.replace`.

        S3 says of it then that it landed now.
        """
        what, name, etag = f"object {object_.key!r}", self._prefix + object_.key, object_.token.rpartition("-")[0]
        put_id, sent = uuid4().hex, 0
        if file.stat().st_size > _MOST_PUT_BYTES:
            raise LandingError(
                f"{self._url}: {what} has more than {_MOST_PUT_BYTES:,} bytes, which can't be put at once",
                "have it removed whole",
            )
        head = self._head(what, name, etag)
        storage_class = head.get("StorageClass", "STANDARD")
        if storage_class in ARCHIVES:
            # There it couldn't be read, and its day is to be loaded; the bucket's rules will move it again.
            storage_class = "STANDARD"

        def put() -> None:
            nonlocal sent
            sent += 1
            try:
                with open(file, "rb") as body:
                    self._client.put_object(
                        Bucket=self._bucket,
                        Key=name,
                        Body=body,
                        IfMatch=f'"{etag}"',
                        StorageClass=storage_class,
                        ContentType=head.get("ContentType", "binary/octet-stream"),
                        Metadata={**head.get("Metadata", {}), _PUT_ID: put_id},
                    )
            except ClientError as error:
                if sent > 1 and aws.code_of(error) in ("PreconditionFailed", "412"):
                    there = self._client.head_object(Bucket=self._bucket, Key=name)
                    if there.get("Metadata", {}).get(_PUT_ID) == put_id:
                        return
                raise

        try:
            self._ask(what, put)
        except ClientError as error:
            if aws.code_of(error) in ("PreconditionFailed", "412"):
                raise self._other(what) from error
            if aws.code_of(error) in ("NoSuchKey", "404"):
                raise ObjectMissing(f"{self._url}: {what} is gone", "list the landing zone again") from error
            raise self._refusal(what, error) from error
        self._remove_former_of(object_.key)

    def remove(self, object_: LandedObject) -> None:
        """Delete it and its former versions; see `ErasableLanding.remove`."""
        what, name, etag = f"object {object_.key!r}", self._prefix + object_.key, object_.token.rpartition("-")[0]
        try:
            self._head(what, name, etag)
        except ObjectMissing:
            self._remove_former_of(object_.key)
            return
        self._ask(what, lambda: self._client.delete_object(Bucket=self._bucket, Key=name))
        self._remove_former_of(object_.key)

    def _head(self, what: str, name: str, etag: str) -> "HeadObjectOutputTypeDef":
        try:
            return self._ask(what, lambda: self._client.head_object(Bucket=self._bucket, Key=name, IfMatch=f'"{etag}"'))
        except ClientError as error:
            if aws.code_of(error) in ("PreconditionFailed", "412"):
                raise self._other(what) from error
            if aws.code_of(error) in ("NoSuchKey", "404"):
                raise ObjectMissing(f"{self._url}: {what} is gone", "list the landing zone again") from error
            raise self._refusal(what, error) from error

    def _other(self, what: str) -> ObjectChanged:
        return ObjectChanged(f"{self._url}: {what} isn't the one that was listed any more", "list it again")

    def former_versions(self, key: str = "") -> Iterator[FormerVersion]:
        """Versions that a bucket keeps, of one key or of all; see `ErasableLanding.former_versions`."""
        request: ListObjectVersionsRequestTypeDef = {"Bucket": self._bucket, "Prefix": self._prefix + key}
        while True:
            page = self._ask("listing versions", lambda: self._client.list_object_versions(**request))
            for one in page.get("Versions", ()):
                of = one["Key"].removeprefix(self._prefix)
                if not one["IsLatest"] and (not key or of == key):
                    at_hand = one.get("StorageClass", "STANDARD") not in ARCHIVES
                    yield FormerVersion(of, one["VersionId"], one["Size"], at_hand)
            if not page.get("IsTruncated"):
                return
            request["KeyMarker"], request["VersionIdMarker"] = page["NextKeyMarker"], page["NextVersionIdMarker"]

    def _remove_former_of(self, key: str) -> None:
        for former in list(self.former_versions(key)):
            self.remove_former(former)

    def open_former(self, former: FormerVersion) -> ObjectFile:
        """Open it; see `ErasableLanding.open_former`."""
        what = f"version {former.name} of {former.key!r}"

        def get() -> IO[bytes]:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + former.key, VersionId=former.name)
            spool = tempfile.SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115
            with closing(answer["Body"]) as body:
                while piece := body.read(SPOOL_BYTES):
                    spool.write(piece)
            if spool.tell() != answer["ContentLength"]:
                raise _Truncated(f"{spool.tell()} bytes of {answer['ContentLength']}")
            spool.seek(0)
            return spool

        try:
            return ObjectFile(cast(BinaryIO, self._ask(what, get)), _is_unchanged)
        except ClientError as error:
            if aws.code_of(error) in ("NoSuchKey", "NoSuchVersion", "404"):
                raise ObjectMissing(f"{self._url}: {what} is gone", "list the landing zone again") from error
            raise self._refusal(what, error) from error

    def remove_former(self, former: FormerVersion) -> None:
        """Delete it for good; see `ErasableLanding.remove_former`."""
        self._ask(
            f"deleting version {former.name} of {former.key!r}",
            lambda: self._client.delete_object(
                Bucket=self._bucket, Key=self._prefix + former.key, VersionId=former.name
            ),
        )

    @property
    def prefix(self) -> str:
        """Of the landing zone in its bucket; empty, or ends with `/`."""
        return self._prefix

    def lifecycle(self) -> dict[str, Any]:
        """The bucket's lifecycle configuration, as S3 gives it; no rules when it has none."""
        what = "the bucket's lifecycle"
        try:
            found = self._ask(what, lambda: self._client.get_bucket_lifecycle_configuration(Bucket=self._bucket))
        except ClientError as error:
            if aws.code_of(error) == "NoSuchLifecycleConfiguration":
                return {"Rules": []}
            raise self._refusal(what, error) from error
        return {name: value for name, value in found.items() if name != "ResponseMetadata"}

    def put_lifecycle(self, configuration: Mapping[str, Any]) -> None:
        """Set the bucket's lifecycle configuration, whole; without a rule, it has none any more."""
        what = "the bucket's lifecycle"
        rules = configuration["Rules"]
        more = {name: value for name, value in configuration.items() if name != "Rules"}
        try:
            if rules:
                self._ask(
                    what,
                    lambda: self._client.put_bucket_lifecycle_configuration(
                        Bucket=self._bucket, LifecycleConfiguration={"Rules": rules}, **more
                    ),
                )
            else:
                self._ask(what, lambda: self._client.delete_bucket_lifecycle(Bucket=self._bucket))
        except ClientError as error:
            raise self._refusal(what, error) from error

    # --- files

    def put_file_if_absent(self, key: str, file: Path, part_bytes: int) -> bool:
        """
        Write an object whole from a file, unless one is under that key already; see `LandingZone.put_file_if_absent`.

        An upload in parts that was begun for the key and not ended is gone on with: of its parts those count whose ETag is the MD5 of what
        would be sent. (Where the store's ETags are something else, as with keys of KMS, all parts are sent again.) An upload that is never
        gone on with stays until the bucket's own rule for incomplete uploads ends it.
        """
        check_key(key)
        what = f"object {key!r}"
        try:
            with open(file, "rb") as opened:
                size_bytes = os.fstat(opened.fileno()).st_size
                if size_bytes <= part_bytes:
                    return self.put_if_absent(key, opened.read())
                if any(there.key == key for there in islice(self.list(key), 1)):
                    return False
                part_bytes = max(part_bytes, -(-size_bytes // _MOST_PARTS))
                return self._put_parts(what, self._prefix + key, opened, size_bytes, part_bytes)
        except OSError as error:
            raise LandingError(
                f"{what}: {file} can't be read: {error.strerror or error}", "see to that file"
            ) from error

    def _put_parts(self, what: str, name: str, file: BinaryIO, size_bytes: int, part_bytes: int) -> bool:
        bucket = self._bucket
        begun, put_id = self._begun_upload(what, name), uuid4().hex
        upload = begun or self._ask(
            what,
            lambda: self._client.create_multipart_upload(Bucket=bucket, Key=name, Metadata={_PUT_ID: put_id})[
                "UploadId"
            ],
        )
        try:
            there = self._parts_there(what, name, upload) if begun else {}
            etags = [""] * -(-size_bytes // part_bytes)
            for number in range(1, len(etags) + 1):
                content = file.read(part_bytes)
                etag, sent_bytes = there.get(number, ("", 0))
                digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
                if (etag.strip('"'), sent_bytes) != (digest, len(content)):
                    etag = self._put_part(what, name, upload, number, content)
                etags[number - 1] = etag
            return self._complete(what, name, upload, etags, size_bytes, "" if begun else put_id)
        except ClientError as error:
            if aws.code_of(error) == "NoSuchUpload":
                # Somebody else has ended it: by completing it, or for good.
                if self._has_size(what, name, size_bytes):
                    return False
                raise LandingUnavailable(
                    f"{self._url}: {what}: its upload was ended by somebody else", "try again"
                ) from error
            if aws.code_of(error) == "InvalidPart":
                # Two went on with one upload, and the other's parts took the place of ours: what is there is no longer what we sent.
                raise LandingUnavailable(
                    f"{self._url}: {what}: somebody else is sending another file under this key", "try again"
                ) from error
            raise self._refusal(what, error) from error

    def _put_part(self, what: str, name: str, upload: str, number: int, content: bytes) -> str:
        def put() -> str:
            return self._client.upload_part(
                Bucket=self._bucket, Key=name, UploadId=upload, PartNumber=number, Body=content
            )["ETag"]

        return self._ask(what, put)

    def _begun_upload(self, what: str, name: str) -> str:
        """The newest upload that was begun for a key and not ended; empty without one."""
        request: ListMultipartUploadsRequestTypeDef = {"Bucket": self._bucket, "Prefix": name}
        found: list[tuple[datetime, str]] = []
        while True:
            page = self._ask(what, lambda: self._client.list_multipart_uploads(**request))
            found += [(one["Initiated"], one["UploadId"]) for one in page.get("Uploads", ()) if one["Key"] == name]
            if not page.get("IsTruncated"):
                return max(found)[1] if found else ""
            request["KeyMarker"], request["UploadIdMarker"] = page["NextKeyMarker"], page["NextUploadIdMarker"]

    def _parts_there(self, what: str, name: str, upload: str) -> dict[int, tuple[str, int]]:
        """Number → ETag and size of the parts that an upload has."""
        request: ListPartsRequestTypeDef = {"Bucket": self._bucket, "Key": name, "UploadId": upload}
        found: dict[int, tuple[str, int]] = {}
        while True:
            page = self._ask(what, lambda: self._client.list_parts(**request))
            found |= {one["PartNumber"]: (one["ETag"], one["Size"]) for one in page.get("Parts", ())}
            if not page.get("IsTruncated"):
                return found
            request["PartNumberMarker"] = page["NextPartNumberMarker"]

    def _complete(self, what: str, name: str, upload: str, etags: Sequence[str], size_bytes: int, put_id: str) -> bool:
        parts: Sequence[CompletedPartTypeDef] = [
            {"ETag": etag, "PartNumber": number} for number, etag in enumerate(etags, start=1)
        ]
        sent = 0

        def complete() -> bool:
            nonlocal sent
            sent += 1
            try:
                answer = self._client.complete_multipart_upload(
                    Bucket=self._bucket, Key=name, UploadId=upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
                )
            except ClientError as error:
                code = aws.code_of(error)
                ended = code in ("PreconditionFailed", "412")
                # When the answer to a completion is lost, the next attempt finds the upload ended and the object there. Whose it is
                # can't be told of an upload that somebody else had begun: its size must do.
                if sent > 1 and (ended or code == "NoSuchUpload") and self._has_size(what, name, size_bytes, put_id):
                    return True
                if not ended:
                    raise
                with suppress(ClientError):  # it has ended
                    self._client.abort_multipart_upload(Bucket=self._bucket, Key=name, UploadId=upload)
                return False
            if not answer.get("ETag"):
                raise _Truncated("an answer to a completed upload without an ETag")
            return True

        return self._ask(what, complete)

    def _has_size(self, what: str, name: str, size_bytes: int, put_id: str = "") -> bool:
        """Whether an object of that size is there, put by us where *put_id* says so."""
        try:
            head = self._ask(what, lambda: self._client.head_object(Bucket=self._bucket, Key=name))
        except ClientError as error:
            if aws.code_of(error) in ("404", "NoSuchKey"):
                return False
            raise
        return head["ContentLength"] == size_bytes and put_id in ("", head.get("Metadata", {}).get(_PUT_ID))

    def _ask(self, what: str, call: Callable[[], T]) -> T:
        """
        Send one request until there is an answer.

        Raises:
            ClientError: the store refused it, and will again: missing, changed.
            LandingError: refused for a reason that is the same for every request.
            LandingUnavailable: no answer after every attempt.
        """
        started = time.monotonic()
        last: Exception
        attempt = 0
        while True:
            attempt += 1
            try:
                return call()
            except ClientError as error:
                if not aws.is_busy(error, _BUSY_CODES):
                    if aws.code_of(error) in _ABOUT_THE_OBJECT:
                        raise
                    raise self._refusal(what, error) from error
                last, hint = error, "the store is busy: try again later, or with fewer threads"
            except (*aws.BROKEN, FlexibleChecksumError, _Truncated) as error:
                last, hint = error, f"check the network, and AWS_ENDPOINT_URL: it was sent to {self._endpoint}"
            except BotoCoreError as error:
                raise LandingError(f"{self._url}: {what}: {aws.first_line(error)}", aws.CREDENTIALS) from error
            if attempt >= self._waits.attempts:
                seconds = time.monotonic() - started
                raise LandingUnavailable(
                    f"{self._url}: {what}: no usable answer after {attempt} attempts in {seconds:.1f} s; the last: {aws.told(last)}",
                    hint,
                ) from last
            time.sleep(self._waits.after(attempt))

    def _refusal(self, what: str, error: ClientError) -> LandingError:
        """What the store refuses, in words that help. The store's own text is left out where it may echo the request's signature."""
        code, status = aws.code_of(error), aws.status_of(error)
        where = f"{self._url}: {what}: {aws.told(error)}"
        if code == "NoSuchBucket" or (what.startswith("listing") and status == 404):
            return LandingError(
                f"{self._url}: there is no bucket {self._bucket!r} at {self._endpoint}",
                "create it, or set INGESTION_LANDING and AWS_ENDPOINT_URL",
            )
        if (
            code in ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
            or status == 301
        ):
            return LandingError(where, "the bucket is in another region: set AWS_REGION")
        if code in ("AccessDenied", "AllAccessDisabled", "403") and (
            "lifecycle" in what or what.startswith("fetching")
        ):
            return LandingError(
                where,
                "allow s3:RestoreObject, s3:GetLifecycleConfiguration and s3:PutLifecycleConfiguration to who runs this",
            )
        if code in ("AccessDenied", "AllAccessDisabled", "403"):
            return LandingError(
                where,
                "allow s3:ListBucket, s3:GetObject and s3:PutObject here to the user or role that runs this (to forget a person also"
                " s3:DeleteObject, s3:ListBucketVersions, s3:GetObjectVersion and s3:DeleteObjectVersion); and for files in parts"
                " s3:ListBucketMultipartUploads, s3:ListMultipartUploadParts and s3:AbortMultipartUpload",
            )
        if code in ("ExpiredToken", "InvalidToken", "TokenRefreshRequired") or (
            status in (401, 403) and code != "InvalidObjectState"
        ):
            return LandingError(where, f"{aws.CREDENTIALS}; and this machine's clock")
        if code == "InvalidObjectState":
            return ObjectCold(
                f"{where}: it is in an archive, and not at hand",
                "a load of its day asks S3 to restore it, and says about when it is there",
            )
        return LandingError(f"{where}: {aws.message_of(error)}", "see whether this store knows the request")


def _is_unchanged() -> None:
    """What was fetched under its ETag is the object that was listed."""


def _split(url: str) -> tuple[str, str]:
    """Bucket and prefix of an S3 URL; a prefix that isn't empty ends with `/`."""
    hint = "as in s3://bucket/prefix"
    bucket, _, prefix = re.sub(r"^s3://", "", url, flags=re.IGNORECASE).partition("/")
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}", bucket) is None:
        # Not shown: people do write key:secret@bucket.
        raise LandingError("the landing zone's URL doesn't start with s3:// and the name of a bucket", hint)
    prefix = prefix.rstrip("/")
    if not prefix:
        return bucket, ""
    check_key(prefix)
    return bucket, f"{prefix}/"
