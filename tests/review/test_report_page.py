"""The report's page in a real browser: what it shows, how it is used, and that it needs nothing but itself."""

import base64
import html.parser
import itertools
import math
import re

import markupsafe
import pytest
import report_data
from browser import browser  # noqa: F401  a fixture
from playwright import sync_api

from review.report import charts, page, schema, web

EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}",
    "[red]x[/]",
    "O'Brien & sons",
    "</style></script><!--",
    "a" * 90,
    "日本語",
]
COLUMNS = {
    "Class": lambda row: row.class_name,
    "n": lambda row: row.count,
    "Recall": lambda row: row.recall,
    "Change": lambda row: row.change,
    "Precision": lambda row: row.precision,
    "F1": lambda row: row.f1,
    "AUC": lambda row: row.auc,
    "Mostly taken for": lambda row: row.mostly_taken_for_count,
    "Gates": lambda row: not row.passed,  # "✓ pass" comes before "✗ fail"
}


class Site:
    """A report written as a file."""

    def __init__(self, file, report, pictures, **options):
        self.report = report
        self.pictures = pictures
        self.text = page.render(report, pictures, **options)
        file.write_text(self.text, encoding="utf-8")
        self.url = file.as_uri()


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    card = markupsafe.Markup('<section id="model-card"><h2>Model card</h2><p>For <b>whom</b> it is.</p></section>')
    return Site(
        tmp_path_factory.mktemp("ten") / "report.html",
        *report_data.make_report(10, duplicates=4, suspects=4),
        card=card,
    )


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    made = report_data.make_report(names=EVIL, seed=3, duplicates=40, suspects=40)
    return Site(tmp_path_factory.mktemp("evil") / "report.html", *made)


@pytest.fixture(scope="module")
def hundred(tmp_path_factory):
    return Site(tmp_path_factory.mktemp("hundred") / "report.html", *report_data.make_report(100, count=40))


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    """Whose pictures would make a page beyond the limit."""
    made = report_data.make_report(1000, count=8, size=44)
    return Site(tmp_path_factory.mktemp("thousand") / "report.html", *made)


def first_cells(tab):
    return tab.locator("#class-table tbody tr:visible th").all_text_contents()


def pictures_of(report, true, predicted):
    return [picture.id for picture in report.pictures if (picture.true, picture.predicted) == (true, predicted)]


# What it says


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("pushed", "✓ Pushed"),
        ("cleared", "✓ Cleared"),
        ("not pushed", "✗ Not pushed"),
        ("waiting", "Waiting"),
    ],
)
def test_the_verdict_is_a_symbol_a_word_and_a_sentence(state, words):
    report, _ = report_data.make_report(3)
    report = report.model_copy(update={"verdict": schema.Verdict(state=state, sentence=f"{state}: for a reason")})
    text = markupsafe.Markup(page.render(report, {})).striptags()
    assert f"{words}: for a reason" in text


def test_without_javascript_everything_is_there(ten, visit):
    tab = visit(ten, java_script_enabled=False)
    part = ten.report.evaluation
    assert first_cells(tab) == [row.class_name for row in part.classes]
    assert part.classes[0].recall == min(row.recall for row in part.classes)
    assert tab.locator("figure.pic:visible").count() == len(ten.pictures) - 1  # one of them is of harm
    assert tab.locator("th button:visible").count() == 0
    tab.click("#class-table tbody tr:first-child td a")  # the most frequent wrong answer
    worst = part.classes[0]
    label = part.class_names.index
    assert tab.url.endswith(f"#c{label(worst.class_name)}-as-{label(worst.mostly_taken_for)}")


def test_the_matrix_shows_every_count_and_share(ten, visit):
    tab = visit(ten)
    part = ten.report.evaluation
    rows = tab.locator("#matrix tbody tr").all()
    assert len(rows) == len(part.class_names)
    for row, name, counts in zip(rows, part.class_names, part.confusion_matrix, strict=True):
        assert row.locator("th").text_content() == name
        shown = row.locator("td").all_inner_texts()
        for count, words in zip(counts, shown, strict=True):
            assert words.split("\n")[-2 if count else -1].split(": ")[-1] == str(count)
            if count:
                assert words.split("\n")[-1] == web.percent(count / sum(counts), 0)


