"""Chromium without a window, driven over two pipes by its DevTools protocol: nothing else to install."""

import json
import os
import shutil
import subprocess
import tempfile
import time


def path():
    """Of the browser: $CHROMIUM, else the first on the PATH. None where there is none."""
    given = os.environ.get("CHROMIUM")
    if given:
        return given if os.access(given, os.X_OK) else None
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if found := shutil.which(name):
            return found
    return None


class Failed(Exception):
    """The browser ended, or did not answer in time."""


class Browser:
    """One browser with one tab. Closes both and removes its folder when left."""

    def __init__(self, executable, timeout_s=240):
        self.timeout_s = timeout_s
        self.events = []
        self._last_id = 0
        self._buffer = b""
        self._home = tempfile.mkdtemp(prefix="loracle-report-")
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        # The protocol speaks on descriptors 3 and 4.
        root = "--no-sandbox" if os.geteuid() == 0 else ""
        script = (f'exec "$0" --headless {root} --disable-gpu --hide-scrollbars --remote-debugging-pipe '
                  f'--no-first-run --user-data-dir="$1" about:blank 3<&{to_read} 4>&{to_write} 2>/dev/null')
        self._process = subprocess.Popen(["bash", "-c", script, executable, self._home],
                                         pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL)
        os.close(to_read)
        os.close(to_write)
        self._session = None
        page = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self._to)
        os.close(self._from)
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._home, ignore_errors=True)

    def call(self, method, **parameters):
        """The result of a command; what happens meanwhile is kept in `events`."""
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data):]
        while True:
            answer = self._receive()
            if answer.get("id") == self._last_id:
                if "error" in answer:
                    raise Failed(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def _receive(self):
        deadline = time.monotonic() + self.timeout_s
        os.set_blocking(self._from, False)
        while b"\0" not in self._buffer:
            try:
                got = os.read(self._from, 1 << 20)
                if not got:
                    raise Failed("the browser ended")
                self._buffer += got
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Failed("the browser did not answer in time") from None
                time.sleep(0.01)
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def evaluate(self, expression):
        """The value of a JavaScript expression, promises waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise Failed(json.dumps(answer["exceptionDetails"])[:500])
        return answer["result"].get("value")

    def view(self, width, height=900, dark=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, file):
        """A fresh page, once every chart has been drawn or has failed."""
        self.events.clear()
        self.call("Page.navigate", url=file.resolve().as_uri())
        self.drawn()

    def drawn(self):
        """Waits until no chart is being drawn."""
        deadline = time.monotonic() + self.timeout_s
        done = ("document.readyState === 'complete' && location.protocol === 'file:' && "
                "[...document.querySelectorAll('[data-chart]')].every("
                "e => 'drawn' in e.dataset || 'failed' in e.dataset)")
        while not self.evaluate(done):
            if time.monotonic() > deadline:
                raise Failed("charts are not drawn in time")
            time.sleep(0.05)

    def complaints(self):
        """Errors that the page caused: exceptions, console errors, what the browser logs."""
        found = []
        for event in self.events:
            what = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(json.dumps(what["exceptionDetails"])[:400])
            elif event.get("method") == "Runtime.consoleAPICalled" and what["type"] in ("error", "warning"):
                found.append(json.dumps(what["args"])[:400])
            elif event.get("method") == "Log.entryAdded" and what["entry"]["level"] == "error":
                found.append(what["entry"]["text"])
        return found

    def fetched(self):
        """Addresses other than the file's own that the page asked for."""
        urls = [event["params"]["request"]["url"] for event in self.events
                if event.get("method") == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith(("file:", "data:", "about:"))]
