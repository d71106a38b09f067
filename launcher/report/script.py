"""What the page can do beyond being read: values under the pointer or by arrow keys, curves that can be hidden. It reads without it."""

SCRIPT = r"""
"use strict";
for (const chart of document.querySelectorAll(".chart:not(.scatter)")) {
  const area = chart.querySelector(".area"), side = 1000;
  const [x0, x1, xKind] = area.dataset.x.split(" "), [y0, y1, yKind, log] = area.dataset.y.split(" ");
  const names = area.dataset.names.split("\n");
  const curves = [...area.querySelectorAll(".line")].map(path => ({
    path, name: names[+path.dataset.line], number: +path.dataset.line,
    points: path.getAttribute("d").slice(1).split(/[ML]/).map(part => part.split(" ").map(Number)),
  })).sort((a, b) => a.number - b.number);
  const xOf = place => +x0 + (place / side) * (x1 - x0);
  const yOf = place => {
    const share = 1 - place / side;
    return log ? 10 ** (Math.log10(y0) + share * (Math.log10(y1) - Math.log10(y0))) : +y0 + share * (y1 - y0);
  };
  const digits = value => Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(4));
  const say = (kind, value) => {
    if (kind === "share") return (100 * value).toFixed(2) + " %";
    if (kind === "percent") return value.toFixed(0) + " %";
    if (kind === "bytes") return (value / 2 ** 20).toFixed(0) + " MiB";
    if (kind === "seconds") return digits(value) + " s";
    return kind === "step" ? "step " + Math.round(value).toLocaleString("en") : digits(value);
  };
  const cross = document.createElement("div"), tip = document.createElement("div");
  cross.className = "cross"; tip.className = "tip"; tip.setAttribute("role", "status");
  area.append(cross, tip);
  cross.hidden = tip.hidden = true;
  let at = side;
  const nearest = (points, place) => {
    let low = 0, high = points.length - 1;
    while (low < high) { const middle = (low + high) >> 1; if (points[middle][0] < place) low = middle + 1; else high = middle; }
    return low > 0 && place - points[low - 1][0] < points[low][0] - place ? points[low - 1] : points[low];
  };
  const show = place => {
    at = Math.min(side, Math.max(0, place));
    const seen = curves.filter(curve => !curve.path.classList.contains("hidden"));
    if (!seen.length) return hide();
    const own = seen.filter(curve => !curve.path.classList.contains("rest"));  // the rest would fill the screen
    const found = (own.length ? own : seen).map(curve => [curve.name, nearest(curve.points, at)]);
    const here = found.map(([, point]) => point[0]).reduce((a, b) => Math.abs(b - at) < Math.abs(a - at) ? b : a);
    tip.textContent = [say(xKind, xOf(here)), ...found.map(([name, point]) => name + ": " + say(yKind, yOf(point[1])))].join("\n");
    cross.style.left = here / 10 + "%";
    tip.style.left = here < 500 ? here / 10 + 1 + "%" : "auto";
    tip.style.right = here < 500 ? "auto" : 101 - here / 10 + "%";
    cross.hidden = tip.hidden = false;
  };
  const hide = () => { cross.hidden = tip.hidden = true; };
  area.tabIndex = 0;
  area.setAttribute("role", "group");
  area.setAttribute("aria-label", chart.querySelector("h3").textContent + ": arrow keys tell the values");
  area.addEventListener("pointermove", event => {
    const box = area.getBoundingClientRect();
    show(((event.clientX - box.left) / box.width) * side);
  });
  area.addEventListener("pointerleave", hide);
  area.addEventListener("blur", hide);
  area.addEventListener("keydown", event => {
    const move = { ArrowLeft: -10, ArrowRight: 10, Home: -2 * side, End: 2 * side }[event.key];
    if (event.key === "Escape") hide();
    if (!move) return;
    event.preventDefault();
    show(cross.hidden ? at : at + move);
  });
  for (const key of chart.querySelectorAll(".key")) {
    if (curves.length < 2) break;
    const button = document.createElement("button");
    button.type = "button"; button.className = "key"; button.append(...key.childNodes);
    button.setAttribute("aria-pressed", "true");
    const paths = area.querySelectorAll('[data-line="' + key.dataset.line + '"]');
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") === "false";
      button.setAttribute("aria-pressed", on);
      for (const path of paths) path.classList.toggle("hidden", !on);
      hide();
    });
    key.replaceWith(button);
  }
}
"""
