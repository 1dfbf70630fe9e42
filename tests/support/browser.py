"""Looking at a page with headless Chromium, without a driver: the page stands in a frame of the wanted width, a script
asks it.

The page itself holds no script; the one that asks runs in the surrounding document.
"""

from __future__ import annotations

import base64
import html
import importlib.util
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


def chromium() -> str:
    """The browser's path; skips the test where there is none."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        pytest.skip("needs chromium on PATH (make browser), then: pytest -m browser tests/report")
    return found


def axe_source() -> str:
    """The accessibility checker: the file named by AXE_CORE, or the one inside the package axe-core-python."""
    if named := os.environ.get("AXE_CORE"):
        return Path(named).read_text(encoding="utf-8")
    spec = importlib.util.find_spec("axe_core_python")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(
            "needs axe-core: pip install axe-core-python, or AXE_CORE=path/to/axe.min.js, then: pytest -m browser "
            "tests/report"
        )
    return (Path(spec.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8")


def ask(page: bytes, question: str, folder: Path, *, width: int, dark: bool = False, height: int = 900) -> object:
    """Evaluate `question` (JavaScript, may await) against a page shown `width` wide.

    `page` is the document, `view` its window, `await resize(width)` changes the width.
    """
    outer = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>frame</title>
<iframe id="frame" title="page" style="border:0" width="{width}" height="{height}"
  srcdoc="{html.escape(page.decode("utf-8"), quote=True)}"></iframe>
<pre id="answer">WAITING</pre>
<script>window.onload = async () => {{
  const frame = document.getElementById("frame"), view = frame.contentWindow, page = view.document;
  const resize = async (width) => {{ frame.width = width; await new Promise(done => setTimeout(done, 50)); }};
  let answer;
  try {{ answer = JSON.stringify(await (async () => {{ {question} }})()); }}
  catch (error) {{ answer = JSON.stringify("FAILED " + error); }}
  document.getElementById("answer").textContent = "ANSWER" + btoa(unescape(encodeURIComponent(answer))) + "!";
}}</script></html>"""
    place = folder / "frame.html"
    place.write_text(outer, encoding="utf-8")
    text = _run(["--virtual-time-budget=60000", "--dump-dom", *_scheme(dark), place.as_uri()], folder)
    answer = re.search(r'<pre id="answer">ANSWER([A-Za-z0-9+/=]+)!', text)
    assert answer, f"the page gave no answer: {text[-300:]}"
    return json.loads(base64.b64decode(answer[1]))


def quoted(source: str) -> str:
    """JavaScript source as a string literal that may stand inside a script element."""
    return json.dumps(source).replace("</", "<\\/").replace("<!--", "<\\!--")


def _scheme(dark: bool) -> list[str]:
    return [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]


def _run(arguments: list[str], folder: Path) -> str:
    profile = folder / "profile"
    done = subprocess.run(
        [chromium(), *_FLAGS, f"--user-data-dir={profile}", *arguments], capture_output=True, timeout=120, check=True
    )
    shutil.rmtree(profile, ignore_errors=True)
    return done.stdout.decode("utf-8", "replace")
