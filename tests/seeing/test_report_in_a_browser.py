"""The report in a real browser: what a person would see of it, with a mouse, by keyboard, on a phone, in the dark."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import CONTRAST
from tests.support.jobs import ostinato
from tests.support.written import written
from trainer.rundir import RunDir, append_jsonl, write_json

Opener = Callable[..., Any]
READABLE = 4.5  # WCAG AA


@pytest.fixture(scope="module")
def pages(killed: RunDir, other: RunDir, folder: Path) -> dict[str, Path]:
    """The report of one run, and of two."""
    for words in ((str(killed.path), "-o", "one.html"), (str(killed.path), str(other.path), "-o", "two.html")):
        assert ostinato(folder, "report", *words).returncode == 0
    return {name: folder / f"{name}.html" for name in ("one", "two")}


@pytest.fixture
def look(browser: Any) -> Iterator[Opener]:
    """Open a page; at the end it must have been quiet: no error, and no request but for itself."""
    noise: list[str] = []
    opened: list[Any] = []

    def open_page(path: Path, width: int = 1280, *, unfolded: bool = False, **options: Any) -> Any:
        page = browser.new_page(viewport={"width": width, "height": 800}, **options)
        opened.append(page)
        page.on("console", lambda said: noise.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda fault: noise.append(str(fault)))
        page.on("request", lambda asked: noise.append(asked.url) if asked.url != path.as_uri() and asked.url[:5] != "data:" else None)
        page.goto(path.as_uri())
        if unfolded:
            page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        return page

    yield open_page
    for page in opened:
        page.close()
    assert noise == []


def test_curves_are_drawn_and_can_be_seen(pages: dict[str, Path], look: Opener) -> None:
    page = look(pages["one"])
    charts = page.locator("figure.chart")
    titles = charts.locator("h3").all_text_contents()
    assert {"Loss", "Accuracy", "Learning rate", "Gradient norm", "Pace", "CPU", "Memory of the processes"} <= set(titles)
    loss = charts.filter(has=page.locator("h3", has_text="Loss")).first
    points = [path.get_attribute("d").count("L") for path in loss.locator("path.line[data-line]").all()]
    assert max(points) > 50  # each logged step
    for chart in charts.all():
        for path in chart.locator(".area path.line").all():
            box = path.bounding_box()
            area = chart.locator(".area").bounding_box()
            assert box["width"] > 50 or box["height"] >= 0
            assert area["x"] - 3 <= box["x"] <= area["x"] + area["width"] + 3
            assert area["y"] - 3 <= box["y"] <= area["y"] + area["height"] + 3
    box = loss.locator(".area path.line").first.bounding_box()
    assert box["width"] > 200
    assert box["height"] > 50


@pytest.mark.parametrize("name", ["one", "two"])
@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_the_page_is_never_wider_than_the_screen(pages: dict[str, Path], look: Opener, name: str, width: int) -> None:
    page = look(pages[name], width, unfolded=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", ["one", "two"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_can_be_read_in_light_and_dark(pages: dict[str, Path], look: Opener, name: str, scheme: str) -> None:
    page = look(pages[name], unfolded=True, color_scheme=scheme)
    found = page.evaluate(CONTRAST)
    assert len(found) > 100
    assert [worst for worst in found if worst[0] < READABLE] == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(20, 23, 26)") == (scheme == "dark")


def test_the_keyboard_reaches_every_link_and_every_fold_and_begins_with_the_skip_link(pages: dict[str, Path], look: Opener) -> None:
    page = look(pages["one"])
    where = "[document.activeElement.tagName, document.activeElement.getAttribute('href') ?? document.activeElement.textContent]"
    reached: list[list[str]] = []
    for _ in range(500):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(where))
        if reached[-1][0] == "BODY":  # past the end
            break
    assert reached[0] == ["A", "#content"]
    for href in page.evaluate("[...document.querySelectorAll('a[href]')].map(link => link.getAttribute('href'))"):
        assert ["A", href] in reached
        assert page.locator(href).count() == 1
    folds = [text for tag, text in reached if tag == "SUMMARY"]
    assert len(folds) == page.evaluate("[...document.querySelectorAll('summary')].filter(one => one.checkVisibility()).length")


def test_values_are_told_under_the_pointer_and_by_arrow_keys(pages: dict[str, Path], look: Opener) -> None:
    page = look(pages["one"])
    loss = page.locator("figure.chart").filter(has=page.locator("h3", has_text="Loss")).first
    tip = loss.locator(".tip")
    assert not tip.is_visible()
    loss.locator(".area").hover()
    assert tip.is_visible()
    assert "step" in tip.inner_text()
    loss.locator(".area").focus()
    loss.locator(".area").press("End")
    told = tip.inner_text()
    assert told.startswith("step 78")
    assert "validation: " in told
    loss.locator(".area").press("Home")
    assert tip.inner_text() != told
    loss.locator(".area").press("Escape")
    assert not tip.is_visible()


def test_the_step_that_is_told_is_one_at_which_something_was_measured_also_in_long_runs(tmp_path: Path, look: Opener) -> None:
    every = 1399
    run = written(tmp_path / "long", [{"loss": 5.0 / number} for number in range(1, 715)], every=every)
    assert ostinato(tmp_path, "report", str(run.path), "-o", "long.html").returncode == 0
    page = look(tmp_path / "long.html")
    loss = page.locator("figure.chart").filter(has=page.locator("h3", has_text="Loss")).first
    area, tip = loss.locator(".area"), loss.locator(".tip")
    area.focus()
    area.press("End")  # the first key shows where it stands
    area.press("Home")
    told = {}
    for _ in range(99):
        area.press("ArrowRight")
        step, value = tip.inner_text().splitlines()
        told[int(step.removeprefix("step ").replace(",", ""))] = float(value.removeprefix("validation: "))
    assert len(told) > 90
    assert [step for step in sorted(told) if step % every] == []
    assert told == pytest.approx({step: 5.0 * every / step for step in told}, rel=6e-4)  # four digits


def test_the_best_eight_of_many_curves_look_different_and_the_pointer_tells_only_those(tmp_path: Path, look: Opener) -> None:
    names = [f"run{number}" for number in range(12)]
    for number, name in enumerate(names):
        written(tmp_path / name, [{"loss": 1.0 + number}, {"loss": 0.5 + number}])
    assert ostinato(tmp_path, "report", *names, "-o", "many.html").returncode == 0
    page = look(tmp_path / "many.html")
    chart = page.locator("figure.chart").first
    styled = "lines => lines.map(line => (look => `${look.stroke} ${look.strokeDasharray} ${look.opacity}`)(getComputedStyle(line)))"
    looks = [chart.locator(f'path.line[data-line="{number}"]').evaluate_all(styled)[0] for number in range(12)]
    assert len(set(looks[:8])) == 8
    assert len(set(looks[8:])) == 1
    assert looks[8] not in looks[:8]
    chart.locator(".area").focus()
    chart.locator(".area").press("End")
    assert [line.partition(":")[0] for line in chart.locator(".tip").inner_text().splitlines()[1:]] == names[:8]


def test_a_curve_can_be_hidden_and_shown_again(pages: dict[str, Path], look: Opener) -> None:
    page = look(pages["one"])
    loss = page.locator("figure.chart").filter(has=page.locator("h3", has_text="Loss")).first
    lines = loss.locator(".area path.line:visible")
    before = lines.count()
    button = loss.get_by_role("button", name="validation")
    button.press("Enter")
    assert (lines.count(), button.get_attribute("aria-pressed")) == (before - 1, "false")
    button.press("Enter")
    assert (lines.count(), button.get_attribute("aria-pressed")) == (before, "true")


def test_all_is_there_without_scripts_as_well(pages: dict[str, Path], look: Opener) -> None:
    page = look(pages["one"], java_script_enabled=False)
    assert page.locator("figure.chart .area path.line").count() > 8
    assert page.get_by_role("heading", name="killed").is_visible()
    assert page.get_by_role("table", name="Confusion matrix of the test set").is_visible()
    page.locator("summary", has_text="Numbers").first.click()
    assert page.get_by_role("table", name="Loss: values by step").is_visible()


def test_drawings_and_tables_have_names_for_those_who_do_not_see_them(pages: dict[str, Path], look: Opener) -> None:
    page = look(pages["two"], unfolded=True)
    assert page.evaluate("[...document.querySelectorAll('svg:not([aria-hidden])')].every(one => one.querySelector('title,desc') !== null)")
    assert page.evaluate("[...document.querySelectorAll('table')].every(one => one.caption && one.querySelector('th[scope]'))")
    assert page.evaluate("[...document.querySelectorAll('img')].every(one => one.alt)")
    heads = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(one => +one.tagName[1])")
    assert heads.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(heads))


def test_no_name_label_or_setting_becomes_part_of_the_page(tmp_path: Path, look: Opener) -> None:
    evil = "<img src=x onerror=document.title='taken'>"
    run = RunDir(tmp_path / "runs" / f"{evil}\"'&")
    run.create()
    run.config.write_text(
        f"train: {{epochs: 3}}\nmodel: {{target: \"</pre><script>document.title='taken'</script>{evil}\"}}\n".replace("'", "")
    )
    run.event("created", config=evil, overrides=[evil])
    run.event("started", attempt=0, workers=1, checkpoint=evil)
    for step in range(1, 30):
        append_jsonl(run.metrics, {"time": 1.0 + step, "attempt": 0, "step": step, "epoch": 0, "split": "valid", "loss": 1.0, evil: step})
    classes = [evil, "</td></table><h1>taken</h1>"]
    run.inputs.write_text('{"classes": ["%s", "%s"]}' % tuple(classes))  # noqa: UP031
    run.evaluation("valid").write_text('{"step": 3, "confusion": [[3, 1], [0, 2]], "per_class": []}')
    run.event("failed", attempt=0, exit_code=4, reason=f"{evil}</script><script>document.title='taken'</script>")
    assert ostinato(tmp_path, "report", str(run.path), str(tmp_path / "runs" / "." / run.name), "-o", "evil.html").returncode == 0
    page = look(tmp_path / "evil.html", unfolded=True)
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1
    assert page.locator("h1").all_text_contents() == [run.name]
    assert "taken" not in page.title().replace("document.title='taken'", "")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_the_points_of_a_sweep_are_drawn_and_told_apart(killed: RunDir, other: RunDir, folder: Path, look: Opener) -> None:
    about = folder / "runs" / "_sweeps" / "seen"
    about.mkdir(parents=True)
    points = [{"run": run.name, "values": {"optimizer.lr": rate}} for run, rate in ((killed, "0.05"), (other, "0.1"))]
    write_json(about / "sweep.json", {"config": "digits.yaml", "overrides": [], "points": points})
    assert ostinato(folder, "report", str(about)).returncode == 0
    page = look(about / "report.html", 400)
    chart = page.locator("figure.scatter")
    dots = chart.locator(".area path.dots")
    assert chart.count() == 1
    assert dots.count() == 2
    places = [dot.bounding_box() for dot in dots.all()]
    assert abs(places[0]["x"] - places[1]["x"]) > 50
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.locator("#sweep a").first.click()
    assert page.evaluate("location.hash") == "#run-1"
