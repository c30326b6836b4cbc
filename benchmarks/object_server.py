"""
As much of S3 as the platform asks of it, at the level of HTTP, on 127.0.0.1: over a folder, or over a million objects that are nowhere.

    python benchmarks/object_server.py --folder …                       # the files under a folder; keys are their paths
    python benchmarks/object_server.py --days 345 --a-day 2900 --new 100    # objects by rule; the last day has some more

Listings are ListObjectsV2's, a thousand keys a page, made as they are asked for. It writes its port to standard output. Test servers
that do more answer some hundred requests a second, and would be what is measured: this one answers thousands.

Belongs here: serving. Doesn't: what is measured against it (`items/day.py`, `items/tick.py`).
"""

import argparse
import asyncio
import hashlib
import subprocess
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "bench"
PAGE = 1000
LANDED = "2024-10-01T20:00:00.000Z"


class Catalogue:
    """
    The objects: keys in order, and size and ETag of each.

    Args:
        found: key → size and ETag.
    """

    def __init__(self, found: Mapping[str, tuple[int, str]], folder: Path | None = None) -> None:
        self._found = found
        self._keys = sorted(found)
        self._folder = folder

    def page(self, prefix: str, after: str) -> bytes:
        """A page of a listing."""
        begin = max(bisect_left(self._keys, prefix), bisect_right(self._keys, after))
        end = bisect_left(self._keys, prefix + "\U0010ffff") if prefix else len(self._keys)
        keys = self._keys[begin : min(begin + PAGE, end)]
        items = "".join(
            f"<Contents><Key>{escape(quote(key))}</Key><LastModified>{LANDED}</LastModified>"
            f"<ETag>&quot;{self._found[key][1]}&quot;</ETag><Size>{self._found[key][0]}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for key in keys
        )
        has_more = begin + PAGE < end
        more = f"<NextContinuationToken>{escape(keys[-1])}</NextContinuationToken>" if has_more else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{BUCKET}</Name><EncodingType>url</EncodingType><KeyCount>{len(keys)}</KeyCount><MaxKeys>{PAGE}</MaxKeys>"
            f"<IsTruncated>{str(has_more).lower()}</IsTruncated>{more}{items}</ListBucketResult>"
        ).encode()

    def object(self, key: str) -> tuple[bytes, str] | None:
        """Content and ETag."""
        if key not in self._found:
            return None
        size, etag = self._found[key]
        return (self._folder / key).read_bytes() if self._folder is not None else made(key)[:size], etag


def made(key: str) -> bytes:
    """Content of an object that is made by rule: a header of the tills and one row, of which no two are the same."""
    import tills

    store, day = key.rpartition("/")[2].removesuffix(".csv"), "-".join(key.split("/")[1:4])
    row = f"{store}-{day},{store},{day} 10:00:00,P00001,1,2.50,2.50,cash,C000001,\n"
    return (tills.HEADER + row).encode()


def of_folder(folder: Path) -> Catalogue:
    """The files that are in it now."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found[path.relative_to(folder).as_posix()] = (len(content), hashlib.md5(content).hexdigest())
    return Catalogue(found, folder)


def by_rule(first: date, days: int, a_day: int, new: int) -> Catalogue:
    """So many days of so many objects; the last day has *new* more."""
    found = {}
    for number in range(days):
        day = first + timedelta(days=number)
        for store in range(a_day + (new if number == days - 1 else 0)):
            key = f"tills/{day:%Y/%m/%d}/S{store:05}.csv"
            found[key] = (len(made(key)), etag_of(key))
    return Catalogue(found)


def etag_of(key: str) -> str:
    """Of an object that is made by rule."""
    return hashlib.md5(made(key)).hexdigest()


class Answering(asyncio.Protocol):
    """
    One connection: requests without bodies, one after the other.

    Args:
        catalogue: what is served.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._left = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where answers go."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        self._left += data
        while b"\r\n\r\n" in self._left:
            head, _, self._left = self._left.partition(b"\r\n\r\n")
            self._answer(head.decode("latin-1"))

    def _answer(self, head: str) -> None:
        line, *rest = head.split("\r\n")
        method, target, _ = line.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in rest)}
        parts = urlsplit(target)
        _, _, key = parts.path.removeprefix("/").partition("/")
        asked = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if method not in ("GET", "HEAD"):
            self._send(501, b"<Error><Code>NotImplemented</Code><Message>it only reads</Message></Error>")
            self._transport.close()
        elif not key:
            after = max(asked.get("start-after", ""), asked.get("continuation-token", ""))
            self._send(200, self._catalogue.page(asked.get("prefix", ""), after))
        elif (found := self._catalogue.object(unquote(key))) is None:
            self._send(404, b"<Error><Code>NoSuchKey</Code><Message>it isn't there</Message></Error>")
        else:
            content, etag = found
            if headers.get("if-match", f'"{etag}"') != f'"{etag}"':
                self._send(412, b"<Error><Code>PreconditionFailed</Code><Message>it is another one</Message></Error>")
                return
            more = f'ETag: "{etag}"\r\nLast-Modified: Tue, 01 Oct 2024 20:00:00 GMT\r\n'
            status = 200
            if (wanted := headers.get("range", "")).startswith("bytes="):
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                end = min(int(last or len(content) - 1), len(content) - 1)
                more += f"Content-Range: bytes {int(first)}-{end}/{len(content)}\r\n"
                content, status = content[int(first) : end + 1], 206
            self._send(status, content, more, has_body=method == "GET")

    def _send(self, status: int, body: bytes, more: str = "", *, has_body: bool = True) -> None:
        head = f"HTTP/1.1 {status} -\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        self._transport.write(head.encode() + (body if has_body else b""))


def start(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple["subprocess.Popen[str]", int]:
    """Start a server in a process of its own, once it listens; it and its port."""
    process = subprocess.Popen(
        [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, env=dict(environment)
    )
    assert process.stdout is not None, "it was asked for"
    told = process.stdout.readline().strip()
    if not told:
        raise SystemExit(f"the S3 server over {' '.join(arguments)} didn't start")
    return process, int(told)


async def _serve(catalogue: Catalogue) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Answering(catalogue), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve until it is ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--first", type=date.fromisoformat, default=date(2024, 1, 1))
    parser.add_argument("--days", type=int, default=1)
    parser.add_argument("--a-day", type=int, default=1)
    parser.add_argument("--new", type=int, default=0)
    chosen = parser.parse_args()
    catalogue = (
        of_folder(chosen.folder) if chosen.folder else by_rule(chosen.first, chosen.days, chosen.a_day, chosen.new)
    )
    asyncio.run(_serve(catalogue))


if __name__ == "__main__":
    main()
