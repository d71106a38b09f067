"""What stands on the page of ``ostinato serve``: a place for an input, and a table of what the model says to it."""

from __future__ import annotations

import html
import math
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from trainer.predict import InputError, Prediction, Predictor

TOP_K = 5
LOOK_EVERY_S, KEPT_S = 5, 30  # uploads: long enough for the browser to show them
MOST_FIELDS = 24  # a table's row with more columns is typed, or pasted, as one line
FONTS = ["system-ui", "sans-serif"]
MONOSPACED = ["ui-monospace", "monospace"]

# Changes of the answer are read aloud.
SCRIPT = "() => { document.getElementById('answer')?.setAttribute('aria-live', 'polite'); }"
CSS = """
.gradio-container, .gradio-container main { width: 100%; max-width: 66rem; margin: 0 auto !important; }
#about h1 { font-size: 1.6rem; overflow-wrap: anywhere; }
#picture img { width: 100%; height: 100%; object-fit: contain; }
#answer table { width: 100%; border-collapse: collapse; border: 0; }
#answer tr { border: 0; background: none; }
#answer caption { text-align: left; padding-bottom: .5rem; overflow-wrap: anywhere; }
#answer th, #answer td { padding: .35rem .5rem; border: 0; border-bottom: 1px solid var(--border-color-primary); text-align: left; }
#answer th[scope=row] { overflow-wrap: anywhere; white-space: pre-wrap; }
#answer .share { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
#answer .bar { width: 40%; }
#answer .bar div { height: .8rem; min-width: 1px; border-radius: .2rem; background: var(--color-accent); }
#answer .problem { padding: .6rem .8rem; border-left: .3rem solid #d13b3b; overflow-wrap: anywhere; }
"""
KINDS = {"image": "Drop a picture", "text": "Type a text", "array": "Type numbers"}
WAITING = "<p>The answer will stand here.</p>"


def theme() -> Any:
    """Gradio's look in letters that every machine has, and colours that can be read in light and dark."""
    muted = {"light": "*neutral_600", "dark": "*neutral_300"}
    return gr.themes.Default(primary_hue="blue", secondary_hue="blue", neutral_hue="slate", font=FONTS, font_mono=MONOSPACED).set(
        body_text_color_subdued=muted["light"],
        body_text_color_subdued_dark=muted["dark"],
        block_label_text_color=muted["light"],
        block_label_text_color_dark=muted["dark"],
        block_title_text_color=muted["light"],
        block_title_text_color_dark=muted["dark"],
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
    )


def page(predictor: Predictor) -> Any:
    """The page of a run's model."""
    ask = _one_at_a_time(predictor)
    name = html.escape(predictor.name)
    with gr.Blocks(
        title=f"{predictor.name} · ostinato", analytics_enabled=False, delete_cache=(LOOK_EVERY_S, KEPT_S), fill_width=True
    ) as blocks:
        gr.HTML(f"<h1>{name}</h1><p>{KINDS[predictor.kind]}, and see what {_source(predictor)} says.</p>", elem_id="about")
        with gr.Row():
            with gr.Column():
                inputs, triggers, read = {"image": _picture, "text": _text, "array": _numbers}[predictor.kind](predictor)
            with gr.Column():
                answer = gr.HTML(WAITING, elem_id="answer")
        gr.on(
            triggers,
            lambda *values: ask(read, values),
            inputs,
            answer,
            preprocess=predictor.kind != "image",  # the run decodes its pictures itself
            concurrency_limit=1,
            show_progress="minimal",
            api_visibility="private",
        )
    return blocks.queue(default_concurrency_limit=1)


def _source(predictor: Predictor) -> str:
    classes = f", {len(predictor.classes)} classes" if predictor.classes else ""
    return f"the model (checkpoint {html.escape(predictor.checkpoint)}{classes})"


Reader = Callable[..., tuple[str, Any] | None]
"""What the page sends → what it is called and what it is; None: nothing."""


def _picture(predictor: Predictor) -> tuple[list[Any], list[Any], Reader]:
    picture = gr.Image(
        label="Picture", sources=["upload", "clipboard"], image_mode=None, type="filepath", buttons=[], height=360, elem_id="picture"
    )
    picture.async_move_resource_to_block_cache = _only_an_upload

    def read(sent: dict[str, Any] | None) -> tuple[str, Any] | None:
        return None if sent is None else (str(sent.get("orig_name") or "the picture"), Path(str(sent["path"])))

    return [picture], [picture.change], read


async def _only_an_upload(path: Any, *rest: Any) -> str | None:
    """Where a picture lies that has been dropped on the page.

    Whoever speaks to the server without the page may name a web address, which gradio would fetch, or another file of this machine.
    """
    uploads = Path(os.environ["GRADIO_TEMP_DIR"]).resolve()
    if path is not None and uploads not in Path(str(path)).resolve().parents:
        raise gr.Error("only a picture that was dropped on the page", print_exception=False)
    return None if path is None else str(path)


