"""
Photograph Dagster's UI with a headless Chromium: the asset graph, an asset's partitions, a check.

    python scripts/screenshot.py http://127.0.0.1:3000 docs/screenshots

Needs Debian's packages chromium and chromium-driver. It starts no server: `make dev` does.
"""

import argparse
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
SETTLED_SECONDS = 2.0
"""A page whose text and requests have stood still for so long has loaded; the UI polls less often than it draws."""


@contextmanager
def browser(width: int, height: int) -> Iterator[webdriver.Chrome]:
    """A Chromium with an empty profile of its own, ended and swept up afterwards."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        raise SystemExit("screenshot: needs chromium and chromedriver (hint: apt install chromium chromium-driver)")
    with tempfile.TemporaryDirectory(prefix="screenshot-", ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in (*FLAGS, f"--window-size={width},{height}", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            yield chrome
        finally:
            chrome.quit()


def resize(chrome: webdriver.Chrome, width: int, height: int) -> None:
    """Make the page exactly so large; a window's size would count Chromium's own frame."""
    chrome.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
    )


def wait_until_settled(chrome: webdriver.Chrome, expected: str, timeout_seconds: float) -> None:
    """Return once the page shows *expected* and has stopped changing."""
    deadline = time.monotonic() + timeout_seconds
    state: tuple[str, int] | None = None
    since = time.monotonic()
    while time.monotonic() < deadline:
        try:
            # The UI counts down to its next refresh; that is no change.
            text = re.sub(r"\d+:\d\d", "", chrome.find_element(By.TAG_NAME, "body").text)
        except StaleElementReferenceException:
            text = ""
        requests = chrome.execute_script("return performance.getEntriesByType('resource').length")
        is_waiting = expected not in text or "Loading" in text
        if is_waiting or (text, requests) != state:
            state, since = (text, requests), time.monotonic()
        elif time.monotonic() - since >= SETTLED_SECONDS:
            return
        time.sleep(0.2)
    raise SystemExit(
        f"screenshot: {chrome.current_url} doesn't show {expected!r}, or hasn't come to rest in {timeout_seconds:.0f} s"
        " (hint: is it the right asset or check, and has it been materialized?)"
    )


def dismiss_invitation(chrome: webdriver.Chrome) -> None:
    """Close the invitation that a fresh instance greets its first visitor with."""
    for button in chrome.find_elements(By.XPATH, "//button[normalize-space()='Skip']"):
        button.click()


def expand_groups(chrome: webdriver.Chrome) -> None:
    """Open every group of the asset graph, as alt-E does for a person."""
    ActionChains(chrome).key_down(Keys.ALT).send_keys("e").key_up(Keys.ALT).perform()


def zoom_out(chrome: webdriver.Chrome, times: int) -> None:
    """Zoom the graph out: opening its groups makes it larger than the page."""
    _, out, *_ = chrome.find_elements(By.CSS_SELECTOR, "button[class^='SVGViewport_iconButton']")
    for _ in range(times):
        out.click()


def main(arguments: list[str]) -> None:
    """Read the command line, take the pictures, say where they are."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("url", help="of the UI: http://127.0.0.1:3000")
    parser.add_argument("folder", type=Path, help="where the PNG files go")
    parser.add_argument("--asset", default="processed/sales", help="whose partitions and checks are shown")
    parser.add_argument("--check", default="row_balance", help="the check that is shown")
    parser.add_argument("--partition", default="", help="the partition that is shown: 2024-10-02")
    parser.add_argument("--page", action="append", default=[], metavar="NAME=PATH", help="one more page: runs=/runs")
    parser.add_argument("--size", default="1900x1500", help="of the window, in pixels")
    parser.add_argument("--zoom-out", type=int, default=7, help="steps to zoom the asset graph out")
    parser.add_argument("--timeout", type=float, default=60, help="seconds a page may take to load")
    options = parser.parse_args(arguments)
    table = options.asset.rsplit("/", 1)[-1]
    pages = [
        ("asset-graph", "/asset-groups", "Global asset lineage"),
        ("partitions", f"/assets/{options.asset}?view=partitions&partition={options.partition}", table),
        ("check", f"/assets/{options.asset}?view=checks&checkDetail={options.check}", options.check),
        *((name, path, "") for name, path in (page.split("=", 1) for page in options.page)),
    ]
    width, height = (int(side) for side in options.size.split("x"))
    options.folder.mkdir(parents=True, exist_ok=True)
    with browser(width, height) as chrome:
        for name, path, expected in pages:
            resize(chrome, width, height)
            try:
                chrome.get(options.url.rstrip("/") + path)
            except WebDriverException as error:
                reason = (error.msg or "").splitlines()[0]
                raise SystemExit(f"screenshot: {options.url}: {reason} (hint: start `make dev` first)") from error
            wait_until_settled(chrome, expected, options.timeout)
            dismiss_invitation(chrome)
            if name == "asset-graph":
                expand_groups(chrome)
                expected = table
            wait_until_settled(chrome, expected, options.timeout)
            if name == "asset-graph":
                zoom_out(chrome, options.zoom_out)
                wait_until_settled(chrome, expected, options.timeout)
            target = options.folder / f"{name}.png"
            if not chrome.save_screenshot(str(target)):
                raise SystemExit(f"screenshot: can't write {target}")
            print(target)


if __name__ == "__main__":
    main(sys.argv[1:])
