"""The maps over the report's pictures, in a real browser: by key, by click, and without JavaScript."""

import base64
import re

import pytest
import report_data

from review.report import page, schema

EVIL = ['"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "O'Brien & sons"]


class Site:
    """A report written as a file."""

    def __init__(self, file, **options):
        self.report, self.files = report_data.make_report(maps=True, **options)
        self.text = page.render(self.report, self.files)
        file.write_text(self.text, encoding="utf-8")
        self.url = file.as_uri()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return Site(tmp_path_factory.mktemp("maps") / "report.html", classes=4)


def figure(tab, item, within="#class-by-class"):
    return tab.locator(f"{within} figure.pic", has=tab.get_by_text(item.id, exact=True))


def seen(part):
    """What a figure shows: the classes of the maps that can be seen, and whether the picture is grey."""
    maps = part.locator("img.map:visible").evaluate_all("all => all.map((map) => map.className)")
    base = part.locator("img:not(.map)")
    return maps, base.evaluate("image => getComputedStyle(image).filter") == "grayscale(1)"


def of_kind(site, kind):
    return next(item for item in site.report.pictures if item.kind == kind)


PLAIN, RIGHT = ([], False), (["map answer true"], True)
ANSWER, TRUE = (["map answer"], True), (["map true"], True)


def test_the_maps_are_hidden_at_first(site, visit):
    tab = visit(site)
    assert tab.locator("img.map:visible").count() == 0
    pictures = len(site.report.pictures) + 1  # one is of harm
    assert tab.locator("img.map").count() == len(site.files) - pictures


def test_a_key_shows_all_maps(site, visit):
    tab = visit(site)
    wrong, right = (figure(tab, of_kind(site, kind)) for kind in ("mistake", "right"))
    for expected in ((ANSWER, RIGHT), (TRUE, RIGHT), (PLAIN, PLAIN), (ANSWER, RIGHT)):
        tab.keyboard.press("m")
        assert (seen(wrong), seen(right)) == expected
    assert tab.locator("img.map:visible").count() == len(site.report.pictures)
    tab.get_by_label("Class", exact=True).press("m")  # there it is a letter
    tab.keyboard.press("Control+m")
    assert seen(wrong) == ANSWER


def test_a_click_shows_the_maps_of_one_picture(site, visit):
    tab = visit(site)
    wrong, right = (figure(tab, of_kind(site, kind)) for kind in ("mistake", "right"))
    for expected in (ANSWER, TRUE, PLAIN, ANSWER):
        wrong.locator(".look").click()
        assert seen(wrong) == expected
        assert seen(right) == PLAIN
    for expected in (RIGHT, PLAIN):
        right.locator(".look").click()
        assert (seen(right), seen(wrong)) == (expected, ANSWER)
    tab.keyboard.press("m")
    tab.keyboard.press("m")
    assert (seen(wrong), seen(right)) == (TRUE, RIGHT)  # for all again
    right.locator(".look").click()
    assert (seen(wrong), seen(right)) == (TRUE, PLAIN)


def test_a_tap_is_a_click(site, visit):
    tab = visit(site, has_touch=True, viewport={"width": 400, "height": 800})
    wrong = figure(tab, of_kind(site, "mistake"))
    wrong.locator(".look").tap()
    assert seen(wrong) == ANSWER
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400


def test_without_javascript_the_choice_shows_them(site, visit):
    tab = visit(site, java_script_enabled=False)
    wrong, right = (figure(tab, of_kind(site, kind)) for kind in ("mistake", "right"))
    for label, expected in (
        ("what spoke for the answer", (["map answer"], ["map answer true"])),
        ("what spoke for the true class", (["map true"], ["map answer true"])),
        ("the image", ([], [])),
    ):
        tab.get_by_label(label, exact=True).check()
        maps = (part.locator("img.map:visible").all() for part in (wrong, right))
        shown = [[image.get_attribute("class") for image in images] for images in maps]
        assert tuple(shown) == expected
    assert not tab.get_by_text("for the next of these").is_visible()


def test_a_map_lies_exactly_over_its_picture(site, visit):
    tab = visit(site)
    tab.keyboard.press("m")
    for kind in ("mistake", "right"):
        part = figure(tab, of_kind(site, kind))
        part.scroll_into_view_if_needed()
        over, under = (part.locator(which).bounding_box() for which in ("img.answer", "img:not(.map)"))
        assert over == under
        tab.wait_for_function("image => image.naturalWidth > 0", arg=part.locator("img.answer").element_handle())


def test_pictures_of_the_matrix_have_their_maps_too(site, visit):
    tab = visit(site)
    item = of_kind(site, "mistake")
    label = site.report.evaluation.class_names.index
    cell = f'#matrix a[data-true="{label(item.true)}"][data-predicted="{label(item.predicted)}"]'
    figure(tab, item).locator(".look").click()
    tab.locator(cell).click()
    copy = figure(tab, item, "#shown")
    assert seen(copy) == ANSWER
    copy.locator(".look").click()
    assert (seen(copy), seen(figure(tab, item))) == (TRUE, ANSWER)
    tab.locator(cell).press("m")
    assert (seen(copy), seen(figure(tab, item))) == (ANSWER, ANSWER)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_chosen_is_printed_and_said(site, visit, scheme):
    tab = visit(site, color_scheme=scheme)
    tab.keyboard.press("m")
    tab.emulate_media(media="print")
    assert seen(figure(tab, of_kind(site, "mistake"))) == ANSWER
    words = tab.locator("fieldset.looks").inner_text()
    assert re.sub(r"\s+", " ", words).strip() == "The pictures show what spoke for the answer"
    assert tab.locator("fieldset.looks input:visible").count() == 0


def test_the_page_says_how_a_map_is_read(site, visit):
    words = visit(site).locator("#class-by-class").inner_text()
    assert "Made by integrated gradients at the layer conv3_relu, it is no finer than its 8 × 8 cells" in words
    assert "it is no proof" in words


def test_a_report_without_maps_does_not_speak_of_them(visit, tmp_path):
    older = Site(tmp_path / "report.html", classes=3)
    bare = [item.model_copy(update={"map": None, "true_map": None}) for item in older.report.pictures]
    text = page.render(older.report.model_copy(update={"pictures": bare, "maps": None}), older.files)
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    tab = visit(older)
    tab.keyboard.press("m")
    tab.locator("figure.pic img").first.click()
    assert "what spoke for" not in tab.locator("body").inner_text()
    assert tab.locator(".look, .map").count() == 0


def test_names_that_look_like_code_are_only_text(visit, tmp_path):
    tab = visit(Site(tmp_path / "report.html", names=EVIL, seed=3))
    tab.keyboard.press("m")
    described = set(tab.locator("img.map").evaluate_all("all => all.map((map) => map.alt)"))
    assert described == {f"where the network saw what speaks for {name}" for name in EVIL}


def test_every_map_is_in_the_page_once(site):
    for content in site.files.values():
        assert site.text.count(base64.b64encode(content).decode()) == 1


def test_maps_give_way_before_pictures(site, monkeypatch):
    whole = len(site.text.encode())
    maps = [file for file in site.files if "map" in file]
    room = sum(4 * len(site.files[file]) // 3 for file in maps)
    monkeypatch.setattr(page, "MOST_BYTES", whole - room // 2)
    text = page.render(site.report, site.files)
    assert len(text.encode()) <= page.MOST_BYTES
    there = {file: base64.b64encode(content).decode() in text for file, content in site.files.items()}
    assert all(there[item.file] for item in site.report.pictures)
    order = [row.class_name for row in site.report.evaluation.classes]
    items = sorted(site.report.pictures, key=lambda item: order.index(item.true))
    kept = [there[item.map] for item in items]
    assert kept == sorted(kept, reverse=True)
    assert 0 < kept.count(False) < len(kept)
    assert f"The maps of {kept.count(False)} pictures are not shown here" in text
    monkeypatch.setattr(page, "MOST_BYTES", whole - room - 9000)
    text = page.render(site.report, site.files)
    assert 'class="map' not in text
    assert 'name="look"' not in text
    assert re.search(r"\d+ pictures? of \d+ (is|are) not shown here", text)


def test_a_report_with_maps_can_be_read_again(site):
    assert schema.Report.model_validate_json(site.report.model_dump_json()) == site.report
