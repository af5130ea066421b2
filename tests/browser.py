"""A real headless Chromium, driven over chromedriver's HTTP interface.

Source: W3C, "WebDriver" (2018), for the commands; the Chrome DevTools Protocol for the size of a phone.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.request
from base64 import b64decode
from pathlib import Path
from typing import Any, Self

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_SWITCHES = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--hide-scrollbars")
_LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Browser:
    """One window. Use it as a context: at the end browser and driver are stopped."""

    def __init__(self, profile: Path) -> None:
        self._profile = profile

    def __enter__(self) -> Self:
        assert DRIVER is not None
        self._driver = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True)
        assert self._driver.stdout is not None
        port = next(line.rsplit(" ", 1)[1].strip(" .\n") for line in self._driver.stdout if "successfully on port" in line)
        self._address = f"http://127.0.0.1:{port}/session"
        asked = {"browserName": "chrome", "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}, "goog:chromeOptions": {
            "binary": CHROMIUM, "args": [*_SWITCHES, f"--user-data-dir={self._profile}"]}}
        self._address += "/" + self._send("POST", "", {"capabilities": {"alwaysMatch": asked}})["sessionId"]
        return self

    def __exit__(self, *_: object) -> None:
        self._send("DELETE", "")
        self._driver.terminate()
        self._driver.wait(10)
        assert self._driver.stdout is not None
        self._driver.stdout.close()

    def open(self, page: Path, width: int, height: int) -> None:
        """Load a file at a size in CSS pixels, below 600 as a phone would; messages and requests begin anew."""
        self._send("POST", "/url", {"url": "about:blank"})
        for forget in (self.messages, self.requests):
            forget()
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._command("Emulation.setDeviceMetricsOverride", metrics)
        self._send("POST", "/url", {"url": page.resolve().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """What `return` in the script hands back."""
        return self._send("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def press(self, selector: str, keys: str) -> None:
        """Type into the first element that matches, as a keyboard would."""
        element = self._send("POST", "/element", {"using": "css selector", "value": selector})[_ELEMENT]
        self._send("POST", f"/element/{element}/value", {"text": keys})

    def click(self, selector: str) -> None:
        element = self._send("POST", "/element", {"using": "css selector", "value": selector})[_ELEMENT]
        self._send("POST", f"/element/{element}/click", {})

    def messages(self) -> list[str]:
        """What the console has said since it was last asked."""
        return [entry["message"] for entry in self._send("POST", "/se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """Addresses that were asked for since it was last asked; what the page holds itself (data:) is no request."""
        events = [json.loads(entry["message"])["message"] for entry in self._send("POST", "/se/log", {"type": "performance"})]
        asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [address for address in asked if not address.startswith("data:")]

    def screenshot(self, path: Path) -> None:
        path.write_bytes(b64decode(self._send("GET", "/screenshot")))

    def print(self) -> bytes:
        """The page as a PDF on A4."""
        sheet = {"page": {"width": 21.0, "height": 29.7}, "background": True}
        return b64decode(self._send("POST", "/print", sheet))

    def _command(self, name: str, parameters: dict[str, Any]) -> None:
        self._send("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def _send(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._address + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with _LOCAL.open(request, timeout=60) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {json.load(error)['value']['message']}") from None
