"""Draw the picture of README.md: errors and confusions in the report of a run on Jurkat cells.

fastcell pack jurkat cells --name Jurkat
fastcell fit cells --preset fast --trainer.max_epochs 30
fastcell report runs/NAME
python docs/report_picture.py runs/NAME/report.html
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).resolve().parent / "images" / "report.webp"
WIDTH, NUM_ROWS, NUM_COLORS = 1000, 1, 48


def draw(report: Path) -> None:
    """Write `PICTURE`: the section on cells and errors, to the end of the first row of cells."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 800}, color_scheme="light")
        page.goto(report.resolve().as_uri())
        page.wait_for_timeout(500)
        top = page.evaluate("document.querySelector('#cells').getBoundingClientRect().top + scrollY")
        cards = "[...document.querySelectorAll('#gallery .card')].map(e => e.getBoundingClientRect().bottom + scrollY)"
        bottoms = sorted(set(page.evaluate(cards)))
        bottom = bottoms[NUM_ROWS - 1] + 12
        shot = page.screenshot(full_page=True, clip={"x": 0, "y": top, "width": WIDTH, "height": bottom - top})
        browser.close()
    image = Image.open(io.BytesIO(shot)).convert("RGB").quantize(NUM_COLORS, dither=Image.Dither.NONE)
    PICTURE.parent.mkdir(exist_ok=True)
    image.convert("RGB").save(PICTURE, lossless=True, quality=100, method=6)
    print(f"{PICTURE}: {image.size[0]} x {image.size[1]} pixels, {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