def test_every_number_of_a_class_is_in_its_row(ten, visit):
    tab = visit(ten)
    for row, shown in zip(ten.report.evaluation.classes, tab.locator("#class-table tbody tr").all(), strict=True):
        text = shown.inner_text()
        for words in (
            web.number(row.count),
            web.percent(row.recall),
            web.percent(row.precision),
            web.percent(row.f1),
            web.number(row.auc, 3),
            web.points(row.change),
            "✓ pass" if row.passed else "✗ fail",
        ):
            assert words in text
        assert ("≈" in text) == row.change_is_small


def test_failed_gates_are_told_and_the_rest_is_folded(hundred, visit):
    tab = visit(hundred)
    gates = hundred.report.evaluation.gates
    failed = [gate for gate in gates if not gate.passed]
    assert 0 < len(failed) < len(gates)
    assert tab.locator("#gates tbody tr:visible").count() == len(failed)
    tab.click("#gates summary")
    assert tab.locator("#gates tbody tr:visible").count() == len(gates)


def test_slices_too_small_to_judge_are_marked(ten, visit):
    tab = visit(ten)
    small = [row for part in ten.report.evaluation.slices for row in part.rows if row.too_small]
    assert small
    assert tab.locator("#slices tr.muted").count() == len(small)
    assert tab.locator("#slices .matrix td.h0 .muted").count() == len(small)


def test_harm_is_told_by_kind_and_class_and_shown(ten, visit):
    tab = visit(ten)
    harm = ten.report.evaluation.corruptions
    kinds, classes = tab.locator("#robustness table").all()
    for row, shown in zip(harm.kinds, kinds.locator("tbody tr").all(), strict=True):
        assert shown.locator("th").inner_text() == row.kind
        expected = [web.percent(share, 0) for share in (*row.accuracies, row.accuracy)]
        assert shown.locator("td").all_inner_texts() == expected
    for row, shown in zip(harm.classes, classes.locator("tbody tr").all(), strict=True):
        assert shown.locator("th").inner_text() == row.class_name
        assert shown.locator("td").last.inner_text() == web.percent(row.recall, 0)
    shown = tab.locator("#robustness img")
    shown.scroll_into_view_if_needed()  # it is loaded only then
    assert shown.evaluate("image => image.decode().then(() => image.naturalWidth)") == 576


def test_the_calibration_is_shown_with_and_without_the_temperature(ten, visit):
    tab = visit(ten)
    assert tab.locator("#calibration svg[role=img]").count() == 2
    before = ten.report.evaluation.uncalibrated
    text = tab.locator("#calibration").inner_text()
    assert f"a temperature of {web.number(before.temperature, 2)}" in text
    assert web.percent(before.calibration_error) in text
    by_chance = web.percent(ten.report.evaluation.calibration_error_by_chance)
    assert f"a perfectly calibrated model would show {by_chance}" in text
    bare = ten.report.evaluation.model_copy(update={"uncalibrated": None, "calibration_error_by_chance": None})
    text = page.render(ten.report.model_copy(update={"evaluation": bare}), {})
    assert "a temperature of" not in text
    assert "perfectly calibrated" not in text


def test_parts_without_data_are_left_out():
    made = dict.fromkeys(("slices", "training", "data", "serving", "run", "harm"), False)
    report, pictures = report_data.make_report(2, baseline=False, history=0, pictures=0, **made)
    report = report.model_copy(update={"lineage": [], "settings": {}, "versions": {}})
    report = report.model_copy(update={"evaluation": report.evaluation.model_copy(update={"calibration": []})})
    text = page.render(report, pictures)
    found = Outline(text)
    assert found.sections == ["gates", "classes", "confusions", "class-by-class"]
    assert "images.zip" not in text


def test_a_class_without_test_examples_is_in_the_matrix_alone():
    report, pictures = report_data.make_report(4)
    part = report.evaluation.model_copy(update={"class_names": [*report.evaluation.class_names, "unseen"]})
    text = page.render(report.model_copy(update={"evaluation": part}), pictures)
    found = Outline(text)
    assert found.targets <= set(found.ids)
    assert "c4" not in found.ids
    assert text.count(">unseen<") == 2  # its column and its row


