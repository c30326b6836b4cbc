"""Decisions about the quarantine as a person makes them: in Dagster's UI, by a headless Chromium, and by the command line; twice each."""

import contextlib
import gzip
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import ElementClickInterceptedException, StaleElementReferenceException
from selenium.webdriver.common.by import By

from ingestion_platform.warehouse import quarantine
from ingestion_platform.warehouse.quarantine import Chosen
from ingestion_platform_tests.end_to_end.places import SALT, Place
from ingestion_platform_tests.example import FIRST, HEADER, land_example, put, sale

ROOT = Path(__file__).parent.parent.parent
LOCATION = "ingestion_platform.definitions"
HOME = """
telemetry: {enabled: false}
run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}
"""
"""Runs start when they are launched: no daemon is needed."""
UNKNOWN_PRODUCT = "product_id: not in products.product_id"
BROKEN = "quantity: not INTEGER"
PATIENCE_SECONDS = 240.0
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1600,1400",
)  # fmt: skip


def environment(place: Place) -> dict[str, str]:
    """Of the platform's processes."""
    settings = place.settings
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(place.root),
        "PYTHONPATH": str(ROOT),
        "DAGSTER_HOME": str(place.root / "dagster"),
        "INGESTION_LANDING": settings.landing,
        "INGESTION_WAREHOUSE": str(settings.warehouse),
        "INGESTION_PUBLISH": str(settings.publish),
        "INGESTION_TIMEZONE": settings.timezone,
        "INGESTION_PII_SALT": SALT,
    }


