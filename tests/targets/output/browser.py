"""Drives a headless Chromium: opens a page, runs a script in it, and returns what it found."""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",  # containers run as root and have no user namespaces
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-extensions",
    "--hide-scrollbars",
    "--no-first-run",
    "--force-device-scale-factor=1",
    "--enable-logging=stderr",
)
PROBE = """<script>
addEventListener("load", () => {
  let found;
  try { found = (() => { %s })(); } catch (error) { found = { failed: String(error) }; }
  parent.postMessage(JSON.stringify(found), "*");
});
</script></body>"""
# A window cannot be as narrow as a phone, a frame can.
FRAME = """<!doctype html><pre id="probe"></pre>
<iframe src="%s" style="width:%dpx;height:900px;border:0"></iframe>
<script>
const probe = document.getElementById("probe");
addEventListener("message", event => { probe.textContent = event.data; });
</script>"""


def browser() -> str | None:
    """The path of an installed browser."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def run(page: Path, address: str, width: int, script: str, folder: Path) -> dict:
    """{"found": what `script` returns, "console": lines that the page logged, errors included}."""
    probed, frame = folder / "probed.html", folder / "frame.html"
    text = page.read_text(encoding="utf-8").replace("</body>", PROBE % script)
    probed.write_text(text, encoding="utf-8")
    frame.write_text(FRAME % (html.escape(f"probed.html{address}"), width), encoding="utf-8")
    done = subprocess.run(
        [
            str(browser()),
            *OPTIONS,
            f"--user-data-dir={folder / 'profile'}",
            "--window-size=1400,1000",
            "--virtual-time-budget=2000",
            "--dump-dom",
            f"file://{frame}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "HOME": str(folder)},
    )
    probe = re.search(r'<pre id="probe">(.+?)</pre>', done.stdout, re.S)
    assert probe, done.stdout[-2000:] + done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return {"found": json.loads(html.unescape(probe[1])), "console": console}
