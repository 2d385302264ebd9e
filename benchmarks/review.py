"""How fast the page of ``fastcell review`` is: time to the first cells, frames while scrolling, thumbnails, memory.

The data set has many rows over few stored cells (`linked_rows`). The command runs in a process of its own and a
headless Chromium opens its page, with software rendering where there is no GPU; server and browser share the cores.
Each round starts both anew. Scrolling is by the mouse wheel, as fast as the browser takes its turns, through cells that
were not shown before; a frame counts when the browser calls `requestAnimationFrame`. Thumbnails are asked for by two
connections, without a browser, sheets of 64 that no one has asked for.

    python benchmarks/review.py [--rows 1000000] [--rounds 5] [--scratch FOLDER]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from harness import Result
from linked_rows import SHARD_CELLS, make_rows

from fastcell.simulator.synth import synthesize

SIDE = 112  # of a thumbnail on the page [px], the first setting
SCROLL_S = 5.0
WHEEL_PX = 250
WHEEL_EVERY_S = 0.03
SHEETS = 100
CONNECTIONS = 2
WHAT = {
    "start": "from the command to the printed address",
    "first cells": "from opening the address to the first drawn cells, browser running",
    "reload": "the same for a reload of the page",
    "filter": "from a click on a class to its first drawn cells",
    "end": "from the key End to the drawn last cells",
    "frames": "frames in a second while the wheel turns, all cells new",
    "longest frame": "longest time between two frames while the wheel turns",
    "thumbnails": "drawn and sent in a second, cells in the file cache",
    "memory": "resident memory of the server after all of this",
    "memory, start": "resident memory of the server before the page is opened",
}


@dataclass
class Measured:
    """One quantity.

    Attributes:
        quantity: name, see `WHAT`.
        what: in one line.
        unit: of the values.
        value: median over the rounds.
        low, high: smallest and largest round.
        num_rounds: n.
    """

    quantity: str
    what: str
    unit: str
    value: float
    low: float
    high: float
    num_rounds: int


def main():
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="cells of the set (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="starts of server and browser (%(default)s)")
    parser.add_argument("--stored", type=int, default=20_000, help="synthetic cells that are stored (%(default)s)")
    parser.add_argument("--scratch", type=Path, help="folder for the set (the system's temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        base = synthesize(Path(folder) / "stored", options.stored, 0, shard_cells=SHARD_CELLS, jobs=1)
        data = make_rows(base, Path(folder) / "rows", options.rows).path
        rounds = [one_round(data) for _ in range(options.rounds + 1)][1:]  # the first fills caches
    rows = []
    for name, what in WHAT.items():
        values = [found[name][0] for found in rounds]
        rows.append(
            Measured(name, what, rounds[0][name][1], float(np.median(values)), min(values), max(values), len(values))
        )
        print(f"{name:15} {rows[-1].value:10.3f} ({min(values):.3f} to {max(values):.3f}) {rows[-1].unit}")
    settings = {"rows": options.rows, "stored": options.stored, "side_px": SIDE}
    print(f"wrote {Result('review', 'rows that share stored synthetic cells', settings, rows).save()}")


def one_round(data):
    """Return each quantity with its unit, of one start of server and browser."""
    found = {}
    with served(data) as (process, url, start_s):
        found["start"] = start_s, "s"
        found["memory, start"] = resident_mb(process.pid), "MB"
        with opened(url) as (page, first_s):
            found["first cells"] = first_s, "s"
            found["reload"] = seconds(page.reload, page), "s"
            found["filter"] = seconds(lambda: page.locator("#histograms li input").first.click(), page, filtered), "s"
            page.locator("#terms button", has_text="All cells").click()
            page.wait_for_timeout(500)
            page.locator("#scroller").focus()
            found["end"] = seconds(lambda: page.keyboard.press("End"), page, at_the_end), "s"
            page.keyboard.press("Home")
            page.wait_for_timeout(500)
            frames, longest = frames_while_scrolling(page)
            found["frames"], found["longest frame"] = (frames, "1/s"), (longest, "s")
            cookie = "; ".join(f"{one['name']}={one['value']}" for one in page.context.cookies())
            found["thumbnails"] = thumbnails_per_s(urlsplit(url).netloc, cookie), "1/s"
        found["memory"] = resident_mb(process.pid), "MB"
    return found


@contextmanager
def served(data):
    """Start the command; give its process, the address of the page, and the time until it was printed [s]."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "fastcell", "review", str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield process, line.split()[-1], time.perf_counter() - start
        finally:
            process.terminate()