def test_the_card_is_taken_as_it_is_and_a_plain_string_is_not(ten):
    assert "For <b>whom</b> it is." in ten.text
    assert "&lt;b&gt;x" in page.render(ten.report, {}, card="<b>x")


def test_the_command_names_what_differs_from_the_preset():
    report, _ = report_data.make_report(2)
    assert "alexnet run --preset cifar10 --set training.epochs=12</code>" in page.render(report, {})


# How it is used


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_sorts_both_ways(ten, visit, column):
    tab = visit(ten)
    rows = {row.class_name: row for row in ten.report.evaluation.classes}
    button = tab.locator("#class-table").get_by_role("button", name=column, exact=True)
    head = button.locator("..")
    seen = set()
    for _ in range(2):
        button.click()
        direction = head.get_attribute("aria-sort")
        seen.add(direction)
        values = [COLUMNS[column](rows[name]) for name in first_cells(tab)]
        assert values == sorted(values, reverse=direction == "descending")
        assert tab.locator("#class-table th[aria-sort]").count() == 1
    assert seen == {"ascending", "descending"}


def test_a_class_without_a_number_stays_last(tmp_path, visit):
    report, pictures = report_data.make_report(5)
    classes = [
        row.model_copy(update={"precision": None} if n == 1 else {})
        for n, row in enumerate(report.evaluation.classes)
    ]
    report = report.model_copy(update={"evaluation": report.evaluation.model_copy(update={"classes": classes})})
    tab = visit(Site(tmp_path / "report.html", report, pictures))
    for _ in range(2):
        tab.get_by_role("button", name="Precision", exact=True).click()
        assert first_cells(tab)[-1] == classes[1].class_name


def test_classes_are_filtered(hundred, visit):
    tab = visit(hundred)
    rows = hundred.report.evaluation.classes
    tab.get_by_label("only failed").check()
    failed = [row.class_name for row in rows if not row.passed]
    assert first_cells(tab) == failed
    assert tab.locator(".filters output").text_content() == f"{len(failed)} of 100"
    tab.get_by_label("only changed beyond chance").check()
    assert first_cells(tab) == [
        row.class_name for row in rows if not row.passed and row.change and not row.change_is_small
    ]
    tab.get_by_label("only failed").uncheck()
    tab.get_by_label("only changed beyond chance").uncheck()
    tab.get_by_label("Class", exact=True).fill("CLASS 4")
    assert first_cells(tab) == [row.class_name for row in rows if "class 4" in row.class_name]


def test_a_link_opens_the_section_of_a_class(hundred, visit):
    tab = visit(hundred)
    name = hundred.report.evaluation.classes[70].class_name
    section = tab.locator(f"#c{hundred.report.evaluation.class_names.index(name)}")
    assert not section.is_visible()
    tab.get_by_label("Class", exact=True).fill(name)
    for _ in range(2):
        tab.locator("#class-table tbody tr:visible th a").first.click()
        assert section.get_attribute("open") is not None
        assert section.locator("figure.pic").first.is_visible()
        sync_api.expect(section.locator("h3")).to_be_in_viewport()
        section.locator("summary").click()  # closed again, the same link opens it again


def test_an_address_with_a_class_opens_it(hundred, visit):
    tab = visit(hundred, "#c7")
    assert tab.locator("#c7").get_attribute("open") is not None


def test_a_cell_of_the_matrix_shows_exactly_its_pictures(ten, visit):
    tab = visit(ten)
    names = ten.report.evaluation.class_names
    with_pictures = {(picture.true, picture.predicted) for picture in ten.report.pictures}
    for true, predicted in sorted(with_pictures):
        tab.locator(f'#matrix a[data-true="{names.index(true)}"][data-predicted="{names.index(predicted)}"]').click()
        assert tab.locator("#shown .id").all_text_contents() == pictures_of(ten.report, true, predicted)
        words = f"{true}, recognised" if true == predicted else f"{true} taken for {predicted}"
        assert tab.locator("#shown strong").text_content() == words
    assert tab.locator("#shown figure").first.is_visible()


def test_a_cell_without_pictures_says_so(tmp_path, visit):
    report, _ = report_data.make_report(4, pictures=0)
    tab = visit(Site(tmp_path / "report.html", report, {}))
    tab.locator("#matrix a[data-predicted]").first.click()
    assert "no pictures in this report" in tab.locator("#shown").inner_text()


