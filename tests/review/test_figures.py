"""Figures for papers: complete, legible, and true to names that a TeX or SVG parser could trip over."""

import io
import sys
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import PIL.Image
import pytest
from report_data import make_report
from run_data import examples, predict, write_run

from core.workdir import Workdir
from pipeline import cli
from review import figures, history
from review.report import build
from trainer import figures as shared

NAMES = ("$x_1$", "_under_", "<script>&", "100 %", "bell\a")
ALL = {
    "training_curves", "confusion_matrix", "confusion_matrix_percent", "worst_mistakes", "reliability", "history",
    "class_recall",
}  # fmt: skip


def texts(svg):
    """What stands in an SVG file as text."""
    return {"".join(part.itertext()) for part in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")}


@pytest.fixture
def workdir(tmp_path):
    """Two runs, the second with the report of another evaluation on the same classes, with pictures."""
    made = Workdir(tmp_path / "work")
    split = examples(NAMES, 40)
    for k in (1, 2):
        write_run(made, f"2026010{k}-000000", predict(split, 0.6 + k / 10, k))
    told, pictures = make_report(names=NAMES, count=40)
    folder = made.run("20260102-000000")
    (folder / build.REPORT).write_text(build.to_json(told))
    (folder / build.PICTURES).write_bytes(build.zipped(pictures))
    return made


def run(*arguments):
    cli.main(["figures", *map(str, arguments)], standalone_mode=False)


def test_every_figure_is_written_as_png_and_svg(workdir, tmp_path, capsys):
    output = tmp_path / "new" / "figures"
    output.mkdir(parents=True)
    (output / "history.png").write_text("old")
    (output / "mine.txt").write_text("mine")
    run("--workdir", workdir.path, "--output", output)
    told = capsys.readouterr()
    assert set(told.out.split()) == {str(output / f"{name}.{form}") for name in ALL for form in ("png", "svg")}
    assert {file.stem for file in output.iterdir()} == ALL | {"mine"}
    assert (output / "mine.txt").read_text() == "mine"
    assert told.err == ""
    for file in output.glob("*.png"):
        with PIL.Image.open(file) as image:
            assert round(image.info["dpi"][0]) == 200
            assert image.width >= 600
    for file in output.glob("*.svg"):
        assert len(texts(file.read_text())) > 3


def test_names_are_text_and_never_mathematics(workdir, tmp_path):
    run("--workdir", workdir.path, "--output", tmp_path)
    for name in ("confusion_matrix", "class_recall"):
        assert {"$x_1$", "_under_", "<script>&", "100 %", "bell�"} <= texts((tmp_path / f"{name}.svg").read_text())
    assert {"$x_1$", "_under_"} & texts((tmp_path / "history.svg").read_text())
    assert {"is $x_1$", "is _under_"} & texts((tmp_path / "worst_mistakes.svg").read_text())


def test_the_same_run_gives_the_same_files(workdir, tmp_path):
    for folder in ("a", "b"):
        run("--workdir", workdir.path, "--output", tmp_path / folder)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_what_a_run_lacks_is_left_out_and_said(workdir, tmp_path, capsys):
    run("--workdir", workdir.path, "--run", "20260101", "--output", tmp_path)
    told = capsys.readouterr()
    assert {file.stem for file in tmp_path.glob("*.svg")} == ALL - {"worst_mistakes", "history"}
    assert "Left out worst_mistakes: the report holds no pictures of mistakes." in told.err
    assert "Left out history: it is the first evaluation of these data." in told.err


def test_a_bad_output_is_a_users_mistake(workdir, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        run("--workdir", workdir.path, "--output", tmp_path / "file")
    assert ended.value.code == 2
    assert f"--output {tmp_path / 'file'}" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        run("--workdir", workdir.path, "--run", "2030", "--output", tmp_path / "unmade")
    assert ended.value.code == 2
    assert not (tmp_path / "unmade").exists()


def test_pictures_are_drawn_pixel_by_pixel():
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 0] = 255
    svg = shared.save(shared.draw_pictures([(image, "cat", "dog", 0.9)]), "svg").decode()
    assert "image-rendering:pixelated" in svg
    png = shared.save(shared.draw_pictures([(image, "cat", "dog", 0.9)]), "png")
    with PIL.Image.open(io.BytesIO(png)) as drawn:
        greys = np.asarray(drawn.convert("L"))
    middle = greys[: greys.shape[0] // 2, : greys.shape[1] // 2]
    assert ((middle > 10) & (middle < 245)).mean() < 0.05  # no shades between black and white


def test_the_worst_mistakes_are_the_most_confident_ones(workdir):
    made, _ = figures.draw(workdir, workdir.find("20260102"))
    shown = [text.get_text() for axes in made["worst_mistakes"].axes for text in axes.texts]
    shares = [int(text.rsplit(" ", 1)[1].rstrip("%")) for text in shown[1::2]]
    assert shares == sorted(shares, reverse=True)
    assert all(text.startswith("✗ ") for text in shown[1::2])


def test_the_confusion_matrix_holds_counts_or_shares_of_the_row():
    counts = np.array([[90, 10, 0], [0, 2, 1], [0, 0, 0]])
    written = [
        [text.get_text() for text in shared.draw_confusion_matrix(counts, "abc", percent).axes[0].texts]
        for percent in (False, True)
    ]
    assert written[0] == ["90", "10", "", "", "2", "1", "", "", ""]
    assert written[1] == ["90.0", "10.0", "", "", "66.7", "33.3", "", "", ""]


@pytest.mark.parametrize(
    ("classes", "numbers", "names"), [(2, True, True), (25, True, True), (60, False, True), (200, False, False)]
)
def test_what_cannot_be_read_is_not_drawn(classes, numbers, names):
    counts = np.random.default_rng(0).integers(1, 999, (classes, classes))
    figure = shared.draw_confusion_matrix(counts, [f"class {k}" for k in range(classes)])
    axes = figure.axes[0]
    assert bool(axes.texts) == numbers
    assert ([label.get_text() for label in axes.get_yticklabels()][:1] == ["class 0"]) == names
    assert figure.get_size_inches()[0] <= shared.PAGE
    for text in [*axes.texts, *(axes.get_yticklabels() if names else [])]:
        assert text.get_fontsize() >= shared.TINY


def test_of_many_classes_the_worst_have_bars():
    told, _ = make_report(classes=120, pictures=0)
    figure = figures.class_recall(told.evaluation)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [row.class_name for row in told.evaluation.classes[: figures.CLASSES]]
    assert "the worst 40 of 120 classes" in figure.axes[0].get_xlabel()


def test_bars_and_intervals_have_the_evaluations_values():
    told, _ = make_report(pictures=0)
    axes = figures.class_recall(told.evaluation).axes[0]
    found = sorted(bar.get_width() for bar in axes.patches)
    assert found == pytest.approx(sorted(row.recall for row in told.evaluation.classes))
    (lines,) = axes.containers[-1].lines[2]
    ends = sorted(map(tuple, (segment[:, 0] for segment in lines.get_segments())))
    assert np.allclose(ends, sorted(row.recall_interval for row in told.evaluation.classes))


def test_labels_at_line_ends_do_not_overlap():
    figure = matplotlib.figure.Figure()
    axes = figure.subplots()
    axes.set_ylim(0, 1)
    figures.label_ends(axes, 0, [(0.5, "a", "black"), (0.5, "b", "black"), (0.51, "c", "black"), (0.9, "d", "black")])
    places = sorted(text.xy[1] for text in axes.texts)
    assert np.diff(places).min() >= 0.09 - 1e-9
    assert np.mean(places[:3]) == pytest.approx(np.mean([0.5, 0.5, 0.51]))
    assert places[3] == 0.9


def test_drawing_leaves_no_global_state_behind(workdir):
    before = dict(matplotlib.rcParams)
    pyplot = "matplotlib.pyplot" in sys.modules
    made, _ = figures.draw(workdir, workdir.find("20260102"))
    for figure in made.values():
        shared.save(figure, "svg")
    assert dict(matplotlib.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == pyplot


def test_a_single_evaluation_can_be_drawn(workdir):
    _, pasts = history.collect(workdir.results()[:1])
    assert shared.save(figures.draw_history(pasts), "png").startswith(b"\x89PNG")