@contextmanager
def opened(url):
    """Open a page in a new browser; give it, and the time to the first drawn cells [s]."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = next(filter(None, map(shutil.which, names)))
    with sync_playwright() as drive:
        browser = drive.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto("about:blank")
        yield page, seconds(lambda: page.goto(url, wait_until="commit"), page)
        browser.close()


DRAWN = """() => {
  const cells = [...document.querySelectorAll('.tile:not([hidden])')];
  return cells.length > 20 && cells.every((one) => one.querySelector('.picture').style.backgroundImage.startsWith('url')
    && one.querySelector('.said').textContent !== '');
}"""


def drawn(page):
    """Return whether every cell in sight has its picture and its words."""
    return bool(page.evaluate(DRAWN))


def filtered(page):
    """Return whether a part of the cells is shown, and drawn."""
    return " of " in page.inner_text("#count") and drawn(page)


def at_the_end(page):
    """Return whether the last cell is in sight, and drawn."""
    num = int(page.inner_text("#count").split()[0].replace(",", ""))
    return page.locator(f"#cell-{num - 1}").count() > 0 and drawn(page)


def seconds(act, page, until=drawn):
    """Do something with a page; return the time until it shows what it should [s]."""
    start = time.perf_counter()
    act()
    while True:
        try:
            if until(page):
                return time.perf_counter() - start
        except Exception as error:
            if "context was destroyed" not in str(error):
                raise
        if time.perf_counter() - start > 60:
            raise TimeoutError("the page shows no cells")
        time.sleep(0.005)


FRAMES = """() => {
  window.times = [];
  const note = (time) => { window.times.push(time); requestAnimationFrame(note); };
  requestAnimationFrame(note);
  return document.querySelector('#scroller').scrollTop;
}"""


def frames_while_scrolling(page):
    """Turn the mouse wheel; return frames in a second, and the longest time between two of them [s]."""
    page.mouse.move(900, 500)
    before = page.evaluate(FRAMES)
    end = time.perf_counter() + SCROLL_S
    while time.perf_counter() < end:
        page.mouse.wheel(0, WHEEL_PX)
        time.sleep(WHEEL_EVERY_S)
    moved = page.evaluate("document.querySelector('#scroller').scrollTop") - before
    assert moved > WHEEL_PX, moved
    times = np.array(page.evaluate("window.times")) / 1e3
    return float((len(times) - 1) / (times[-1] - times[0])), float(np.diff(times).max())


def thumbnails_per_s(host, cookie):
    """Return the number of thumbnails that come in a second."""
    asked = http.client.HTTPConnection(host)
    headers = {"cookie": cookie, "content-type": "application/json"}
    asked.request("POST", "/api/view", json.dumps({"terms": []}), headers)
    view = json.loads(asked.getresponse().read())
    blocks = np.random.default_rng(os.getpid()).permutation(view["count"] // 64)[: SHEETS * CONNECTIONS]

    def fetch(part):
        connection = http.client.HTTPConnection(host)
        for block in part.tolist():
            path = f"/sheet/{view['view']}/{block}?size=128&stretch=0&common=0"
            connection.request("GET", path, headers={"cookie": cookie})
            assert connection.getresponse().read()[:2] == b"\xff\xd8"

    start = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(fetch, np.array_split(blocks, CONNECTIONS)))
    return len(blocks) * 64 / (time.perf_counter() - start)


def resident_mb(pid):
    """Return the resident memory of a process [MB]."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
