"""The page in headless Chromium: upload, run, compare, download, cancel, bad files, painted regions, a narrow screen.

``python tests/app/browser.py --out out/browser`` starts a server and prints a table; the screenshots are to be looked
at. It needs Debian's chromium and chromium-driver, and selenium. No test of the suite: ``make test-app`` calls it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "apps" / "style_transfer" / "pictures"
CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
WIDE, NARROW = (1360, 860), (390, 844)


@contextmanager
def server(*options: str) -> Iterator[str]:
    """Run ``serve`` on a free port and give its address."""
    command = [sys.executable, "-m", "apps.style_transfer", "serve", "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if found := re.search(r"http://\S+", line):
                    yield found.group()
                    return
            raise RuntimeError("the server did not start")
        finally:
            process.terminate()
            process.communicate(timeout=30)


@contextmanager
def chromium(downloads: Path) -> Iterator[webdriver.Chrome]:
    """Run a Chromium that resolves no name and reaches nothing but this machine."""
    options = Options()
    options.binary_location = CHROMIUM
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    ):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """The page as somebody uses it, with a record of what held."""

    def __init__(self, driver: webdriver.Chrome, address: str, out: Path) -> None:
        self.driver, self.address, self.out = driver, address, out
        self.rows: list[tuple[str, bool, str]] = []
        self.wait = WebDriverWait(driver, 120, poll_frequency=0.1)

    def row(self, what: str, held: bool, detail: object = "") -> None:
        self.rows.append((what, bool(held), str(detail)))

    def open(self, size: tuple[int, int]) -> None:
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == NARROW}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": size == NARROW})
        self.driver.get(self.address)
        self.until(lambda: len(self.driver.find_elements(By.NAME, "named")) >= 12)

    def until(self, condition: Callable[[], Any]) -> Any:
        return self.wait.until(lambda _: condition())

    def js(self, code: str, *arguments: object) -> Any:
        return self.driver.execute_script(code, *arguments)

    def at(self, name: str) -> Any:
        return self.driver.find_element(By.ID, name)

    def click(self, name: str) -> None:
        self.js("arguments[0].scrollIntoView({block: 'center'})", self.at(name))
        self.at(name).click()

    def shot(self, name: str) -> None:
        time.sleep(0.3)
        self.driver.save_screenshot(str(self.out / f"{name}.png"))

    def photograph(self, path: Path) -> None:
        before = self.at("after").get_attribute("src")
        self.at("content").send_keys(str(path))
        self.until(lambda: self.at("after").get_attribute("src") != before)

    def choose(self, name: str) -> None:
        self.js(f"document.querySelector('input[value=\"{name}\"]').click()")

    def size(self, pixels: int) -> None:
        code = "const s = arguments[0]; s.value = arguments[1]; s.form.dispatchEvent(new Event('input'))"
        self.js(code, self.at("size"), pixels)

    def says(self) -> str:
        return str(self.at("say").text)

    def steps(self) -> int:
        return len(self.driver.find_elements(By.CSS_SELECTOR, "#steps li"))

    def run(self) -> None:
        self.click("go")
        self.until(lambda: self.at("download").is_displayed() or "bad" in str(self.at("say").get_attribute("class")))

    def jobs(self) -> int:
        with urllib.request.urlopen(f"{self.address}/api/v1/health") as answer:
            return int(json.load(answer)["jobs"])

    def loaded(self) -> bool:
        code = "return [...document.querySelectorAll('#steps img, #compare img')].every(i => i.naturalWidth > 0)"
        return bool(self.js(code))

    def ready(self, canvas: str) -> bool:
        """Whether a canvas has the size of its picture, and no longer that of an empty one."""
        return bool(self.js("return Math.max(arguments[0].width, arguments[0].height) > 300", self.at(canvas)))

    def media(self, **features: str) -> None:
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": listed})

    def overflows(self) -> bool:
        return bool(self.js("return document.documentElement.scrollWidth > innerWidth"))


def check(address: str, out: Path) -> list[tuple[str, bool, str]]:
    """Use the page at an address as people do; return rows of what, whether it held, and details."""
    out.mkdir(parents=True, exist_ok=True)
    downloads = out / "downloads"
    downloads.mkdir(exist_ok=True)
    photograph = out / "photograph.jpg"
    with Image.open(PICTURES / "great-wall.jpg") as picture:
        exif = Image.Exif()
        exif[0x010E], exif[0x0112] = "a wall", 1
        picture.save(photograph, exif=exif, quality=95)
        portrait = out / "portrait.jpg"
        picture.crop((0, 0, picture.height * 2 // 3, picture.height)).save(portrait)
    with chromium(downloads) as driver:
        page = Page(driver, address, out)
        _wide(page, photograph, downloads)
        _refusals(page, photograph)
        _regions(page, photograph)
        _narrow(page, portrait)
        _quiet(page)
    return page.rows


def _wide(page: Page, photograph: Path, downloads: Path) -> None:
    page.open(WIDE)
    page.shot("1-empty")
    page.row("nothing can be run yet", not page.at("go").is_enabled())
    page.photograph(photograph)
    page.choose("hokusai-great-wave")
    page.shot("2-chosen")
    seen = set()
    page.click("go")
    while not page.at("download").is_displayed():
        count = page.steps()
        if count not in seen and count == 3:
            page.shot("3-running")
        seen.add(count)
        time.sleep(0.05)
    page.row("upload and run", page.steps() == 5, page.says())
    page.row("progress with pictures of the steps", len(seen - {0, 5}) >= 2, f"saw {sorted(seen)} pictures")
    loaded = page.until(page.loaded)
    page.shot("4-done")
    handle = page.at("split")
    style = "return getComputedStyle(document.getElementById('before')).clipPath"
    before = page.js(style)
    handle.send_keys(Keys.HOME)
    far = page.js(style)
    ActionChains(page.driver).move_to_element(handle).click_and_hold().move_by_offset(200, 0).release().perform()
    page.row("compare, by mouse and by keys", loaded and len({before, far, page.js(style)}) == 3, page.js(style))
    page.shot("5-compared")
    page.click("download")
    name = page.at("download").get_attribute("download")
    page.until(lambda: (downloads / name).exists())
    with Image.open(downloads / name) as kept, Image.open(photograph) as original:
        whole = kept.size == original.size and kept.getexif()[0x010E] == "a wall"
    page.row("download at full size, with metadata", whole, name)
    page.media(prefers_color_scheme="dark")
    page.shot("6-dark")
    page.media()
    page.js("document.querySelector('details').open = true")
    page.click("go")
    page.until(lambda: page.steps() >= 1)
    page.click("cancel")
    page.until(lambda: page.says() == "Cancelled.")
    page.until(lambda: page.jobs() == 0)
    page.row("cancel frees the slot", page.at("go").is_enabled(), page.says())
    page.shot("7-cancelled")


def _refusals(page: Page, photograph: Path) -> None:
    page.open(WIDE)
    bad = page.out / "bad.jpg"
    bad.write_text("<svg onload=alert(1)>")
    page.photograph(bad)
    page.choose("mucha-reverie")
    page.run()
    page.shot("8-bad")
    page.row("a bad file: one line", "no" in page.says() and page.at("go").is_enabled(), page.says())
    named = page.out / "<img src=x onerror=document.title=1>.jpg"
    named.write_bytes(photograph.read_bytes())
    page.photograph(named)
    page.at("style").send_keys(str(named))
    page.until(lambda: "<img" in page.at("credit").text)
    page.size(256)
    page.run()
    safe = page.js("return document.title === 'unroll-style' && !document.querySelector('img[src=x]')")
    download = page.at("download")
    page.row("HTML in names is text", safe and download.is_displayed(), download.get_attribute("download"))
    named.unlink()


def _regions(page: Page, photograph: Path) -> None:
    page.open(WIDE)
    page.photograph(photograph)
    page.choose("van-gogh-olive-trees")
    page.size(320)
    page.js("document.querySelector('details').open = true")
    page.click("paint")
    page.until(lambda: page.ready("paint-style"))
    for name in ("paint-content", "paint-style"):
        drag = ActionChains(page.driver).move_to_element_with_offset(page.at(name), -100, -60).click_and_hold()
        for _ in range(3):
            drag = drag.move_by_offset(200, 20).move_by_offset(-200, 20)
        drag.release().perform()
    page.shot("9-regions")
    page.driver.find_element(By.CSS_SELECTOR, "#painter form button").click()
    page.until(lambda: "change" in page.at("paint").text)
    page.run()
    page.shot("10-regions-done")
    page.row("regions painted in the page", page.at("download").is_displayed(), page.says())


def _narrow(page: Page, photograph: Path) -> None:
    page.open(NARROW)
    page.shot("11-narrow-empty")
    wide = [page.overflows()]
    page.photograph(photograph)
    page.choose("kandinsky-composition-vii")
    page.size(320)
    page.js("document.querySelector('details').open = true; scrollTo(0, 400)")
    page.shot("12-narrow-chosen")
    page.run()
    wide.append(page.overflows())
    page.js("scrollTo(0, 0)")
    page.until(page.loaded)
    page.shot("13-narrow-done")
    page.click("paint")
    page.until(lambda: page.ready("paint-content"))
    page.shot("14-narrow-regions")
    wide.append(page.overflows())
    page.driver.find_element(By.CSS_SELECTOR, "#painter form button").click()
    small = page.js(
        "return [...document.querySelectorAll('button, .button, select')].filter(b => b.offsetParent && "
        "b.getBoundingClientRect().height < 40).map(b => b.id || b.textContent)"
    )
    small = [name for name in small if not name.startswith(("step", "before"))]
    page.row("a narrow screen: nothing sticks out, nothing too small to hit", not any(wide) and not small, small)


def _quiet(page: Page) -> None:
    """Nothing was asked of anybody else, and the console has no complaint but of what was refused on purpose."""
    asked = set()
    for entry in page.driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.add(message["params"]["request"]["url"])
    outside = sorted(url for url in asked if not url.startswith((f"{page.address}/", f"blob:{page.address}/", "data:")))
    page.row("no outside address", not outside, f"{len(asked)} addresses" if not outside else outside[:3])
    complaints = [entry["message"] for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"]
    unexpected = [line for line in complaints if "422" not in line]
    page.row("nothing in the console", not unexpected, unexpected[:3])


def main() -> int:
    """Run it against a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/browser"))
    out = parser.parse_args().out.resolve()
    if missing := [program for program in (CHROMIUM, DRIVER) if not Path(program).exists()]:
        parser.error(f"there is no {missing[0]}: apt-get install chromium chromium-driver")
    with server() as address:
        rows = check(address, out)
    for what, held, detail in rows:
        sys.stdout.write(f"{'holds' if held else 'FAILS'}  {what}: {detail}\n")
    return 0 if all(held for _, held, _ in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