def _text(predictor: Predictor) -> tuple[list[Any], list[Any], Reader]:
    what = "The beginning of a text" if predictor.inputs.form == "characters" else "Text"
    text = gr.Textbox(label=what, lines=8, max_lines=20)
    button = gr.Button("Ask the model", variant="primary")
    return [text], [button.click, text.submit], lambda sent: ("the text", str(sent)) if sent and str(sent).strip() else None


def _numbers(predictor: Predictor) -> tuple[list[Any], list[Any], Reader]:
    columns, shape = predictor.inputs.columns or (), predictor.inputs.shape
    single = 0 < len(columns) <= MOST_FIELDS
    if single:
        # Not gradio's field for numbers: left empty, it says 0.
        fields: list[Any] = [gr.Textbox(label=column, max_lines=1) for column in columns]
    else:
        many = f"{math.prod(shape)} numbers" if shape else "Numbers"
        fields = [gr.Textbox(label=f"{many}, with blanks or commas between them", lines=6, max_lines=20)]
    button = gr.Button("Ask the model", variant="primary")

    def read(*sent: str) -> tuple[str, Any] | None:
        if not any(value.strip() for value in sent):
            return None
        if single:
            return "the row", np.asarray([_number(value, f"{column}: ") for column, value in zip(columns, sent, strict=True)])
        return "the row", _in_shape([_number(word) for word in re.split(r"[\s,;]+", sent[0].strip(" \t\r\n,;"))], shape)

    return fields, [button.click, *(field.submit for field in fields)], read


def _number(word: str, where: str = "") -> float:
    try:
        return float(word)
    except ValueError as fault:
        raise InputError(f"{where}{repr(word) if word.strip() else 'nothing'} is no number") from fault


def _in_shape(values: list[float], shape: tuple[int, ...] | None) -> Any:
    if shape is None:
        return np.asarray(values)
    if math.prod(shape) != len(values):
        raise InputError(f"{len(values)} numbers, where the model takes {math.prod(shape)}")
    return np.asarray(values).reshape(shape)


def _one_at_a_time(predictor: Predictor) -> Callable[[Reader, tuple[Any, ...]], str]:
    """What asks the model and never raises: whatever is wrong with an input stands on the page, and the next one is answered."""
    lock = threading.Lock()

    def ask(read: Reader, values: tuple[Any, ...]) -> str:
        name, told = "the input", ""
        try:
            found = read(*values)
            if found is None:
                return WAITING
            name, value = found
            if isinstance(value, Path) and not value.exists():
                return problem(name, "it has been removed meanwhile; drop it once more")
            with lock:
                return table(name, predictor.predict([value], TOP_K)[0])
        except InputError as fault:
            told = str(fault)
            for value in values:
                if isinstance(value, dict):
                    told = told.removeprefix(f"{value.get('path')}: ")
        except MemoryError:
            told = "it is too large for this machine's memory"
        except Exception as fault:  # a model or a transform of one's own
            told = f"the model failed: {(str(fault).splitlines() or [type(fault).__name__])[0]}"
        return problem(name, told)

    return ask


def problem(name: str, told: str) -> str:
    """What is wrong with an input, as a part of the page."""
    return f'<p class="problem" role="alert"><strong>{html.escape(name)}</strong> cannot be used: {html.escape(told)}</p>'


def table(name: str, answer: Prediction) -> str:
    """What the model says, with the digits of ``ostinato predict``."""
    caption = f"<caption>What the model says to {html.escape(name)}</caption>"
    if answer.values:
        rows = "".join(
            f'<tr><th scope="row">value{f" {number}" if len(answer.values) > 1 else ""}</th><td class="share">{value:.6g}</td></tr>'
            for number, value in enumerate(answer.values, start=1)
        )
        return f'<table>{caption}<thead><tr><th scope="col">output</th><th scope="col" class="share">value</th></tr></thead>{rows}</table>'
    rows = "".join(_row(label, 100 * share) for label, share in answer.pairs)
    head = '<thead><tr><th scope="col">class</th><th aria-hidden="true"></th><th scope="col" class="share">probability</th></tr></thead>'
    return f"<table>{caption}{head}<tbody>{rows}</tbody></table>"


def _row(label: str, percent: float) -> str:
    shown = html.escape(label if label.isprintable() and label.strip() else repr(label))
    bar = f'<td class="bar" aria-hidden="true"><div style="width: {percent:.2f}%"></div></td>'
    return f'<tr><th scope="row">{shown}</th>{bar}<td class="share">{percent:.2f} %</td></tr>'
