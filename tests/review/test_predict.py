"""`alexnet predict`: which files, how they are read, what the model is asked, and what is shown."""

import base64
import csv
import html.parser
import io
import json
import re
import shutil

import keras
import numpy as np
import PIL.Image
import pytest
from image_data import encoded, picture
from rich.cells import cell_len
from rich.console import Console

from components import ingest
from core import images
from core.errors import UserError
from review import predict, predict_output, statistics
from trainer import export
from trainer.summary import DataSummary

CLASSES = ("red", "green <script>alert(1)</script>", "[blue]")
COLOURS = {"red": (220, 20, 30), "green": (20, 200, 40), "blue": (30, 20, 210)}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An exported model that names the strongest colour."""
    network = keras.Sequential(
        [
            keras.Input([8, 8, 3], dtype="uint8"),
            keras.layers.Rescaling(5 / 255, dtype="float32"),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    folder = tmp_path_factory.mktemp("model") / "1"
    export.export(network, DataSummary(CLASSES, (1, 1, 1), (0.0,) * 3, (1.0,) * 3, 8), folder)
    return folder


@pytest.fixture
def classifier(model):
    return predict.Classifier(model)


def plain_image(name="red", size=(40, 20)):
    return PIL.Image.new("RGB", size, COLOURS[name])


def save(path, image=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or plain_image()).save(path, **options)
    return str(path)


def names(paths, root):
    return [path.removeprefix(f"{root}/") for path in paths]


def test_folders_are_searched_for_images(tmp_path):
    for name in ("b/deep/two.PNG", "b/one.jpg", "a.webp", ".hidden.png", ".git/x.png"):
        save(tmp_path / name, format="PNG")
    for name in ("b/notes.txt", "b/model.h5", "b/page.eps", "no suffix"):
        (tmp_path / name).write_text("x")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    found, ignored = predict.find([str(tmp_path)])
    assert names(found, tmp_path) == ["a.webp", "b/one.jpg", "b/deep/two.PNG"]
    assert ignored == 5  # the link back is one


def test_files_are_taken_whatever_they_are_called(tmp_path):
    odd, folder = save(tmp_path / "odd", format="PNG"), tmp_path / "more"
    inside = save(folder / "x.png")
    assert predict.find([odd, str(folder), odd]) == ([odd, inside, odd], 0)


def test_a_missing_path_or_no_image_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.png does not exist"):
        predict.find([save(tmp_path / "x.png"), str(tmp_path / "nowhere.png")])
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"no image in .*empty; files of other kinds: 1"):
        predict.find([str(tmp_path / "empty")])


def animated(path):
    return save(path, save_all=True, append_images=[plain_image("blue"), plain_image("green")])


FORMS = {
    "jpg": save,
    "png": save,
    "bmp": save,
    "webp": save,
    "tif": save,
    "ppm": save,
    "cmyk.jpg": lambda path: save(path, plain_image().convert("CMYK")),
    "palette.png": lambda path: save(path, plain_image().quantize(4)),
    "alpha.png": lambda path: save(path, plain_image().convert("RGBA")),
    "animated.gif": animated,
    "one pixel.png": lambda path: save(path, plain_image(size=(1, 1))),
    "strip.png": lambda path: save(path, plain_image(size=(3000, 2))),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_image_is_seen_as_it_is(classifier, tmp_path, form):
    (answer,) = classifier.predict([FORMS[form](tmp_path / f"image.{form}")], top=3)
    assert answer.top[0][0] == "red"
    assert sum(probability for _, probability in answer.top) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(np.asarray(answer.image).mean(axis=(0, 1)), COLOURS["red"], atol=6)


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_sixteen_bits_are_not_white(classifier, tmp_path, name):
    grey = PIL.Image.fromarray(np.full((8, 8), 100 * 256 + 7, np.uint16))
    (answer,) = classifier.predict([save(tmp_path / name, grey)], top=3)
    np.testing.assert_array_equal(np.asarray(answer.image), np.full((8, 8, 3), 100))
    assert dict(answer.top).values() == pytest.approx([1 / 3] * 3)


def test_exif_orientation_is_followed(tmp_path):
    upright = PIL.Image.fromarray(np.repeat(np.arange(0, 240, 10, np.uint8)[:, None, None], 8, 1).repeat(3, 2))
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = 6  # to be turned by 90 degrees to the right
    path = save(tmp_path / "phone.jpg", upright.transpose(PIL.Image.Transpose.ROTATE_90), exif=exif, quality=95)
    seen = predict.read(path)
    for image in (seen.image, PIL.Image.open(io.BytesIO(seen.encoded))):
        np.testing.assert_allclose(np.asarray(image, int), np.asarray(upright, int), atol=4)


def test_an_ordinary_file_reaches_the_model_as_it_is(tmp_path):
    for name in ("x.jpg", "x.png"):
        path = save(tmp_path / name)
        assert predict.read(path).encoded == (tmp_path / name).read_bytes()


def test_a_broken_file_is_named_and_the_others_are_predicted(classifier, tmp_path):
    good = [save(tmp_path / name, plain_image(name[0:-4])) for name in ("red.png", "blue.png")]
    whole = encoded(picture(1, (100, 100)), "JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "program.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")  # not to be run
    bad = [str(tmp_path / name) for name in ("cut.jpg", "empty.jpg", "program.png", "gone.jpg")]
    answers = list(classifier.predict([bad[0], good[0], *bad[1:], good[1]], top=1))
    assert [answer.path for answer in answers] == [bad[0], good[0], *bad[1:], good[1]]
    assert [answer.top[0][0] for answer in answers if isinstance(answer, predict.Prediction)] == ["red", "[blue]"]
    said = [answer.sentence for answer in answers if isinstance(answer, predict.Unreadable)]
    for sentence, path, why in zip(said, bad, ("runcated", "is empty", "not an image", "No such"), strict=True):
        assert sentence.startswith(path)
        assert why in sentence
        assert sentence.endswith(".")


def test_nothing_is_loaded_for_what_cannot_be_read(classifier, tmp_path):
    (tmp_path / "bad.png").write_text("nonsense")
    assert len(list(classifier.predict([str(tmp_path / "bad.png")], top=1))) == 1
    assert classifier._signature is None


def test_a_damaged_image_is_named_and_changes_nothing_for_the_others(classifier, tmp_path):
    """Both damages are read by Pillow, or by its header, and refused by TensorFlow, as the ingest does."""
    red = save(tmp_path / "red.png")
    blue = np.full((90, 90, 3), COLOURS["blue"], np.uint8)
    png, jpeg = (encoded(blue, form) for form in ("PNG", "JPEG"))
    (tmp_path / "no end.png").write_bytes(png[:-12])
    (tmp_path / "half.jpg").write_bytes(jpeg[: len(jpeg) - 20])
    (alone,) = classifier.predict([red], top=1)
    found = list(classifier.predict([str(tmp_path / "no end.png"), red, str(tmp_path / "half.jpg")], top=1))
    assert found[1].top == alone.top
    for answer in (found[0], found[2]):
        assert "damaged, TensorFlow does not decode it" in answer.sentence


def test_few_files_are_in_memory_at_once(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "BATCH", 3)
    paths = [save(tmp_path / f"{number}.png", plain_image(list(COLOURS)[number % 3])) for number in range(8)]
    taken = []
    answers = classifier.predict((taken.append(path) or path for path in paths), top=1)
    first = next(answers)
    assert taken == paths[:3]
    assert [answer.path for answer in (first, *answers)] == paths
    monkeypatch.setattr(predict, "BATCH_PIXELS", 2 * 40 * 20)
    taken.clear()
    next(classifier.predict((taken.append(path) or path for path in paths), top=1))
    assert taken == paths[:2]


def test_a_model_without_class_names_names_the_best(model, tmp_path, classifier):
    (model / predict.CLASSES).rename(tmp_path / "classes.json")
    try:
        old = predict.Classifier(model)
    finally:
        (tmp_path / "classes.json").rename(model / predict.CLASSES)
    path = save(tmp_path / "red" / "x.png", plain_image("blue"))
    (answer,) = old.predict([path], top=9)
    assert [name for name, _ in answer.top] == ["[blue]", "class 0", "class 1"]
    assert answer.true is None
    (answer,) = classifier.predict([path], top=9)
    assert [name for name, _ in answer.top] == ["[blue]", "red", CLASSES[1]]
    assert (answer.true, answer.right) == ("red", False)


def test_what_is_no_model_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match="is not a model that this pipeline exported"):
        predict.Classifier(tmp_path)
    (tmp_path / "saved_model.pb").write_text("nonsense")
    broken = predict.Classifier(tmp_path)
    with pytest.raises(UserError, match="or not a model that this pipeline exported"):
        list(broken.predict([save(tmp_path / "x.png")], top=1))


@pytest.fixture
def labelled(tmp_path):
    """A folder of class folders: 3 red ones, of which one is blue, and a picture of no class."""
    for number, colour in enumerate(("red", "blue", "red")):
        save(tmp_path / "set" / "red" / f"{number}.png", plain_image(colour))
    save(tmp_path / "set" / "others" / "x.png", plain_image("green", (300, 200)))
    (tmp_path / "set" / "notes.txt").write_text("x")
    return tmp_path / "set"


def test_json_is_as_documented(model, labelled, capsys):
    predict_output.run([str(labelled)], model, 2, "json", with_sheet=False)
    told = json.loads(capsys.readouterr().out)
    assert [row["true_class_name"] for row in told] == [None, "red", "red", "red"]
    assert [row["class_name"] for row in told] == [CLASSES[1], "red", "[blue]", "red"]
    for row in told:
        assert list(row) == ["path", "true_class_name", "class_name", "probability", "top"]
        assert [list(part) for part in row["top"]] == [["class_name", "probability"]] * 2
        assert row["top"][0] == {key: row[key] for key in ("class_name", "probability")}
        assert 1 > row["top"][0]["probability"] > row["top"][1]["probability"] > 0


def test_csv_has_a_row_for_each_image(model, labelled, capsys):
    predict_output.run([str(labelled)], model, 2, "csv", with_sheet=False)
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert list(rows[0]) == ["path", "true_class_name", "class_name", "probability", "class_name_2", "probability_2"]
    assert [row["class_name"] for row in rows] == [CLASSES[1], "red", "[blue]", "red"]
    assert rows[0]["true_class_name"] == ""


def test_json_without_an_answer_is_an_empty_list(model, tmp_path, capsys):
    (tmp_path / "bad.png").write_text("nonsense")
    unreadable, _ = predict_output.run([str(tmp_path)], model, 1, "json", with_sheet=False)
    assert json.loads(capsys.readouterr().out) == []
    assert len(unreadable) == 1


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_the_table_fits(model, labelled, capsys, monkeypatch, columns):
    long = ("日本語の写真" * 9, "[red]a name[/red] " * 9, "x" * 150)
    for name in long:
        save(labelled / "red" / f"{name}.png")
    monkeypatch.setenv("COLUMNS", str(columns))
    predict_output.run([str(labelled)], model, 3, "table", with_sheet=False)
    printed = capsys.readouterr().out.splitlines()
    lines = printed[: 3 * 7]
    assert printed[3 * 7] == "7 images, 1 other file ignored"
    assert max(map(cell_len, lines)) <= columns
    assert len({cell_len(line.partition("%")[0]) for line in lines}) == 1  # the columns stand below each other
    assert any("…" in line and line.split("  ")[0].endswith(".png") for line in lines)
    if columns > 40:
        assert any("[blue]" in line for line in lines)


def test_the_table_tells_right_from_wrong(model, labelled, capsys):
    predict_output.run([str(labelled)], model, 1, "table", with_sheet=False)
    other, *reds, images_line, accuracy = capsys.readouterr().out.splitlines()
    assert [re.search("[✓✗].*", line)[0] for line in reds] == ["✓", "✗ red", "✓"]
    assert not re.search("[✓✗]", other)
    assert images_line == "4 images, 1 other file ignored"
    low, high = statistics.wilson(2 / 3, 3)
    assert accuracy == f"Accuracy 66.7% (2 of 3 in class folders, 95 % interval {low:.1%} to {high:.1%})"


def test_a_terminal_shows_no_escape_sequences(model, tmp_path, capsys):
    save(tmp_path / "\x1b[31mred\nline\udc80.png")
    predict_output.run([str(tmp_path)], model, 1, "table", with_sheet=False)
    (line,) = capsys.readouterr().out.splitlines()
    assert "\x1b" not in line
    assert "�[31mred line�.png" in line


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("short.png", 20, "short.png"),
        ("a/long/name/0001.png", 13, "a/lo…0001.png"),
        ("写真写真写真.png", 9, "写…真.png"),
    ],
)
def test_long_names_are_shortened_in_the_middle(text, width, expected):
    assert predict_output.shorten(text, width) == expected
    assert cell_len(expected) <= width


def test_bars_are_drawn_to_an_eighth():
    assert predict_output.bar(1, 4) == "████"
    assert predict_output.bar(0, 4) == ""
    assert predict_output.bar(9 / 32, 4) == "█▏"


class Page(html.parser.HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def decoded(source):
    kind, data = re.fullmatch(r"data:image/(png|jpeg);base64,(.+)", source).groups()
    image = PIL.Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.format == kind.upper()
    return image


@pytest.fixture
def sheet(model, labelled, capsys):
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Make] = "secret"
    save(labelled / "<img src=x onerror=alert(2)>" / "photo.jpg", plain_image("green", (900, 600)), exif=exif)
    (labelled / "red" / "<b>bad.png").write_text("nonsense")
    _, text = predict_output.run([str(labelled)], model, 2, "csv", with_sheet=True)
    return text


def test_the_sheet_shows_every_picture_once(sheet):
    page = Page(sheet)
    shown = [(decoded(image["src"]), image) for image in page.all("img")]
    assert sorted(image.size for image, _ in shown) == [(40, 20)] * 3 + [(160, 107)] * 2
    for image, attributes in shown:
        small = max(image.size) < 160
        assert (attributes.get("class") == "pixels") == small
        assert int(attributes["width"]) == image.width * (3 if small else 1)
        assert image.getexif() == {}
    assert sheet.count("base64,") == 5
    assert "2 are right" in " ".join(page.text.split())
    assert [figure["class"] for figure in page.all("figure")].count("pic wrong") == 1


def test_the_sheet_escapes_names_and_asks_for_nothing(sheet):
    page = Page(sheet)
    assert len(page.all("script")) == 1
    assert CLASSES[1] in page.text
    titles = [attributes["title"] for attributes in page.all("div") if "title" in attributes]
    assert any(title.endswith("/<img src=x onerror=alert(2)>/photo.jpg") for title in titles)
    assert "<b>bad.png" in page.text
    assert not page.all("b")
    for _, attributes in page.tags:
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith(("#", "data:"))
        assert not any(name.startswith("on") for name in attributes)


def test_a_sheet_that_would_be_too_large_shows_the_first_pictures(model, labelled, monkeypatch):
    monkeypatch.setattr(predict_output, "MOST_BYTES", 150)
    _, text = predict_output.run([str(labelled)], model, 1, "csv", with_sheet=True)
    page = Page(text)
    assert len(page.all("figure")) < 4
    assert f"Here are the first {len(page.all('figure'))} pictures" in page.text


def test_a_file_that_is_no_image_is_what_ingest_finds_too(tmp_path):
    """The same bytes are images for both."""
    for number, data in enumerate((b"", b"nonsense", encoded(picture(1)), encoded(picture(1), "JPEG")[:200])):
        path = tmp_path / f"{number}.png"
        path.write_bytes(data)
        try:
            ingest.check(data, images.WHITE)
        except images.BadImage:
            assert isinstance(predict.read(str(path)), predict.Unreadable)
        else:
            assert isinstance(predict.read(str(path)), predict.Picture)


def test_progress_is_shown_where_there_is_a_terminal():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    with predict_output.progress(console) as advance:
        advance(1234)
    assert "loading TensorFlow" in screen.getvalue()
    assert "1 of 1,234 images" in screen.getvalue()


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGES = {
    "no weights": lambda model: next((model / "variables").glob("*.data*")).unlink(),
    "cut weights": lambda model: cut(next((model / "variables").glob("*.data*"))),
    "cut index": lambda model: cut(model / "variables" / "variables.index"),
    "cut graph": lambda model: cut(model / "saved_model.pb"),
    "empty graph": lambda model: (model / "saved_model.pb").write_bytes(b""),
    "a folder as graph": lambda model: ((model / "saved_model.pb").unlink(), (model / "saved_model.pb").mkdir()),
    "cut names": lambda model: cut(model / predict.CLASSES),
    "no list": lambda model: (model / predict.CLASSES).write_text('{"red": 1}'),
    "other names": lambda model: (model / predict.CLASSES).write_text("[1, 2, 3]"),
    "no text": lambda model: (model / predict.CLASSES).write_bytes(b'["\xff"]'),
    "too few names": lambda model: (model / predict.CLASSES).write_text('["red"]'),
    "too many names": lambda model: (model / predict.CLASSES).write_text(json.dumps([*CLASSES, "yellow"])),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_a_users_mistake_before_anything_is_shown(model, tmp_path, capsys, damage):
    damaged = tmp_path / "1"
    shutil.copytree(model, damaged)
    DAMAGES[damage](damaged)
    with pytest.raises(UserError, match=f"{damaged} is") as told:
        predict_output.run([save(tmp_path / "x.png")], damaged, 3, "table", with_sheet=False)
    assert "not a model that this pipeline exported" in str(told.value)
    assert len(str(told.value).splitlines()) == 1
    assert capsys.readouterr().out == ""


def test_a_model_of_others_is_a_users_mistake(tmp_path):
    network = keras.Sequential([keras.Input([8]), keras.layers.Dense(3)])
    network.export(tmp_path / "other", verbose=False)
    other = predict.Classifier(tmp_path / "other")
    with pytest.raises(UserError, match=r"it has another signature|TensorFlow cannot load it"):
        list(other.predict([save(tmp_path / "x.png")], top=1))
