"""
Pages a second from an API into the landing zone, against a bare client that asks the same server for the same pages.

    .venv/bin/python benchmarks/fetch.py                       # 600 pages of 200 records, one after the other
    .venv/bin/python benchmarks/fetch.py --requests 600        # as many requests of one page each, four at a time
    .venv/bin/python benchmarks/fetch.py --sizes 300 600 1200  # memory over growing input, in pages

Each side runs in a process of its own, one after the other, `--rounds` times; what counts is the ratio of the medians. The bare client
(`http.client`, one kept connection; a thread for each with `--requests`) parses each page to find the next one, and appends its body to a
file. Ours is all of a fetch: asking, paging, checking where the records are, Parquet groups, the note. What has landed must be what was
served before a time counts.
"""

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.sides import Side, in_turn, medians, parser, ran_as_side

RECORDS = 200
DAY = date(2024, 10, 1)
ROWS_OF = 4
"""Requests at a time with `--requests`."""


class Server(BaseHTTPRequestHandler):
    """`/things?page=n` and `/things/n`, each with the same number of records."""

    protocol_version = "HTTP/1.1"
    # As every real server has it: a body behind its headers would wait 40 ms for an acknowledgement.
    disable_nagle_algorithm = True
    pages = 0

    def do_GET(self) -> None:
        """Answer."""
        parts = urlsplit(self.path)
        number = int(parse_qs(parts.query).get("page", ["0"])[0]) or int(parts.path.rpartition("/")[2] or 0)
        items = [
            {
                "id": number * RECORDS + one,
                "name": f"thing {one}",
                "price": f"{one}.50",
                "tags": ["a", "b"],
                "at": "2024-10-01T08:00:00Z",
            }
            for one in range(RECORDS)
        ]
        more = number < self.pages and parts.query
        body = json.dumps({"items": items, "next": f"/things?page={number + 1}" if more else None}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def serve(pages: int) -> None:
    """Serve until the process is ended; says its port."""
    Server.pages = pages
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def bare(folder: Path, out: Path) -> int:
    """What a script of ten lines does."""
    told = json.loads((folder / "told.json").read_text())
    lock, found = threading.Lock(), 0

    def ask(path: str) -> None:
        nonlocal found
        connection = http.client.HTTPConnection("127.0.0.1", told["port"])
        with (out / "pages.jsonl").open("ab") as file:
            while path:
                connection.request("GET", path)
                body = connection.getresponse().read()
                page = json.loads(body)
                with lock:
                    file.write(body + b"\n")
                    found += len(page["items"])
                path = page["next"] or ""
        connection.close()

    if told["requests"]:
        with ThreadPoolExecutor(ROWS_OF) as pool:
            list(pool.map(ask, [f"/things/{number}" for number in range(1, told["requests"] + 1)]))
    else:
        ask("/things?page=1")
    return found


def ours(folder: Path, out: Path) -> int:
    """A fetch."""
    from ingestion_platform.api import Api, EachValue, Endpoint, NextLink, OnePage
    from ingestion_platform.format import Json
    from ingestion_platform.landing import open_landing
    from ingestion_platform.sources.fetch import Fetch
    from ingestion_platform.sources.fetched import LandedEndpoint
    from ingestion_platform.sources.http_client import Access, ApiClient
    from ingestion_platform.sources.pace import Pace

    told = json.loads((folder / "told.json").read_text())
    api = Api(name="things", base_url="https://api.example.com", concurrency=ROWS_OF)
    each: list[Mapping[str, str]] = [{}]
    if told["requests"]:
        each = [{"thing": str(number)} for number in range(1, told["requests"] + 1)]
        endpoint = Endpoint(
            name="things", description="Things.", api=api, path="/things/{thing}", format=Json("items[*]"), paging=OnePage(),
            each=EachValue("thing", ("1",)), first_day=DAY,
        )  # fmt: skip
    else:
        endpoint = Endpoint(
            name="things", description="Things.", api=api, path="/things", params={"page": "1"}, format=Json("items[*]"),
            paging=NextLink("next"), first_day=DAY,
        )  # fmt: skip
    access = Access(f"http://127.0.0.1:{told['port']}", private_hosts=True)
    with ApiClient(api, access, Pace(None, None)) as client:
        landed = LandedEndpoint(endpoint, open_landing(str(out)))
        return Fetch(landed, client, ZoneInfo("UTC")).run(DAY, each).records


SIDES: Mapping[str, Side] = {"bare": bare, "ours": ours}


def compare(pages: int, requests: int, rounds: int) -> dict[str, dict[str, float]]:
    """Both sides on the same server."""
    number = requests or pages
    server = subprocess.Popen([sys.executable, sys.argv[0], "--serve", str(pages)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "told"
            folder.mkdir()
            (folder / "told.json").write_text(json.dumps({"port": port, "requests": requests}))
            found = {side: medians(runs) for side, runs in in_turn(SIDES, folder, rounds).items()}
    finally:
        server.terminate()
        server.wait()
    for side, middle in found.items():
        if middle["rows"] != number * RECORDS:
            raise SystemExit(f"{side}: {middle['rows']:,.0f} records of {number * RECORDS:,}")
    return found


def main() -> None:
    """Measure, and print."""
    arguments: argparse.ArgumentParser = parser(__doc__)
    arguments.add_argument("--pages", type=int, default=600)
    arguments.add_argument("--requests", type=int, default=0)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--sizes", type=int, nargs="*", default=[])
    arguments.add_argument("--serve", type=int, default=0, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.serve:
        serve(chosen.serve)
        return
    if ran_as_side(chosen, SIDES):
        return
    for pages in chosen.sizes:
        found = compare(pages, 0, 1)
        print(f"{pages:,} pages: peak memory {found['ours']['peak_mb']:,.0f} MB")
    if chosen.sizes:
        return
    number = chosen.requests or chosen.pages
    found = compare(chosen.pages, chosen.requests, chosen.rounds)
    for side, middle in found.items():
        print(
            f"{side}: {number / middle['wall_seconds']:,.0f} pages/s, {middle['wall_seconds']:.2f} s wall,"
            f" {middle['cpu_seconds']:.2f} s CPU, {middle['peak_mb']:,.0f} MB"
        )
    print(f"ours / bare: {found['bare']['wall_seconds'] / found['ours']['wall_seconds']:.2f} of its pages a second")


if __name__ == "__main__":
    main()
