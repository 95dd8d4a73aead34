"""Draws the dashboard as a picture, for those who want to see it before they have a Grafana: the panels of dashboard.json at
their places, filled with what Prometheus answered, in about the looks of Grafana. Only what our panels use is understood.
"""

import html
import math
import shutil
import subprocess
import time

# Laid out for 1280 pixels and drawn larger, so that it can still be read where it is shown smaller.
WIDTH, SCALE, UNIT, GAP, EDGE, HEAD = 1280, 1.25, 31, 8, 14, 52
COLUMN = (WIDTH - 2 * EDGE + GAP) / 24
PALETTE = ["#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#e24d42", "#b877d9", "#37a2c2", "#96d98d", "#ffb357", "#8ab8ff"]
PALETTE += ["#ff7383", "#ca95e5", "#6ed0e0", "#fade2a"]
COLOURS = {"green": "#73bf69", "yellow": "#f2cc0c", "red": "#f2495c", "blue": "#5794f2"}
# From cold to hot, as the scheme Turbo.
HEAT = ["#23171b", "#4569e0", "#26bce1", "#3ff393", "#95fb51", "#edd03a", "#ff821d", "#cb2b06"]

STYLE = """
* { box-sizing: border-box; margin: 0 }
body { background: #111217; color: #ccccdc; font: 13px Inter, Roboto, "Liberation Sans", "DejaVu Sans", sans-serif }
.head { position: absolute; left: 14px; top: 10px; right: 14px; display: flex; gap: 10px; align-items: center }
.head b { font-size: 20px; font-weight: 500; margin-right: 8px }
.chip { background: #181b1f; border: 1px solid #2c2f36; border-radius: 3px; padding: 5px 9px; color: #9fa3b0 }
.chip i { color: #6e9fff; font-style: normal; margin-left: 6px }
.right { margin-left: auto }
.row { position: absolute; font-size: 16px; font-weight: 500; display: flex; align-items: center; gap: 8px }
.panel { position: absolute; background: #181b1f; border: 1px solid #24272e; border-radius: 3px; overflow: hidden }
.title { padding: 7px 10px 0; font-weight: 500; height: 27px; white-space: nowrap; overflow: hidden }
.stat { position: absolute; left: 10px; top: 34px; font-size: 28px; font-weight: 500 }
svg { position: absolute; left: 0; top: 0 }
svg text { fill: #9fa3b0; font-size: 11.5px }
table { border-collapse: collapse; width: 100%; margin-top: 5px }
th { text-align: left; color: #6e9fff; font-weight: 500 }
th, td { padding: 7px 10px; border-bottom: 1px solid #24272e }
"""


