"""What is written into the page is text, whatever it says."""

import re
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from launcher.report.markup import Markup, folded, table, tag, text


class Parsed(HTMLParser):
    """A page's elements with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(value: str) -> str:
    """A text as a browser takes it: line ends are one character."""
    return value.replace("\r\n", "\n").replace("\r", "\n")


@given(st.text())
def test_any_text_is_text_in_an_element_and_in_an_attribute(value: str) -> None:
    parsed = Parsed(tag("p", value, title=value))
    assert [name for name, _ in parsed.elements] == ["p"]
    assert len(parsed.elements[0][1]) == 1
    kept = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", value)
    assert shown(parsed.text) == shown(kept)
    assert shown(parsed.elements[0][1][0][1] or "") == shown(kept)
    tag("p", value).encode("utf-8")  # whatever a file's name is made of


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2), max_size=4), st.text())
def test_a_table_has_its_rows_and_nothing_more(rows: list[list[str]], caption: str) -> None:
    parsed = Parsed(folded(caption, table(caption, ["a", "b"], rows)))
    names = [name for name, _ in parsed.elements]
    assert names.count("tr") == len(rows) + 1
    assert names.count("td") == len(rows)
    assert names.count("table") == names.count("caption") == 1
    assert "script" not in names


def test_markup_stays_and_none_is_left_out() -> None:
    assert (
        tag("p", tag("b", "<"), None, 3, class_="x", data_y=1, hidden=True, open=False) == '<p class="x" data-y="1" hidden><b>&lt;</b>3</p>'
    )
    assert tag("br") == "<br>"
    assert text(Markup("<b>")) == "<b>"
    assert 'title="&lt;b&gt;"' in tag("p", title=Markup("<b>"))  # an attribute holds no markup
