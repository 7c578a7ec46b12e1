"""Makes the pictures of the README from a finished run: `.venv/bin/python docs/make_pictures.py [WORKDIR]`.

`run.svg` is what the terminal shows at the end of the latest run; `report.png` and `report-dark.png` are the top of
its report in Chromium, and `report-class.png` its worst class; `star.png` and `ring.png` are test pictures of
shapes10.
"""

from __future__ import annotations

import io
import pathlib
import re
import shutil
import sys
import tempfile

import PIL.Image
from playwright import sync_api
from rich.console import Console

from components import shapes
from core.workdir import Workdir
from pipeline import display, progress
from review import results, run_report

HERE = pathlib.Path(__file__).resolve().parent
WIDTH = 1180  # pixels of the page


def terminal(found: dict) -> str:
    """The end of the run as SVG."""
    console = Console(record=True, width=100, highlight=False, file=io.StringIO(), force_terminal=True)
    console.print(f"[bold]$ alexnet run --preset {found['preset']}[/]")
    nodes = {
        name: progress.Node(state=node["state"], seconds=node["seconds"]) for name, node in found["nodes"].items()
    }
    console.print(display.live(progress.Run(nodes, status="")))
    display.summary(console, found)
    verdict = results.verdict(found)
    console.print(f"\n{verdict[0].upper()}{verdict[1:]}.", style="bold", markup=False)
    picture = console.export_svg(title="alexnet")
    return re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)  # nothing is loaded from elsewhere


def pages(page_file: pathlib.Path) -> None:
    """Screenshots of a report."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for scheme, name in (("light", "report"), ("dark", "report-dark")):
            page = browser.new_page(color_scheme=scheme, viewport={"width": WIDTH, "height": 1320})
            page.goto(page_file.as_uri())
            save(page.screenshot(), HERE / f"{name}.png")
            if scheme == "light":
                save(page.locator("details.class").first.screenshot(), HERE / "report-class.png", 780)
            page.close()
        browser.close()


def save(png: bytes, path: pathlib.Path, height: int | None = None) -> None:
    """With 256 colours, which is plenty for a page, and a third of the size; cut at a height in pixels."""
    image = PIL.Image.open(io.BytesIO(png)).convert("RGB")
    image = image.crop((0, 0, image.width, min(image.height, height or image.height)))
    image.quantize(256, dither=PIL.Image.Dither.NONE).save(path, optimize=True)


def main(folder: str) -> None:
    """Writes the pictures beside this file."""
    workdir = Workdir(folder)
    found = workdir.find(evaluated=True)
    (HERE / "run.svg").write_text(terminal(found))
    with tempfile.TemporaryDirectory() as shown:
        page = pathlib.Path(shown, "report.html")
        text = run_report.find(workdir, found).read_text()
        page.write_text(text.replace(f"{workdir.path.parent}/", ""))  # paths as seen from the checkout
        pages(page)
    for name in ("star", "ring"):
        images, labels = shapes.draw(range(100), "test")
        (index,) = [k for k in range(100) if shapes.CLASSES[labels[k]] == name][:1]
        PIL.Image.fromarray(images[index]).save(HERE / f"{name}.png")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "workdir")
