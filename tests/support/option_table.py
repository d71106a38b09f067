"""The table of options in docs/config.md, made from the schema: ``python -m tests.support.option_table`` writes it anew."""

from __future__ import annotations

from pathlib import Path

from trainer.config.explain import describe, options
from trainer.config.resolved import to_yaml

PAGE = Path(__file__).parents[2] / "docs" / "config.md"
START = "<!-- options: made by `python -m tests.support.option_table` -->\n"


def table() -> str:
    """A row an option."""
    rows = ["| option | value | default | meaning |", "|---|---|---|---|"]
    for name, node in options():
        default = f"`{to_yaml([node['default']], flow=True).strip()[1:-1]}`" if "default" in node else ""
        if "{" in default and "target" not in default:
            default = ""  # a section: its options have their own rows
        meaning = node.get("description", "").replace("``", "`").replace("|", "\\|").replace("\n", " ")
        rows.append(f"| `{name}` | {describe(node)} | {default} | {meaning} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text[: text.index(START)] + START + table(), encoding="utf-8")