def test_a_pair_shows_its_pictures(ten, visit):
    tab = visit(ten)
    tab.locator("#pair-table tbody tr").first.get_by_role("link", name="pictures of").click()
    true, predicted = tab.locator("#pair-table tbody tr").first.locator("th, td").all_text_contents()[:2]
    assert tab.locator("#shown .id").all_text_contents() == pictures_of(ten.report, true, predicted) != []


def test_the_keyboard_is_enough(ten, visit):
    tab = visit(ten)
    focused = "document.activeElement"

    def tab_to(condition):
        for _ in range(200):
            tab.keyboard.press("Tab")
            if tab.evaluate(condition):
                return
        pytest.fail(f"the tab key does not reach {condition}")

    tab.keyboard.press("Tab")
    assert tab.evaluate(f"{focused}.className") == "skip"
    tab.keyboard.press("Enter")
    assert tab.evaluate(f"{focused}.id") == "content"
    tab_to(f"{focused}.textContent === 'F1'")
    tab.keyboard.press("Enter")
    assert tab.locator("#class-table th[aria-sort]").text_content() == "F1"
    tab_to(f"{focused}.matches('#matrix a[data-true]')")
    tab.keyboard.press("Enter")
    report = ten.report
    name = report.evaluation.class_names[0]
    assert tab.locator("#shown .id").all_text_contents() == pictures_of(report, name, name)
    tab.keyboard.press("ArrowDown")
    here = [int(tab.evaluate(f"{focused}.dataset.{key}")) for key in ("true", "predicted")]
    below = [row[0] for row in report.evaluation.confusion_matrix[1:]]
    assert here == [next(n for n, count in enumerate(below, 1) if count), 0]
    tab.keyboard.press("ArrowUp")
    tab.keyboard.press("ArrowRight")
    assert report.evaluation.confusion_matrix[0][1] > 0
    assert [int(tab.evaluate(f"{focused}.dataset.{key}")) for key in ("true", "predicted")] == [0, 1]
    tab.keyboard.press("Tab")  # one stop for all cells
    assert not tab.evaluate(f"{focused}.matches('#matrix td a')") or tab.evaluate(f"{focused}.matches('th a')")


# What it must not do


@pytest.mark.parametrize("site", ["ten", "evil", "hundred", "thousand"])
def test_the_console_is_clean_and_nothing_is_fetched(request, visit, site):
    tab = visit(request.getfixturevalue(site))
    tab.locator("details").evaluate_all("all => all.forEach((part) => (part.open = true))")
    image = tab.locator("figure.pic img").first
    image.scroll_into_view_if_needed()
    tab.wait_for_function("image => image.naturalWidth > 0", arg=image.element_handle())


def test_names_that_look_like_code_are_only_text(evil, visit):
    tab = visit(evil)
    assert set(first_cells(tab)) == set(EVIL)
    assert tab.locator("script").count() == 1
    assert tab.locator("img:not([src^='data:image/'])").count() == 0
    assert "{{ 7 * 7 }}" in tab.locator("#matrix").inner_text()
    tab.locator("#matrix a[data-true='0']").first.click()
    assert EVIL[0] in tab.locator("#shown strong").text_content()
    for link in tab.locator("#class-table th a").all():
        link.click()


def test_the_policy_forbids_any_other_script(ten, browser):  # noqa: F811
    with browser.new_context() as context:
        tab = context.new_page()
        tab.goto(ten.url)
        title = tab.title()
        tab.evaluate("""() => {
            window.seen = [];
            document.addEventListener("securitypolicyviolation", (event) => seen.push(event.effectiveDirective));
            const script = document.createElement("script");
            script.textContent = "document.title = 'taken over'";
            document.body.append(script);
            document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='document.title = 1'>");
            fetch("https://example.org").catch(() => {});
        }""")
        expected = ["connect-src", "img-src", "script-src-attr", "script-src-elem"]
        tab.wait_for_function("count => seen.length >= count", arg=len(expected), timeout=60_000)
        assert sorted(tab.evaluate("seen")) == expected
        assert tab.title() == title


