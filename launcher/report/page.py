"""The page: what stands where. Pure: from what was read to one text."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from launcher.report.classes import evaluated, evaluation, samples
from launcher.report.compared import comparison
from launcher.report.curves import metric_charts, system_charts
from launcher.report.history import Attempt, attempts_of, worked_s
from launcher.report.markup import Markup, folded, join, tag
from launcher.report.read import PLAIN, RunData
from launcher.report.receipt import receipt
from launcher.report.script import SCRIPT
from launcher.report.style import STYLE
from launcher.report.swept import Swept, heading, overview
from launcher.report.timeline import timeline
from launcher.report.words import duration, figure, moment, plural
from trainer.checkpoint import manifest

GENERATOR = "ostinato report"
Sections = list[tuple[str, str, Markup]]
STATES = {
    "finished": ("✓", "finished"),
    "running": ("▶", "running"),
    "waiting": ("…", "waiting"),
    "stopped": ("■", "stopped"),
    "failed": ("✕", "failed"),
    "lost": ("✕", "lost"),
    "created": ("·", "created, not begun"),
    "unreadable": ("✕", "not readable in part"),
}
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""The page asks the browser itself to forbid all traffic."""


def page(runs: Sequence[RunData], swept: Swept | None = None) -> str:
    """The whole page.

    Args:
        runs: what it is about, one at least; of a sweep those that are told in full.
        swept: the sweep, if it is about one.
    """
    attempts = [attempts_of(run.events, run.seen, running=run.row.state == "running", now=run.read_at) for run in runs]
    title, header, sections = _told(runs, attempts, swept)
    there = [(name, head, inside) for name, head, inside in sections if inside]
    contents = tag("nav", tag("ul", *(tag("li", tag("a", head, href=f"#{name}")) for name, head, _ in there)), aria_label="Sections")
    body = [
        tag("a", "Skip to the content", href="#content", class_="skip"),
        tag("header", header, contents),
        tag("main", *(tag("section", tag("h2", head), inside, id=name) for name, head, inside in there), id="content", tabindex="-1"),
        tag("footer", tag("p", f"Made by ostinato report, {moment(runs[0].read_at)}. This page is whole: it loads nothing.")),
        tag("script", Markup(SCRIPT)),
    ]
    head_ = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="generator", content=GENERATOR),
        Markup('<link rel="icon" href="data:,">'),
        tag("title", f"{title} · ostinato"),
        tag("style", Markup(STYLE)),
    ]
    return f"<!doctype html>\n{tag('html', tag('head', *head_), tag('body', *body), lang='en')}\n"


def _told(runs: Sequence[RunData], attempts: Sequence[list[Attempt]], swept: Swept | None) -> tuple[str, Markup, Sections]:
    """The title, the heading and the sections."""
    if swept is not None:
        title = f"Sweep {swept.name}: {plural(len(swept.table.lines), 'run')}"
        sections = [("sweep", "Results", overview(swept)), *_several(runs, attempts)]
        return title, join([tag("p", "ostinato report", class_="brand"), tag("h1", title), heading(swept)]), sections
    if len(runs) > 1:
        title = f"{len(runs)} runs compared"
        return title, _header_of_several(runs, title), _several(runs, attempts)
    return runs[0].name, _header(runs[0], attempts[0]), _one(runs[0], attempts[0])


def _one(run: RunData, attempts: list[Attempt]) -> Sections:
    return [
        ("curves", "Curves", metric_charts([run])),
        ("timeline", "What happened", timeline(attempts, run.events)),
        ("samples", "Predictions", _samples(run)),
        ("classes", "Classes", _evaluations(run)),
        ("evaluated", "Evaluated afterwards", evaluated(run.evaluated)),
        ("system", "Machine", system_charts(run)),
        ("receipt", "Receipt", receipt(run, attempts)),
        ("config", "Config", _config(run)),
    ]


def _several(runs: Sequence[RunData], attempts: Sequence[list[Attempt]]) -> Sections:
    found = [("comparison", "Comparison", comparison(runs, attempts)), ("curves", "Curves", metric_charts(runs))]
    for number, (run, tried) in enumerate(zip(runs, attempts, strict=True), 1):
        parts = [(head, inside) for name, head, inside in _one(run, tried) if name != "curves" and inside]
        # Their headings are below the run's own.
        inside = [folded(head, tag("div", made, class_="inner")) for head, made in parts]
        found.append((f"run-{number}", run.name, join([_state(run), _summary(run, tried), _faults(run), *inside])))
    return found