def wait_for(found: Callable[[], bool], what: str) -> None:
    """Return once it is so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not found():
        assert time.monotonic() < deadline, f"{what} hasn't come"
        time.sleep(0.2)


@contextmanager
def webserver(place: Place) -> Iterator[str]:
    """Dagster's UI over a deployment; the answer is its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (place.root / "dagster").mkdir()
    (place.root / "dagster" / "dagster.yaml").write_text(HOME)
    log = place.root / "webserver.log"
    with log.open("w") as said:
        server = subprocess.Popen(
            [sys.executable, "-m", "dagster_webserver", "-m", LOCATION, "-h", "127.0.0.1", "-p", str(port)],
            cwd=place.root, env=environment(place), stdout=said, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def is_up() -> bool:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    try:
        wait_for(is_up, "the webserver")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


@contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    """A browser with an empty profile of its own."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            yield chrome
        finally:
            chrome.quit()


class Person:
    """Somebody before the UI."""

    def __init__(self, chrome: webdriver.Chrome, url: str) -> None:
        self.chrome = chrome
        self.url = url

    @property
    def page(self) -> str:
        """What he reads."""
        try:
            return self.chrome.find_element(By.TAG_NAME, "body").text
        except StaleElementReferenceException:
            return ""

    def open(self, path: str, expected: str) -> None:
        """Go to a page."""
        self.chrome.get(self.url + path)
        wait_for(lambda: expected in self.page, f"{expected!r} at {path}")
        for button in self.chrome.find_elements(By.XPATH, "//button[normalize-space()='Skip']"):
            button.click()

    def launch(self, job: str, config: str, expected: str) -> None:
        """Put a configuration into a job's launchpad, launch it, and wait until its run says what is expected."""
        self.open(f"/locations/{LOCATION}/jobs/{job}/playground", "Launch Run")
        editor = "return document.querySelector('.CodeMirror') && document.querySelector('.CodeMirror').CodeMirror"
        wait_for(lambda: bool(self.chrome.execute_script(f"{editor} ? true : false")), "the editor")
        self.chrome.execute_script("document.querySelector('.CodeMirror').CodeMirror.setValue(arguments[0])", config)

        def is_launched() -> bool:
            buttons = self.chrome.find_elements(By.XPATH, "//button[normalize-space()='Launch Run']")
            if buttons and buttons[0].is_enabled() and "/runs/" not in self.chrome.current_url:
                # Dagster's greeting may come up late, and lies over all else.
                for button in self.chrome.find_elements(By.XPATH, "//button[normalize-space()='Skip']"):
                    button.click()
                with contextlib.suppress(ElementClickInterceptedException):
                    buttons[0].click()
            return "/runs/" in self.chrome.current_url

        wait_for(is_launched, f"the run of {job}")
        wait_for(lambda: "Success" in self.page or "Failure" in self.page, f"the end of {job}")
        wait_for(lambda: expected in self.page, f"{expected!r} in {self.page}")
        assert "Succeeded (1)" in self.page


def config(action: str, rule: str) -> str:
    """What a person writes at the launchpad."""
    return (
        f"ops:\n  decide:\n    config:\n      action: {action}\n      dataset: sales\n      by: Thandi\n"
        f"      why: seen with the shop\n      rules: ['{rule}']\n"
    )


def landed(root: Path) -> Place:
    """The example, with a sale of a product that nobody knows yet beside the broken one; loaded and computed."""
    place = Place(root)
    land_example(place.landing_folder)
    unknown = sale("T4", FIRST).replace("P00001", "P00009")
    put(
        place.landing_folder,
        f"sales/{FIRST:%Y/%m/%d}/S0001.csv",
        (HEADER + sale("T1", FIRST) + sale("T2", FIRST, "many") + unknown).encode(),
    )
    work(place, "stores", "products", "sales")
    return place


def work(place: Place, *names: str) -> None:
    """Load and process the first day of these."""
    with place.open() as warehouse:
        for name in names:
            warehouse.load(warehouse.datasets[name], FIRST)
            warehouse.process(warehouse.datasets[name], FIRST)


def learn_product(place: Place) -> None:
    """The list of products comes anew, with the one that was missing."""
    products = "product_id;product_name;category;list_price_zar\nP00001;Rooibos;Tea;12.50\nP00009;Honeybush;Tea;9.50\n"
    put(
        place.landing_folder,
        "reference/products/year=2024/month=10/day=01/products.csv.gz",
        gzip.compress(products.encode()),
    )
    work(place, "products")


STATES: tuple[quarantine.State, ...] = ("open", "discarded")


def state(place: Place) -> tuple[int, int, list[str]]:
    """Open and discarded rows, and what is in the table."""
    with place.open() as warehouse:
        counts = [quarantine.total(warehouse, Chosen(dataset="sales", state=one)) for one in STATES]
        rows = warehouse.query("select transaction_id from processed.sales order by 1").to_pylist()
    return counts[0], counts[1], [row["transaction_id"] for row in rows]


@pytest.mark.timeout(1200)
def test_rows_are_discarded_and_redriven_through_the_ui(tmp_path: Path) -> None:
    """The launchpad takes the configuration, the run says what came of it, the asset shows it; launching again changes nothing."""
    place = landed(tmp_path)
    assert state(place) == (2, 0, ["T1"])
    with webserver(place) as url, chromium() as chrome:
        person = Person(chrome, url)
        person.launch("quarantine", config("discard", BROKEN), "1 rows of 1 objects are discarded by Thandi")
        assert state(place) == (1, 1, ["T1"])
        person.launch("quarantine", config("discard", BROKEN), "nothing to do: 1 rows are discarded already")
        learn_product(place)
        person.launch("quarantine", config("redrive", UNKNOWN_PRODUCT), "of 1 rows 1 are in the table now")
        assert state(place) == (0, 1, ["T1", "T4"])
        person.launch(
            "quarantine", config("redrive", UNKNOWN_PRODUCT), "nothing is open in quarantine that is like this"
        )
        assert state(place) == (0, 1, ["T1", "T4"])
        person.open(f"/assets/processed/sales?view=partitions&partition={FIRST}", "discarded")
        assert "3 read = 2 processed + 0 duplicates + 1 quarantined (0 open, 1 discarded)" in person.page
        replay = f"ops:\n  replay_days:\n    config:\n      dataset: sales\n      first: '{FIRST}'\n      by: Thandi\n"
        person.launch("certified_replay", replay, "all equal")
        person.open(f"/assets/processed/sales?view=events&partition={FIRST}", "certificate")
    with place.open() as warehouse:
        told = [one.kind for one in quarantine.history(warehouse, warehouse.datasets["sales"])]
    assert told == ["discard", "redrive"]


def command(place: Place, *words: str) -> str:
    """What a command says, when it succeeds."""
    done = subprocess.run(
        [sys.executable, "-m", "ingestion_platform", *words], cwd=place.root, env=environment(place), capture_output=True, text=True,
        timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(600)
def test_rows_are_discarded_and_redriven_through_the_command_line(tmp_path: Path) -> None:
    """The same by commands, each twice: the second says that there is nothing to do, and every step stands in the history."""
    place = landed(tmp_path)
    who = ("--by", "Thandi", "--why", "seen with the shop")
    discard = ("quarantine", "discard", "--dataset", "sales", "--rule", BROKEN, *who)
    redrive = ("quarantine", "redrive", "--dataset", "sales", "--rule", UNKNOWN_PRODUCT, *who)
    assert "quantity: 'many' is not exactly of type INTEGER" in command(
        place, "quarantine", "list", "--dataset", "sales"
    )
    assert "1 rows of 1 objects are discarded by Thandi" in command(place, *discard)
    assert "nothing to do: 1 rows are discarded already" in command(place, *discard)
    learn_product(place)
    assert "of 1 rows 1 are in the table now" in command(place, *redrive)
    assert "nothing is open in quarantine that is like this" in command(place, *redrive)
    assert state(place) == (0, 1, ["T1", "T4"])
    told = command(place, "quarantine", "history", "--dataset", "sales").splitlines()
    assert [line.split()[3] for line in told[::2]] == ["discard", "redrive"]
    replayed = command(place, "replay", "--dataset", "sales", "--first", str(FIRST), "--certificate", "--by", "Thandi")
    assert "all equal" in replayed