@pytest.mark.parametrize(
    ("scheme", "medium"), [("light", "screen"), ("dark", "screen"), ("light", "print"), ("dark", "print")]
)
def test_all_text_has_enough_contrast(ten, visit, scheme, medium):
    tab = visit(ten, color_scheme=scheme)
    tab.emulate_media(media=medium)
    found = tab.evaluate(CONTRASTS)
    assert len(found) > 500
    assert [text for text in found if text["ratio"] < 4.5] == []
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light" or medium == "print")


@pytest.mark.parametrize("site", ["ten", "evil", "hundred"])
def test_a_narrow_window_does_not_scroll_sideways(request, visit, site):
    tab = visit(request.getfixturevalue(site), viewport={"width": 400, "height": 800})
    tab.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    tab.locator("#matrix a[data-predicted]").first.click()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400


def test_small_pictures_are_enlarged_by_whole_factors(ten, visit):
    tab = visit(ten)
    image = tab.locator("figure.pic img").first
    image.scroll_into_view_if_needed()
    tab.wait_for_function("image => image.naturalWidth > 0", arg=image.element_handle())
    natural, shown, style = image.evaluate(
        "image => [image.naturalWidth, image.getBoundingClientRect().width, getComputedStyle(image).imageRendering]"
    )
    assert (natural, shown, style) == (32, 128, "pixelated")


# Duplicates


def test_pictures_that_several_examples_have_are_shown_with_their_places(ten, visit):
    section = visit(ten).locator("#duplicates")
    words = section.inner_text()
    part = ten.report.evaluation
    assert f"4 of {part.count:,} test examples" in words
    assert web.percent(part.without_leaked.accuracy) in words
    assert "the gates judge all test examples" in words
    assert "4 pictures stand under two or more classes (8 examples)" in words
    assert "3 of 4 pictures" in words
    figures = section.locator("figure")
    assert figures.count() == 6
    assert figures.first.locator("li").all_inner_texts() == [
        f"{split} {name}\n{id}" for split, name, id in ten.report.data.duplicates.shown[0].places
    ]
    assert "and 1 more example" in figures.nth(1).inner_text()
    row = section.locator("#leak-table tbody tr").inner_text()
    first = next(row for row in part.classes if row.leaked)
    assert row.split("\t")[2:5] == ["4", web.percent(first.recall), web.percent(first.recall_without_leaked)]


def test_the_accuracy_without_duplicates_stands_beside_the_other(ten, visit):
    tiles = visit(ten).locator(".tiles > div").all_inner_texts()
    assert web.percent(ten.report.evaluation.without_leaked.accuracy) in tiles[1]
    assert "Without duplicates" in tiles[1]


def test_a_report_without_duplicates_does_not_speak_of_them(hundred):
    assert "uplicate" not in hundred.text.replace("near_duplicates", "")  # the setting


def test_where_every_test_example_leaked_there_is_no_other_accuracy():
    report, files = report_data.make_report(3, duplicates=3)
    part = report.evaluation
    none = schema.WithoutLeaked(leaked=part.count, count=0, accuracy=None, accuracy_interval=None)
    rows = [
        row.model_copy(
            update={"leaked": row.count, "recall_without_leaked": None, "recall_without_leaked_interval": None}
        )
        for row in part.classes
    ]
    found = report.data.duplicates.model_copy(update={"leaked": {"validation": 0, "test": part.count}})
    report = report.model_copy(
        update={
            "evaluation": part.model_copy(update={"without_leaked": none, "classes": rows}),
            "data": report.data.model_copy(update={"duplicates": found}),
        }
    )
    text = page.render(report, files)
    assert "No test example is left" in text
    assert "all test pictures were seen in training" in text


# Its size


def test_every_picture_is_in_it_once(ten):
    for content in ten.pictures.values():
        assert ten.text.count(base64.b64encode(content).decode()) == 1


def test_pictures_of_the_best_classes_give_way(thousand):
    assert sum(map(len, thousand.pictures.values())) * 4 / 3 > page.MOST_BYTES  # or it would prove nothing
    assert 0.95 * page.MOST_BYTES < len(thousand.text.encode()) <= page.MOST_BYTES
    order = [row.class_name for row in thousand.report.evaluation.classes]
    sorted_pictures = sorted(thousand.report.pictures, key=lambda picture: order.index(picture.true))
    shown = set(re.findall(r">(test-\d+)<", thousand.text))
    kept = [picture.id in shown for picture in sorted_pictures]
    assert kept == sorted(kept, reverse=True)
    said = re.search(r"([\d,]+) pictures of ([\d,]+) are not shown here", thousand.text)
    assert [int(number.replace(",", "")) for number in said.groups()] == [kept.count(False), len(kept)]