def _header(run: RunData, attempts: list[Attempt]) -> Markup:
    return join([tag("p", "ostinato report", class_="brand"), tag("h1", run.name), _state(run), _summary(run, attempts), _faults(run)])


def _header_of_several(runs: Sequence[RunData], title: str) -> Markup:
    names = join([tag("li", tag("a", run.name, href=f"#run-{number}"), " ", _badge(run)) for number, run in enumerate(runs, 1)])
    return join([tag("p", "ostinato report", class_="brand"), tag("h1", title), tag("ul", names, class_="runs")])


def _badge(run: RunData) -> Markup:
    sign, word = STATES.get(run.row.state, ("?", run.row.state))
    return tag("span", tag("span", sign, aria_hidden="true"), f" {word}", class_=f"badge {run.row.state}")


def _state(run: RunData) -> Markup:
    """How the run stands, in a sentence; one that has not ended says how far it is."""
    row, parts = run.row, []
    if row.step is not None:
        parts.append(f"step {row.step:,}" + (f" of {row.of:,}" if row.of is not None else ""))
    if row.epoch is not None:
        parts.append(f"epoch {row.epoch}" + (f" of {row.epochs}" if row.epochs is not None else ""))
    detail = f" ({row.detail})" if row.detail else ""
    progress = None
    if row.state != "finished" and row.step is not None and row.of:
        progress = Markup(f'<progress max="{row.of}" value="{min(row.step, row.of)}" aria-label="Progress">{row.step}/{row.of}</progress>')
    note = f"This is how it stood at {moment(run.read_at)}." if row.state != "finished" else None
    reason = (
        next((str(e.get("reason")) for e in reversed(run.events) if e.get("event") == "failed"), None) if row.state == "failed" else None
    )
    lines = [tag("p", _badge(run), detail, " ", " · ".join(parts), class_="state"), progress]
    return join([*lines, tag("p", reason, class_="warning") if reason else None, tag("p", note, class_="note") if note else None])


def _summary(run: RunData, attempts: list[Attempt]) -> Markup:
    """The result and how it came about, in a few large figures."""
    split = next((name for name in ("test", "valid", "epoch", "train") if run.newest.get(name)), None)
    cards = []
    if split is not None:
        word = {"epoch": "training", "train": "training", "valid": "validation"}.get(split, split)
        row = run.newest[split]
        names = [
            name
            for name in row
            if name not in PLAIN and not name.startswith("lr") and name != "grad_norm" and not isinstance(row[name], str)
        ]
        names.sort(key=lambda name: {"accuracy": 0, "loss": 1}.get(name, 2))
        cards = [(f"{word} {name.replace('_', ' ')}", figure(name, row[name])) for name in names[:4]]
    if attempts:
        cards.append(("at work", duration(worked_s(attempts))))
        cards.append(("starts", str(len(attempts))))
        workers = [str(count) for count, _ in itertools.groupby(attempt.workers for attempt in attempts) if count is not None]
        if workers:
            cards.append(("workers", " → ".join(workers if len(workers) < 6 else [*workers[:2], "…", *workers[-2:]])))
    best = run.marks.get("best")
    if best:
        cards.append(("best checkpoint", f"step {manifest.step_of(best):,}"))
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in cards), class_="cards") if cards else Markup("")


def _faults(run: RunData) -> Markup:
    if not run.faults:
        return Markup("")
    return tag(
        "div", tag("p", tag("b", "Not all could be read.")), tag("ul", *(tag("li", fault) for fault in run.faults)), class_="warning"
    )


def _evaluations(run: RunData) -> Markup:
    return join([evaluation(split, run.evaluations[split]) for split in ("test", "valid", "train") if split in run.evaluations])


def _samples(run: RunData) -> Markup:
    return join([samples(split, run.samples[split]) for split in ("test", "valid", "train") if split in run.samples])


def _config(run: RunData) -> Markup:
    if not run.config:
        return Markup("")
    created: dict[str, object] = next((row for row in run.events if row.get("event") == "created"), {})
    overrides = created.get("overrides")
    said = None
    if isinstance(overrides, list) and overrides:
        said = tag("p", "Changed on the command line: ", join([tag("code", part) for part in overrides], ", "), ".")
    source = tag("p", "From ", tag("code", created["config"]), ".") if created.get("config") else None
    return join([source, said, folded("The whole config, every default filled in", tag("pre", run.config, tabindex="0"))])
