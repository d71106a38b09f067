"""The page's looks: light and dark, wide and narrow. Colour-blind eyes can tell the eight colours apart, each with dashes of its own."""

STYLE = """
:root{color-scheme:light dark;
--ground:#fbfbfa;--sheet:#fff;--ink:#1c1f23;--soft:#565d66;--rule:#dcdfe3;--grid:#e9ebee;--link:#0b5cad;--focus:#0b5cad;
--good:#19663a;--good-ground:#e6f4ea;--bad:#a3201a;--bad-ground:#fcebe9;--wait:#7a4d00;--wait-ground:#fdf2dc;--quiet-ground:#eceff2;
--pale:#eef3fa;--full:#14508c;--on-full:#fff;
--s0:#0a66b0;--s1:#c2500a;--s2:#00795a;--s3:#a83f86;--s4:#7a5c00;--s5:#5a50c0;--s6:#4a4f55;--s7:#b32b3c}
@media (prefers-color-scheme:dark){:root{
--ground:#14171a;--sheet:#1b1f23;--ink:#e8eaed;--soft:#a9b1ba;--rule:#353b42;--grid:#2a3036;--link:#7db9f5;--focus:#7db9f5;
--good:#7fd8a0;--good-ground:#173323;--bad:#ff9d94;--bad-ground:#3d1d1b;--wait:#f3c36b;--wait-ground:#3a2c10;--quiet-ground:#2a3036;
--pale:#1d2935;--full:#7fb8f0;--on-full:#0b1116;
--s0:#62b2f2;--s1:#ff9a52;--s2:#41d1a2;--s3:#ec9dd0;--s4:#e3c84e;--s5:#b3adff;--s6:#c3c8ce;--s7:#ff8d97}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
body{margin:0;background:var(--ground);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
body>header,main,footer{max-width:76rem;margin:0 auto;padding:0 1.25rem}
main{outline:0}
a{color:var(--link)}
:focus-visible{outline:2px solid var(--focus);outline-offset:2px;border-radius:4px}
.skip{position:absolute;left:-99rem;top:0;background:var(--sheet);padding:.5rem 1rem;z-index:9}
.skip:focus{left:.5rem;top:.5rem}
h1,h2,h3,p,ul,ol,dl,figure{margin:0}
h1{font-size:clamp(1.7rem,5vw,2.5rem);line-height:1.15;font-weight:650;letter-spacing:-.02em;overflow-wrap:anywhere}
h2{font-size:1.35rem;font-weight:650;letter-spacing:-.01em;margin:0 0 1rem;overflow-wrap:anywhere}
h3{font-size:1rem;font-weight:600}
.brand{color:var(--soft);font-size:.85rem;letter-spacing:.04em;padding-top:2rem}
.note,small,.facts{color:var(--soft);font-size:.85rem}
.state{margin:.6rem 0 0}
.badge{display:inline-block;border-radius:99px;padding:.05rem .7rem;font-weight:600;font-size:.9rem;background:var(--quiet-ground);
color:var(--ink)}
.badge.finished{background:var(--good-ground);color:var(--good)}
.badge.running,.badge.waiting,.badge.stopped{background:var(--wait-ground);color:var(--wait)}
.badge.failed,.badge.lost,.badge.unreadable{background:var(--bad-ground);color:var(--bad)}
progress{width:100%;max-width:30rem;height:.6rem;accent-color:var(--link);margin-top:.5rem;display:block}
.warning,.good{border-left:4px solid;padding:.5rem .9rem;border-radius:0 6px 6px 0;margin:.8rem 0;overflow-wrap:anywhere}
.warning{background:var(--bad-ground);border-color:var(--bad)}
.good{background:var(--good-ground);border-color:var(--good)}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(8.2rem,1fr));gap:.75rem;margin:1.25rem 0}
.cards div{background:var(--sheet);border:1px solid var(--rule);border-radius:10px;padding:.65rem .9rem;min-width:0}
.cards dt{color:var(--soft);font-size:.82rem}
.cards dd{margin:0;font-size:1.3rem;font-weight:600;font-variant-numeric:tabular-nums;overflow-wrap:anywhere;line-height:1.25}
.runs{list-style:none;padding:0;margin:1rem 0;display:flex;flex-wrap:wrap;gap:.5rem 1.25rem}
nav ul{list-style:none;padding:.6rem 0;margin:.5rem 0 0;display:flex;flex-wrap:wrap;gap:.25rem 1.1rem;border-top:1px solid var(--rule)}
nav a{display:inline-block;padding:.25rem 0;text-decoration:none;overflow-wrap:anywhere}
nav a:hover{text-decoration:underline}
main>section{padding:1.6rem 0;border-top:1px solid var(--rule)}
footer{color:var(--soft);font-size:.85rem;padding-top:1.5rem;padding-bottom:2.5rem}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,26rem),1fr));gap:1rem}
.note+.charts,.scroll+.charts{margin-top:1rem}
.chart{background:var(--sheet);border:1px solid var(--rule);border-radius:10px;padding:.9rem 1rem .6rem;min-width:0;display:flex;
flex-direction:column}
.legend{list-style:none;padding:0;margin:.35rem 0 .7rem;display:flex;flex-wrap:wrap;gap:.1rem 1rem;font-size:.85rem}
.legend li{min-width:0;max-width:100%}
.key{display:inline-flex;align-items:center;gap:.4rem;font:inherit;color:inherit;background:none;border:0;padding:.1rem 0;
text-align:left;overflow-wrap:anywhere}
.key b{font-variant-numeric:tabular-nums;white-space:nowrap}
button.key{cursor:pointer}
button.key:hover span{text-decoration:underline}
.key[aria-pressed=false]{opacity:.55;text-decoration:line-through}
.swatch{flex:none}
.plot{display:grid;grid-template-columns:auto 1fr;grid-template-rows:13rem 1.4rem;column-gap:.35rem;margin-top:auto}
.area{position:relative;min-width:0;border-left:1px solid var(--rule);border-bottom:1px solid var(--rule)}
.area svg{position:absolute;inset:0;width:100%;height:100%;overflow:visible}
.ys,.xs{position:relative;font-size:.75rem;color:var(--soft);font-variant-numeric:tabular-nums}
.ys span{position:absolute;right:0;transform:translateY(50%);white-space:nowrap}
.xs{grid-column:2}
.xs span{position:absolute;top:.2rem;transform:translateX(-50%);white-space:nowrap}
.rest{color:var(--soft)}
.line,.dots,.grid{fill:none;stroke:currentColor;vector-effect:non-scaling-stroke}
.line{stroke-width:2;stroke-linejoin:round}
.dots{stroke-width:6;stroke-linecap:round}
.faint{stroke-width:1;opacity:.55}
.grid{stroke:var(--grid);stroke-width:1}
.hidden{display:none}
.s0{color:var(--s0)}.s1{color:var(--s1)}.s2{color:var(--s2)}.s3{color:var(--s3)}
.s4{color:var(--s4)}.s5{color:var(--s5)}.s6{color:var(--s6)}.s7{color:var(--s7)}
.line.s1{stroke-dasharray:7 3}.line.s2{stroke-dasharray:2 3}.line.s3{stroke-dasharray:9 3 2 3}
.line.s4{stroke-dasharray:4 2}.line.s5{stroke-dasharray:12 4}.line.s6{stroke-dasharray:6 2 2 2 2 2}.line.s7{stroke-dasharray:1 2}
.cross{position:absolute;top:0;bottom:0;width:1px;background:var(--soft);pointer-events:none}
.tip{position:absolute;top:.3rem;background:var(--sheet);border:1px solid var(--rule);border-radius:6px;padding:.25rem .5rem;
font-size:.8rem;
pointer-events:none;z-index:2;max-width:90%;box-shadow:0 2px 8px #0003;font-variant-numeric:tabular-nums;white-space:pre-line}
details{margin-top:.6rem;min-width:0}
summary{cursor:pointer;color:var(--link);padding:.25rem 0;overflow-wrap:anywhere}
.chart details{font-size:.9rem;margin-top:.3rem}
.inner{padding:.5rem 0 1rem}
.scroll{overflow-x:auto;margin:.75rem 0;max-width:100%}
table{border-collapse:collapse;font-size:.88rem}
caption{text-align:left;color:var(--soft);font-size:.85rem;padding-bottom:.35rem;max-width:40rem}
th,td{padding:.3rem .7rem;border-bottom:1px solid var(--rule);text-align:left;vertical-align:top;white-space:nowrap}
thead th{color:var(--soft);font-weight:600}
tbody th{font-weight:500}
.numbers td,.numbers thead th:not(:first-child){text-align:right;font-variant-numeric:tabular-nums}
.events td:last-child{white-space:normal;min-width:16rem;overflow-wrap:anywhere}
.best{color:var(--good);font-weight:600;font-size:.8em}
code,pre{font-family:ui-monospace,"SF Mono","Cascadia Mono","DejaVu Sans Mono",Menlo,monospace;font-size:.86em}
pre{background:var(--sheet);border:1px solid var(--rule);border-radius:8px;padding:.9rem 1rem;overflow-x:auto;max-height:40rem}
p code{overflow-wrap:anywhere}
.timeline{list-style:none;padding:0}
.timeline li{margin:0 0 .7rem}
.timeline p{display:flex;flex-wrap:wrap;gap:0 .6rem;align-items:baseline;font-size:.92rem}
.track{position:relative;height:1.1rem;background:var(--quiet-ground);border-radius:4px;margin-top:.2rem}
.bar{position:absolute;top:0;bottom:0;border-radius:4px;background:var(--s0);overflow:hidden}
.bar i{position:absolute;top:0;bottom:0;width:2px;margin-left:-1px;background:var(--sheet)}
.bar.failed,.bar.lost,.bar.restarted{border-right:5px solid var(--bad)}
.bar.stopped,.bar.requeued{border-right:5px solid var(--s1)}
.bar.finished{border-right:5px solid var(--s2)}
.end{font-weight:600}.end.failed,.end.lost,.end.restarted{color:var(--bad)}.end.finished{color:var(--good)}
.end.stopped,.end.requeued,.end.running{color:var(--wait)}
.ends{display:flex;justify-content:space-between;font-size:.78rem;color:var(--soft);font-variant-numeric:tabular-nums}
.beside{display:flex;flex-wrap:wrap;gap:1rem 2.5rem;align-items:flex-start}
.beside>*{min-width:0;max-width:100%}
.evaluation+.evaluation{margin-top:1.5rem}
.confusion{border-collapse:separate;border-spacing:2px}
.confusion th,.confusion td{border:0;padding:.2rem .3rem;text-align:center;vertical-align:middle;font-variant-numeric:tabular-nums;
max-width:9rem;
overflow:hidden;text-overflow:ellipsis}
.confusion td{min-width:2.2rem;height:2rem}
.confusion th[scope=row]{text-align:right}
.confusion .corner{color:var(--soft);font-size:.75rem}
.count{border-radius:4px;background:color-mix(in srgb,var(--full) var(--share),var(--pale))}
.unseen{color:var(--soft);font-size:.8em}
.deep{color:#fff}
@media (prefers-color-scheme:dark){.count{color:#e8eaed}.count.deep,.count.deep-dark{color:#0b1116}}
.matrix{max-width:34rem;width:100%}
.heat{width:100%;background:var(--sheet);border:1px solid var(--rule);image-rendering:pixelated}
.heat path{fill:color-mix(in srgb,var(--full) var(--share),var(--pale))}
.samples{list-style:none;padding:0;margin-top:.75rem;display:grid;grid-template-columns:repeat(auto-fill,minmax(9.5rem,1fr));gap:.75rem}
.sample{background:var(--sheet);border:1px solid var(--rule);border-radius:10px;padding:.6rem;font-size:.85rem;min-width:0;
overflow-wrap:anywhere}
.sample img{display:block;width:100%;height:auto;aspect-ratio:1;object-fit:contain;image-rendering:pixelated;border-radius:6px;
background:var(--quiet-ground);margin-bottom:.4rem}
.sample ol{list-style:none;padding:0;margin-top:.3rem}
.sample ol li{display:flex;justify-content:space-between;gap:.5rem;padding:.05rem .3rem;border-radius:3px;
background:linear-gradient(90deg,var(--pale) var(--sure),transparent 0);margin-top:2px;font-variant-numeric:tabular-nums}
.right{color:var(--good);font-weight:600}.wrong{color:var(--bad);font-weight:600}
@media (max-width:30rem){body>header,main,footer{padding-left:.9rem;padding-right:.9rem}.chart{padding:.8rem .7rem .5rem}
.cards{grid-template-columns:repeat(2,1fr)}
.samples{grid-template-columns:repeat(2,1fr)}}
@media print{nav,.skip,script{display:none}.chart,main>section{break-inside:avoid}}
"""