def picture(dashboard, panels, alerts, file, folder):
    """Writes the picture; `panels` has (target, result) pairs by number of panel, `folder` is for what is in between."""
    starts = [float(series["values"][0][0]) for series in alerts]
    body, bottom = [head(dashboard)], 0
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        x, y = EDGE + place["x"] * COLUMN, HEAD + place["y"] * UNIT
        wide, high = place["w"] * COLUMN - GAP, place["h"] * UNIT - GAP
        box = f"left:{x:.0f}px;top:{y:.0f}px;width:{wide:.0f}px;height:{high:.0f}px"
        bottom = max(bottom, y + high)
        if panel["type"] == "row":
            body.append(f'<div class="row" style="{box}"><span>⌄</span>{html.escape(panel["title"])}</div>')
            continue
        inside = DRAW[panel["type"]](panel, panels[panel["id"]], wide, high, starts)
        if panel["type"] == "table":
            # No taller than its lines: there are few nodes here.
            high = min(high, 72 + 32 * len(panels[panel["id"]][0][1]))
            box, bottom = f"left:{x:.0f}px;top:{y:.0f}px;width:{wide:.0f}px;height:{high:.0f}px", y + high
        title = f'<div class="title">{html.escape(panel["title"])}</div>'
        body.append(f'<div class="panel" style="{box}">{title}{inside}</div>')
    page, picture_of_it = folder / "dashboard.html", folder / "dashboard.png"
    page.write_text(f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style>{"".join(body)}')
    subprocess.run(
        [
            "chromium",
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
            f"--user-data-dir={folder}/chromium",
            "--disable-lcd-text",
            f"--force-device-scale-factor={SCALE}",
            f"--window-size={WIDTH},{bottom + EDGE:.0f}",
            f"--screenshot={picture_of_it}",
            page.as_uri(),
        ],
        check=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # A third of the size, if that is installed.
    if shutil.which("pngquant"):
        subprocess.run(["pngquant", "--force", "--speed=1", f"--output={picture_of_it}", picture_of_it], check=True)
    shutil.copyfile(picture_of_it, file)


def head(dashboard):
    chips = "".join(
        f'<span class="chip">{variable["label"]}<i>All</i></span>'
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
    )
    return (
        f'<div class="head"><b>{dashboard["title"]}</b>{chips}<span class="chip right">↻'
        f' {dashboard["refresh"]}</span></div>'
    )


def number(value, digits=3):
    """A number with so many digits that count."""
    if value == 0 or abs(value) >= 10 ** (digits - 1):
        return f"{value:.0f}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(places, 6)}f}".rstrip("0").rstrip(".")


def scaled(value, steps, digits=3):
    """A number in the largest unit that it reaches."""
    for factor, unit in steps:
        if abs(value) >= factor:
            return f"{number(value / factor, digits)}{unit}"
    return f"{number(value / steps[-1][0], digits)}{steps[-1][1]}" if value else "0"


def show(value, unit, digits=3):
    """A value as Grafana writes it in that unit."""
    if unit in ("s", "dtdurations") and abs(value) >= 60:
        return scaled(value, [(86400, " d"), (3600, " h"), (60, " min")], digits)
    if unit in ("s", "dtdurations"):
        return scaled(value, [(1, " s"), (1e-3, " ms"), (1e-6, " µs")], digits)
    if unit == "percentunit":
        return f"{number(100 * value, digits)} %"
    if unit == "bytes":
        return scaled(value, [(2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"), (1, " B")], digits)
    if value and abs(value) < 0.001:
        value = 0
    text = scaled(value, [(1e6, " M"), (1e3, " K"), (1, "")], digits) if abs(value) >= 1 else number(value, digits)
    return text + {"qps": "/s", "ops": "/s", "pps": "/s"}.get(unit, "")


def colour(value, defaults):
    """The colour of the last threshold that a value reaches."""
    reached = [s for s in defaults["thresholds"]["steps"] if s["value"] is None or value >= s["value"]]
    return COLOURS.get(reached[-1]["color"], "#ccccdc")


def legend(target, metric):
    """The name of a series."""
    text = target["legendFormat"]
    for label, value in metric.items():
        text = text.replace("{{" + label + "}}", value)
    return text


def points(series):
    """Its (time, value) pairs, without what is no number."""
    return [(float(at), float(value)) for at, value in series["values"] if math.isfinite(float(value))]


def stat(panel, answers, wide, high, _):
    """The last value, with its course behind."""
    line = points(answers[0][1][0])
    defaults = panel["fieldConfig"]["defaults"]
    last = line[-1][1]
    ink = colour(last, defaults)
    top = max(value for _, value in line) or 1
    begin, span = line[0][0], (line[-1][0] - line[0][0]) or 1
    low = high - 40
    path = " ".join(f"{(at - begin) / span * wide:.1f},{high - value / top * (high - low):.1f}" for at, value in line)
    shape = f'<polygon points="0,{high} {path} {wide:.0f},{high}" fill="{ink}" fill-opacity=".18"/>'
    shape += f'<polyline points="{path}" fill="none" stroke="{ink}" stroke-width="1.5"/>'
    text = show(last, defaults["unit"])
    return f'<svg width="{wide:.0f}" height="{high:.0f}">{shape}</svg><div class="stat" style="color:{ink}">{text}</div>'


def ticks(top, unit):
    """About five round numbers from 0 to `top`, of bytes in MiB."""
    if top <= 0:
        return [0, 1]
    if unit == "bytes" and top >= 2**20:
        return [mark * 2**20 for mark in ticks(top / 2**20, "")]
    raw = top / 4
    base = 10 ** math.floor(math.log10(raw))
    step = next(base * factor for factor in (1, 2, 2.5, 5, 10) if base * factor >= raw * 0.999)
    return [step * at for at in range(math.ceil(top / step - 1e-9) + 1)]


def legends(names, inks, wide, high):
    """The legend at the bottom, in up to three lines, and how high it is."""
    x, line, parts, left = 12, 0, [], 0
    for name, ink in zip(names, inks):
        need = 24 + 6.6 * len(name) + 8
        if x + need > wide and x > 12:
            x, line = 12, line + 1
        if line > 2:
            left += 1
            continue
        parts.append((x, line, name, ink))
        x += need
    if left:
        parts[-1] = (*parts[-1][:2], f"and {left + 1} more", "#9fa3b0")
    tall = 17 * (parts[-1][1] + 1) + 8 if parts else 8
    shapes = ""
    for x, line, name, ink in parts:
        y = high - tall + 14 + 17 * line
        shapes += f'<rect x="{x}" y="{y - 6}" width="14" height="3" fill="{ink}"/>'
        shapes += f'<text x="{x + 19}" y="{y}" style="fill:#ccccdc">{html.escape(name)}</text>'
    return shapes, tall


def times(begin, span, left, right, low):
    """The axis of time, with a few round seconds."""
    step = next(s for s in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 3600, 1e9) if span / s <= (right - left) / 85)
    at, shapes = math.ceil(begin / step) * step, ""
    while at <= begin + span:
        x = left + (at - begin) / span * (right - left)
        text = time.strftime("%H:%M:%S", time.localtime(at))
        if left + 22 < x < right - 20:
            shapes += f'<text x="{x:.0f}" y="{low + 15:.0f}" text-anchor="middle">{text}</text>'
        at += step
    return shapes


def graph(panel, answers, wide, high, starts):
    """Lines over time, stacked or not, on a linear or logarithmic scale."""
    defaults = panel["fieldConfig"]["defaults"]
    custom, unit = defaults["custom"], defaults["unit"]
    stacked, log = custom["stacking"]["mode"] == "normal", custom["scaleDistribution"]["type"] == "log"
    lines = [(legend(target, s["metric"]), points(s)) for target, result in answers for s in result]
    lines = [(name, line) for name, line in lines if line]
    inks = [PALETTE[at % len(PALETTE)] for at in range(len(lines))]
    shapes, tall = legends([name for name, _ in lines], inks, wide, high)
    begin = min(line[0][0] for _, line in lines)
    span = max(line[-1][0] for _, line in lines) - begin or 1
    if stacked:
        lines = stack(lines)
    values = [value for _, line in lines for _, *pair in line for value in pair]
    limit = limit_of(defaults)
    if log:
        positive = [value for value in values if value > 0] or [1]
        low_at, high_at = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)) + 1e-9)
        high_at = max(high_at, low_at + 1)
        marks = [10.0**at for at in range(low_at, high_at + 1)]
        height = lambda value: (math.log10(max(value, marks[0])) - low_at) / (high_at - low_at)
    else:
        marks = ticks(defaults.get("max", max(values)), unit)
        height = lambda value: value / marks[-1]
    labels = [show(mark, unit) for mark in marks]
    left, right = 16 + 6.7 * max(map(len, labels)), wide - 12
    upper, lower = 36, high - tall - 22
    across = lambda at: left + (at - begin) / span * (right - left)
    up = lambda value: lower - min(max(height(value), 0), 1) * (lower - upper)
    back = ""
    for mark, text in zip(marks, labels):
        y = up(mark)
        back += f'<line x1="{left:.0f}" x2="{right:.0f}" y1="{y:.1f}" y2="{y:.1f}" stroke="#26292f"/>'
        back += f'<text x="{left - 7:.0f}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    for start in starts:
        if begin <= start <= begin + span:
            x = across(start)
            back += f'<path d="M{x:.1f} {upper} V{lower}" stroke="#f2495c" stroke-dasharray="4 3"/>'
            back += f'<path d="M{x - 4:.1f} {lower + 6} h8 l-4 -6 z" fill="#f2495c"/>'
    if limit is not None and height(limit) <= 1:
        y = up(limit)
        back += f'<line x1="{left:.0f}" x2="{right:.0f}" y1="{y:.1f}" y2="{y:.1f}" stroke="#f2495c" stroke-opacity=".7"/>'
    back += times(begin, span, left, right, lower)
    front = ""
    for (name, line), ink in zip(lines, inks):
        for part in unbroken(line):
            edge = " ".join(f"{across(at):.1f},{up(pair[-1]):.1f}" for at, *pair in part)
            floor = " ".join(f"{across(at):.1f},{up(pair[0]) if stacked else lower:.1f}" for at, *pair in reversed(part))
            if opacity := custom["fillOpacity"] / 100:
                front += f'<polygon points="{edge} {floor}" fill="{ink}" fill-opacity="{opacity}"/>'
            dash = 'stroke-dasharray="5 4"' if name.startswith("p50 ") else ""
            front += f'<polyline points="{edge}" fill="none" stroke="{ink}" stroke-width="1.4" {dash}/>'
    return f'<svg width="{wide:.0f}" height="{high:.0f}">{back}{front}{shapes}</svg>'


def limit_of(defaults):
    """Where an alert begins, if the panel shows that."""
    return defaults["thresholds"]["steps"][-1]["value"] if "thresholds" in defaults else None


def stack(lines):
    """Each line as (time, from, to), on top of those before it."""
    floor, stacked = {}, []
    for name, line in lines:
        stacked.append((name, [(at, floor.get(at, 0), floor.get(at, 0) + value) for at, value in line]))
        floor |= {at: to for at, _, to in stacked[-1][1]}
    return stacked


def unbroken(line):
    """The parts of a line between gaps."""
    steps = sorted(b[0] - a[0] for a, b in zip(line, line[1:]))
    usual = steps[len(steps) // 2] if steps else 1
    parts = [[line[0]]]
    for point in line[1:]:
        if point[0] - parts[-1][-1][0] > 2.5 * usual:
            parts.append([])
        parts[-1].append(point)
    return parts


def heatmap(panel, answers, wide, high, _):
    """A column for each time, a cell for each bucket of the histogram, without those below it, which `le` counts too."""
    bounds = sorted(((float(s["metric"]["le"]), dict(points(s))) for s in answers[0][1]), key=lambda bound: bound[0])
    stamps = sorted({at for _, line in bounds for at in line})
    begin, span = stamps[0], stamps[-1] - stamps[0] or 1
    labels = ["> 5 s" if math.isinf(le) else show(le, "s") for le, _ in bounds]
    left, right, upper, lower = 16 + 6.7 * max(map(len, labels)), wide - 12, 34, high - 26
    tall, broad = (lower - upper) / len(bounds), (right - left) / len(stamps)
    cells = {}
    for row, (_, line) in enumerate(bounds):
        below = bounds[row - 1][1] if row else {}
        for column, at in enumerate(stamps):
            cells[row, column] = max(0, line.get(at, 0) - below.get(at, 0))
    most = max(cells.values()) or 1
    shapes = ""
    for (row, column), count in cells.items():
        if count > 0:
            x, y = left + column * broad, lower - (row + 1) * tall
            ink = heat(math.sqrt(count / most))
            shapes += f'<rect x="{x:.1f}" y="{y:.1f}" width="{broad + 0.6:.1f}" height="{tall + 0.5:.1f}" fill="{ink}"/>'
    for row, text in enumerate(labels):
        if (len(labels) - 1 - row) % 2 == 0:
            shapes += (
                f'<text x="{left - 7:.0f}" y="{lower - row * tall - tall / 2 + 4:.1f}" text-anchor="end">{text}</text>'
            )
    shapes += times(begin, span, left, right, lower)
    return f'<svg width="{wide:.0f}" height="{high:.0f}">{shapes}</svg>'


def heat(share):
    """A colour between those of HEAT."""
    at = 0.12 + 0.88 * share
    place = min(at * (len(HEAT) - 1), len(HEAT) - 1.001)
    one, other = (HEAT[int(place) + more] for more in (0, 1))
    mixed = (round(int(one[i : i + 2], 16) * (1 - place % 1) + int(other[i : i + 2], 16) * (place % 1)) for i in (1, 3, 5))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def table(panel, answers, wide, high, _):
    """A line for each node: columns are queries, and the version from the labels of the first."""
    overrides = {
        o["matcher"]["options"]: {p["id"]: p["value"] for p in o["properties"]} for o in panel["fieldConfig"]["overrides"]
    }
    lines, versions = {}, {}
    for target, result in answers:
        for series in result:
            node = series["metric"]["node"]
            versions.setdefault(node, series["metric"].get("version"))
            lines.setdefault(node, {})[target["legendFormat"]] = float(series["value"][1])
    columns = [target["legendFormat"] for target, _ in answers][1:]
    sort = panel["options"]["sortBy"][0]["displayName"]
    rows = ""
    for node in sorted(lines, key=lambda node: -lines[node].get(sort, 0)):
        rows += f"<tr><td>{node}</td><td>{versions[node]}</td>"
        for column in columns:
            value, look = lines[node].get(column, math.nan), overrides[column]
            text, ink = ("–", "#ccccdc") if math.isnan(value) else cell(value, look)
            rows += f'<td style="color:{ink}">{text}</td>'
        rows += "</tr>"
    titles = "".join(f"<th>{name}</th>" for name in ["node", "version", *columns])
    return f"<table><tr>{titles}</tr>{rows}</table>"


def cell(value, look):
    """What a cell says, and its colour."""
    for mapping in look.get("mappings", []):
        if meant := mapping["options"].get(f"{value:.0f}"):
            return meant["text"], COLOURS[meant["color"]]
    return show(value, look["unit"]), colour(value, look) if "thresholds" in look else "#ccccdc"


DRAW = {"stat": stat, "timeseries": graph, "heatmap": heatmap, "table": table}
