"""Makes the pictures of the README from a finished run: `.venv/bin/python docs/make_pictures.py [WORKDIR]`.

`run.svg` is what the terminal shows at the end of the latest run; `star.png` and `ring.png` are test pictures of
shapes10.
"""

from __future__ import annotations

import io
import pathlib
import re
import sys

import PIL.Image
from rich.console import Console

from components import shapes
from pipeline import display, progress, results
from pipeline.workdir import Workdir

HERE = pathlib.Path(__file__).resolve().parent


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


def main(workdir: str) -> None:
    """Writes the pictures beside this file."""
    (HERE / "run.svg").write_text(terminal(Workdir(workdir).find(evaluated=True)))
    for name in ("star", "ring"):
        images, labels = shapes.draw(range(100), "test")
        (index,) = [k for k in range(100) if shapes.CLASSES[labels[k]] == name][:1]
        PIL.Image.fromarray(images[index]).save(HERE / f"{name}.png")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "workdir")
