"""Plot of the result (SVG): each row relative to nginx, and the growth of narinfos. For light and dark backgrounds."""

import math
import statistics
from xml.sax.saxutils import escape

WIDTH = 860
LABELS = 380
BAR, GAP = 13, 5
# Largest ratio of the axis: a longer bar is cut, and its number shows the value. A logarithmic axis would hide ratios near 1.
MOST = 4.0
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.title { font-weight: 600; font-size: 14px; }
.quiet { fill: #59636e; }
.end { text-anchor: end; }
.middle { text-anchor: middle; }
.plain { fill: #2f6fd6; stroke: #2f6fd6; }
.zstd { fill: #1a8a5f; stroke: #1a8a5f; }
.nginx { fill: #8b949e; stroke: #8b949e; }
.line { fill: none; stroke-width: 2; }
.axis { stroke: #8b949e; stroke-width: 1; }
.grid { stroke: #8b949e; stroke-opacity: .3; stroke-width: 1; }
.one { stroke: #cf222e; stroke-width: 1.5; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .quiet { fill: #9198a1; }
  .one { stroke: #ff7b72; }
  .plain { fill: #6ea8fe; stroke: #6ea8fe; }
  .zstd { fill: #3fb98a; stroke: #3fb98a; }
}
"""
# nginx, harmonia, label, colour.
PAIRS = (
    ("nginx", "harmonia plain", "plain", "plain"),
    ("nginx", "harmonia daemon", "plain from the daemon", "plain"),
    ("nginx zstd", "harmonia", "zstd", "zstd"),
)


def svg(result):
    """Returns the plot of a result."""
    parts, y = [], 20
    for draw in (_ratios, _growth):
        drawn, height = draw(result, y)
        parts += drawn
        y += height
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" role="img">'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>"]) + "\n"


def _ratios(result, top):
    """Returns a bar for each row and encoding of NARs: harmonia's time over nginx's."""
    bars = []
    for row, by_name in result.get("rows", {}).items():
        for theirs, ours, form, kind in PAIRS:
            if row.startswith(("narinfo", "closure")) and theirs in by_name and ours in by_name:
                bars.append((f"{row}, {form}", _seconds(by_name[ours]) / _seconds(by_name[theirs]), kind))
    if not bars:
        return [], 0
    scale = (WIDTH - LABELS - 60) / MOST
    bottom = top + 30 + len(bars) * (BAR + GAP)
    title = "Time of harmonia over that of nginx with ready-made files (1: as fast; less is better)"
    parts = [_text(10, top, title, "title")]
    for mark in range(int(MOST) + 1):
        x = LABELS + mark * scale
        parts.append(_line(x, top + 14, x, bottom, "one" if mark == 1 else "grid"))
        parts.append(_text(x, bottom + 14, str(mark), "quiet middle"))
    for number, (label, ratio, kind) in enumerate(bars):
        y = top + 22 + number * (BAR + GAP)
        width = min(ratio, MOST) * scale
        parts.append(_text(LABELS - 8, y + 11, label, "end"))
        parts.append(f'<rect class="{kind}" x="{LABELS}" y="{y}" width="{width:.1f}" height="{BAR}"/>')
        parts.append(_text(LABELS + width + 5, y + 11, f"{ratio:.2f}", "quiet"))
    return parts, bottom + 50 - top


def _growth(result, top):
    """Returns the microseconds of a narinfo by connections and by paths, both on logarithmic scales."""
    panels = []
    if "connections" in result:
        by_name = result["connections"]
        lines = [("nginx", by_name["nginx"], "nginx"), ("harmonia", by_name["harmonia"], "zstd")]
        panels.append(("µs of a warm narinfo by connections", lines))
    if "paths" in result:
        by_name = result["paths"]
        kinds = {"nginx": "nginx", "harmonia warm": "zstd", "harmonia cold": "plain"}
        panels.append(("µs of a narinfo by paths", [(name, by_name[name], kind) for name, kind in kinds.items()]))
    parts = []
    for number, (title, lines) in enumerate(panels):
        parts += _panel(title, lines, 50 + number * WIDTH // 2, top, WIDTH // 2 - 150, 200)
    return parts, 270 if panels else 0


def _panel(title, lines, left, top, width, height):
    points = {name: {int(at): _each(results) for at, results in measured.items()} for name, measured, _ in lines}
    across = sorted({at for found in points.values() for at in found})
    most = math.ceil(math.log10(max(max(found.values()) for found in points.values())))
    least = math.floor(math.log10(min(min(found.values()) for found in points.values())))
    bottom = top + 20 + height
    spread = math.log10(across[-1] / across[0]) or 1
    x_of = lambda at: left + math.log10(at / across[0]) / spread * width
    y_of = lambda value: bottom - (math.log10(value) - least) / max(most - least, 1) * height
    parts = [_text(left - 30, top, title, "title"), _line(left, bottom, left + width, bottom, "axis")]
    for power in range(least, most + 1):
        y = y_of(10**power)
        parts += [_line(left, y, left + width, y, "grid"), _text(left - 6, y + 4, f"{10**power:g}", "quiet end")]
    for at in across:
        parts.append(_text(x_of(at), bottom + 16, f"{at:,}".replace(",", " "), "quiet middle"))
    placed = []
    for name, _, kind in lines:
        found = points[name]
        path = " ".join(f"{x_of(at):.1f},{y_of(found[at]):.1f}" for at in sorted(found))
        parts.append(f'<polyline class="line {kind}" style="fill:none" points="{path}"/>')
        y = y_of(found[max(found)]) + 4
        # Labels that would overlap.
        while any(abs(y - other) < 14 for other in placed):
            y += 14
        placed.append(y)
        parts.append(_text(left + width + 6, y, name, ""))
    return parts


def _each(results):
    return statistics.median(result["seconds"] / result["requests"] * 1e6 for result in results)


def _seconds(results):
    return statistics.median(result["seconds"] / result["requests"] for result in results)


def _text(x, y, text, kind):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>'


def _line(x1, y1, x2, y2, kind):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'