def test_a_hundred_classes_keep_all_their_pictures(hundred):
    assert len(hundred.text.encode()) < page.MOST_BYTES
    assert Outline(hundred.text).pictures == len(hundred.pictures) - 1  # one of them is of harm
    assert "are not shown here" not in hundred.text


def test_many_classes_are_folded(thousand, visit):
    tab = visit(thousand)
    assert tab.locator("#matrix tbody tr").count() == page.WORST
    assert "Of 1,000 classes, the 20 with the worst recall" in tab.locator("#confusions").inner_text()
    assert tab.locator("details.class:visible").count() == 0
    number = (
        "(cells) => cells.map((cell) => Number([...cell.firstChild.childNodes].find((n) => n.nodeType === 3).data))"
    )
    for line, row in zip(tab.locator("#matrix tbody tr").all(), thousand.report.evaluation.classes, strict=False):
        counts = line.locator("td").evaluate_all(number)
        assert len(counts) == page.WORST + 1
        assert sum(counts) == row.count  # with the column of all others


# Its form


class Outline(html.parser.HTMLParser):
    """Reads a page strictly: every element is closed where it must be."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.targets, self.sections, self.pictures, self.wrong = [], [], set(), [], 0, []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if "id" in found:
            self.ids.append(found["id"])
        if found.get("href", "").startswith("#"):
            self.targets.add(found["href"][1:])
        if tag == "section" and self.open[-1] == "main":
            self.sections.append(found["id"])
        self.pictures += tag == "figure" and found.get("class") == "pic"
        if tag == "img" and not found.get("alt"):
            self.wrong.append("a picture without words")
        if tag == "svg" and not (found.get("aria-label") or found.get("aria-hidden")):
            self.wrong.append("a chart without words")
        if tag == "th" and not found.get("scope"):
            self.wrong.append("a header cell without scope")
        if tag == "p" and "p" in self.open:
            self.wrong.append("a paragraph in a paragraph")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        if "svg" not in self.open:
            self.wrong.append(f"<{tag}/> outside of an image")

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            raise AssertionError(f"</{tag}> at {self.getpos()} closes another element")


@pytest.mark.parametrize("site", ["ten", "evil", "hundred", "thousand"])
def test_the_page_is_well_formed_and_every_link_leads_somewhere(request, site):
    found = Outline(request.getfixturevalue(site).text)
    assert found.wrong == []
    assert len(found.ids) == len(set(found.ids))
    assert found.targets <= set(found.ids)


def test_headings_leave_no_level_out(ten, visit):
    tab = visit(ten)
    levels = [int(tag[1]) for tag in tab.locator("h1, h2, h3, h4").evaluate_all("all => all.map((h) => h.localName)")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_templates_escape_and_know_their_names():
    environment = web.environment()
    assert environment.from_string("{{ x }}").render(x="<b>") == "&lt;b&gt;"
    with pytest.raises(web.jinja2.UndefinedError):
        environment.from_string("{{ x }}").render()


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (web.percent(0.5), "50.0\u202f%"),
        (web.percent(0.0004, 0), "<1\u202f%"),
        (web.percent(0.0), "0.0\u202f%"),
        (web.percent(None), "–"),
        (web.points(-0.012), "−1.2"),
        (web.points(0.0), "±0.0"),
        (web.number(-1234.5, 1), "−1,234.5"),
        (web.duration(0.42), "0.4 s"),
        (web.duration(59.7), "1 min 00 s"),
        (web.duration(7620), "2 h 07 min"),
        (web.plural(1, "class", "classes"), "1 class"),
        (web.plural(2000, "class", "classes"), "2,000 classes"),
        (web.moment("2026-01-31T23:59:59"), "2026-01-31 23:59"),
    ],
)
def test_numbers_are_written_for_people(made, words):
    assert made == words


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (0.713, 0.729), (3.0, 3.0), (0.0, 0.0), (1e-7, 2e-6), (9, 18_011)]
)
def test_an_axis_has_a_few_round_ticks_around_the_values(low, high):
    ticks = charts._ticks(low, high, None, None)
    assert ticks[0] <= low + 1e-12
    assert ticks[-1] >= high - 1e-12
    assert 3 <= len(ticks) <= 7


def test_a_line_has_a_gap_where_a_value_is_missing():
    drawn = [charts.Line("a & b", [1.0, 2.0, None, 3.0, 4.0]), charts.Line("c", [2.0, None, 2.0, None, 2.0])]
    text = charts.lines("<label>", list("12345"), drawn, "epoch", str)
    assert text.count("<polyline") == 2
    assert "&lt;label&gt;" in text
    assert "a &amp; b, epoch 2: 2.0" in text


def test_a_training_that_diverged_can_still_be_shown():
    report, _ = report_data.make_report(2)
    lost = {"loss": math.nan, "val_loss": math.inf}
    epochs = [report.training[0], *(epoch.model_copy(update=lost) for epoch in report.training[1:])]
    for training in (epochs, epochs[1:]):
        assert "at last nan (training) and inf (validation)" in page.render(
            report.model_copy(update={"training": training}), {}
        )


def test_the_search_for_the_recipe_is_shown_with_gaps_where_a_trial_diverged():
    report, _ = report_data.make_report(2)
    values = {"training.learning_rate": 0.123456, "training.flip": True, "model.normalization": "<b>"}
    found = [
        schema.Trial(trial=number, accuracy=accuracy, values=values) for number, accuracy in ((4, 0.9), (1, 0.5))
    ]
    shown = page.render(report.model_copy(update={"tuning": found}), {})
    assert "Validation accuracy of 2 trials, from 50.0\u202f% to 90.0\u202f%; the best is trial 4." in shown
    assert '<td class="n">0.1235</td><td class="n">true</td><td class="n">&lt;b&gt;</td>' in shown
    assert 'href="#search"' in shown
    assert "Epochs" not in shown[shown.index('id="trial-table"') :].partition("</table>")[0]
    assert 'id="search"' not in page.render(report, {})


def test_the_made_up_reports_agree_with_themselves():
    report, pictures = report_data.make_report(10)
    part = report.evaluation
    matrix = part.confusion_matrix
    assert part.count == sum(map(sum, matrix)) == sum(b.count for b in part.calibration)
    assert part.accuracy == pytest.approx(sum(matrix[n][n] for n in range(10)) / part.count)
    assert part.accuracy == pytest.approx(sum(b.count * b.accuracy for b in part.calibration if b.count) / part.count)
    assert part.blessed == all(gate.passed for gate in part.gates) == (report.verdict.state == "pushed")
    for slices in part.slices:
        assert sum(row.count for row in slices.rows) == part.count
    for picture in report.pictures:
        assert picture.file in pictures
        label = part.class_names.index
        assert matrix[label(picture.true)][label(picture.predicted)] > 0
    assert schema.Report.model_validate_json(report.model_dump_json()) == report


# For every text of the page: its colour against what lies behind it, after WCAG 2.2.
CONTRASTS = """() => {
    const numbers = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
    const over = (top, ground) => {
        const [r, g, b, alpha = 1] = top;
        return [r, g, b].map((value, n) => value * alpha + ground[n] * (1 - alpha));
    };
    const behind = (element) => {
        const layers = [];
        for (let part = element; part; part = part.parentElement)
            layers.push(numbers(getComputedStyle(part).backgroundColor));
        return layers.reverse().reduce((ground, layer) => over(layer, ground), [255, 255, 255]);
    };
    const light = (colour) => {
        const [r, g, b] = colour.map((value) => {
            const share = value / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const found = [];
    for (const element of document.body.querySelectorAll("*")) {
        if (element.closest("script, style, .unseen, option")) continue;
        const words = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim());
        const text = words.join("");
        if (!text || (element.closest("svg") && element.localName !== "text")) continue;
        const style = getComputedStyle(element);
        const ground = behind(element.closest("svg") ?? element);
        const colour = over(numbers(element.localName === "text" ? style.fill : style.color), ground);
        const [dark, bright] = [light(colour), light(ground)].sort((a, b) => a - b);
        found.push({ text: text.slice(0, 40), element: element.localName, ratio: (bright + 0.05) / (dark + 0.05) });
    }
    return found;
}"""
