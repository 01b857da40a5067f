"""Small SVG charts: inline, scalable, coloured by the page's own classes, with a title and a description for screen readers.

Positions are floats, printed with one decimal; amounts stay exact and are only ever divided to get a length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from markupsafe import Markup

from medbill.reports.exact import dollars, percentage, short_dollars

#: CSS classes of the four parts of a denied amount, in the order they are drawn.
PARTS = ("recoverable", "lost", "not-owed", "settled")
PART_NAMES = {
    "recoverable": "recoverable",
    "lost": "lost",
    "not-owed": "not owed",
    "settled": "settled since",
}
_WIDTH = 560


@dataclass(frozen=True)
class Bar:
    """label under or beside the bar; amounts in the order of PARTS; name: the full name, for its tooltip."""

    label: str
    amounts: tuple[Decimal, Decimal, Decimal, Decimal]
    name: str

    @property
    def total(self) -> Decimal:
        """Length of the bar: negative parts (a payer's correction of its own adjustment) have none."""
        return sum((max(a, Decimal(0)) for a in self.amounts), Decimal(0))

    def tip(self) -> str:
        parts = ", ".join(f"{PART_NAMES[p]} {dollars(a)}" for p, a in zip(PARTS, self.amounts, strict=True) if a)
        return f"{self.name}: {dollars(sum(self.amounts, Decimal(0)))} denied" + (f" ({parts})" if parts else "")


def ticks(maximum: Decimal, most: int = 5) -> list[int]:
    """Round whole dollars from 0 to at least maximum, at most `most` steps of 1, 2 or 5 times a power of ten."""
    step, factor = 1, 1
    while step * most < maximum:
        for digit in (1, 2, 5):
            step = digit * factor
            if step * most >= maximum:
                break
        factor *= 10
    return [step * i for i in range(max(1, math.ceil(maximum / step)) + 1)]


def cell_bar(bar: Bar, maximum: Decimal) -> Markup:
    """A bar for a table cell; the cells beside it say the numbers, so screen readers pass over it."""
    parts, x = [], 0.0
    for name, amount in zip(PARTS, bar.amounts, strict=True):
        width = float(max(amount, Decimal(0)) / maximum * 100) if maximum else 0.0
        if width:
            parts.append(
                Markup('<rect class="{}" x="{}%" y="0" width="{}%" height="10"/>').format(
                    name, f"{x:.2f}", f"{width:.2f}"
                )
            )
            x += width
    return Markup(
        '<svg class="cellbar" height="10" aria-hidden="true" focusable="false"><title>{}</title>{}</svg>'
    ).format(bar.tip(), Markup("").join(parts))


def stand_bar(chart_id: str, title: str, bar: Bar) -> Markup:
    """One wide bar: the parts of all denied dollars."""
    return _svg(chart_id, title, bar.tip(), 100, 6, [_stack(bar, 0, 0, 100, 6, bar.total)], stretch=True)


def columns(
    chart_id: str, title: str, bars: Sequence[Bar], rates: Sequence[Decimal | None] = (), rate_name: str = ""
) -> Markup:
    """Stacked columns over one axis of dollars; where rates (percent) are given, a line of them in a panel of its own below."""
    left, right, top, plot = 50, 8, 14, 180
    step = (_WIDTH - left - right) / max(1, len(bars))
    width = min(46.0, step * 0.68)
    scale = ticks(max((b.total for b in bars), default=Decimal(0)))
    out = _money_axis(scale, left, top, plot, right)
    for i, bar in enumerate(bars):
        x = left + step * i + (step - width) / 2
        y = float(top + plot)
        drawn = []
        for name, amount in zip(PARTS, bar.amounts, strict=True):
            height = float(max(amount, Decimal(0)) / scale[-1]) * plot
            if height:
                y -= height
                drawn.append(_rect(name, x, y, width, height))
        out.append(Markup("<g><title>{}</title>{}</g>").format(bar.tip(), Markup("").join(drawn)))
    bottom = top + plot
    every = _every(max((len(b.label) for b in bars), default=1), step)
    for i, bar in enumerate(bars):
        if i % every == 0:
            out.append(_label(bar.label, left + step * (i + 0.5), bottom + 18, "middle"))
    bottom += 26
    if rates:
        out += _rate_panel(rates, [b.name for b in bars], rate_name, left, bottom + 26, right, step)
        bottom += 26 + 84
    best = max(bars, key=lambda b: b.total, default=None)
    said = f"{len(bars)} columns. Highest: {best.tip()}." if best else "No columns."
    return _svg(chart_id, title, said, _WIDTH, bottom + 4, out)


def pareto(chart_id: str, title: str, bars: Sequence[Bar], cumulative: Sequence[Decimal]) -> Markup:
    """Stacked columns from the largest down, and the cumulative share (percent) as a line over its own axis at the right."""
    left, right, top, plot = 50, 42, 14, 220
    step = (_WIDTH - left - right) / max(1, len(bars))
    width = min(46.0, step * 0.68)
    scale = ticks(max((b.total for b in bars), default=Decimal(0)))
    out = _money_axis(scale, left, top, plot, right)
    for value in (0, 50, 100):
        out.append(_label(f"{value}%", _WIDTH - right + 8, top + plot * (1 - value / 100) + 4, "start"))
    points = []
    for i, (bar, share) in enumerate(zip(bars, cumulative, strict=True)):
        x, y = left + step * i + (step - width) / 2, float(top + plot)
        drawn = []
        for name, amount in zip(PARTS, bar.amounts, strict=True):
            height = float(max(amount, Decimal(0)) / scale[-1]) * plot
            if height:
                y -= height
                drawn.append(_rect(name, x, y, width, height))
        out.append(Markup("<g><title>{}</title>{}</g>").format(bar.tip(), Markup("").join(drawn)))
        out.append(_label(bar.label, x + width / 2, top + plot + 18, "middle"))
        points.append((x + width / 2, top + plot * (1 - min(100.0, max(0.0, float(share))) / 100), share))
    out.append(_line(points))
    for i, (x, y, share) in enumerate(points):
        out.append(
            Markup('<circle class="dot" cx="{}" cy="{}" r="3.5"><title>{}</title></circle>').format(
                f"{x:.1f}", f"{y:.1f}", f"First {i + 1}: {percentage(share)} of denied dollars"
            )
        )
    out.append(
        _label(
            "driver number, see the table", left + (_WIDTH - left - right) / 2, top + plot + 38, "middle", "axis soft"
        )
    )
    said = (
        f"The first {len(bars)} drivers make up {percentage(cumulative[-1])} of denied dollars."
        if bars
        else "No drivers."
    )
    return _svg(chart_id, title, said, _WIDTH, top + plot + 46, out)


def rows(chart_id: str, title: str, bars: Sequence[Bar]) -> Markup:
    """Stacked horizontal bars with the name at the left and the amount at the end of each bar."""
    left, right, height, gap, top = 172, 84, 17, 8, 6
    maximum = max((b.total for b in bars), default=Decimal(0)) or Decimal(1)
    out: list[Markup] = []
    for i, bar in enumerate(bars):
        y = top + i * (height + gap)
        span = _WIDTH - left - right
        out.append(_label(_shorten(bar.label, 27), left - 10, y + 13, "end"))
        out.append(Markup("<g><title>{}</title>{}</g>").format(bar.tip(), _stack(bar, left, y, span, height, maximum)))
        end = left + span * float(bar.total / maximum)
        out.append(_label(dollars(sum(bar.amounts, Decimal(0))), end + 8, y + 13, "start", "axis value"))
    said = "; ".join(bar.tip() for bar in bars[:3])
    return _svg(chart_id, title, f"Largest first. {said}.", _WIDTH, top + len(bars) * (height + gap), out)


def _svg(
    chart_id: str, title: str, said: str, width: int, height: float, out: Sequence[Markup], stretch: bool = False
) -> Markup:
    return Markup(
        '<svg class="chart{}" viewBox="0 0 {} {}" role="img" aria-labelledby="{}-t {}-d"{}>'
        '<title id="{}-t">{}</title><desc id="{}-d">{}</desc>{}</svg>'
    ).format(
        " stretch" if stretch else "",
        width,
        f"{height:g}",
        chart_id,
        chart_id,
        Markup(' preserveAspectRatio="none"') if stretch else "",
        chart_id,
        title,
        chart_id,
        said,
        Markup("").join(out),
    )


def _stack(bar: Bar, x: float, y: float, span: float, height: float, maximum: Decimal) -> Markup:
    drawn = []
    for name, amount in zip(PARTS, bar.amounts, strict=True):
        width = float(max(amount, Decimal(0)) / maximum) * span if maximum else 0.0
        if width:
            drawn.append(_rect(name, x, y, width, height))
            x += width
    return Markup("").join(drawn)


def _rect(name: str, x: float, y: float, width: float, height: float) -> Markup:
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
        name, f"{x:.1f}", f"{y:.1f}", f"{width:.2f}", f"{height:.2f}"
    )


def _label(text: str, x: float, y: float, anchor: str, style: str = "axis") -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        style, f"{x:.1f}", f"{y:.1f}", anchor, text
    )


def _money_axis(scale: Sequence[int], left: float, top: float, plot: float, right: float) -> list[Markup]:
    out = []
    for value in scale:
        y = top + plot * (1 - value / scale[-1])
        out.append(
            Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                "base" if value == 0 else "grid", f"{left:.1f}", f"{_WIDTH - right:.1f}", f"{y:.1f}", f"{y:.1f}"
            )
        )
        out.append(_label(short_dollars(value), left - 8, y + 4, "end"))
    return out


def _rate_panel(
    rates: Sequence[Decimal | None], names: Sequence[str], what: str, left: float, top: float, right: float, step: float
) -> list[Markup]:
    plot = 60
    highest = max((r for r in rates if r is not None), default=Decimal(0))
    top_rate = next((t for t in (5, 10, 20, 25, 50, 100) if highest <= t), 100)
    out = [_label(what, left, top - 10, "start", "axis soft")]
    for value in (0, top_rate):
        y = top + plot * (1 - value / top_rate)
        out.append(
            Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                "base" if value == 0 else "grid", f"{left:.1f}", f"{_WIDTH - right:.1f}", f"{y:.1f}", f"{y:.1f}"
            )
        )
        out.append(_label(f"{value}%", left - 8, y + 4, "end"))
    run: list[tuple[float, float, Decimal]] = []
    for i, rate in enumerate(rates):
        if rate is None:  # a week without remittances has no rate: the line breaks
            out.append(_line(run))
            run = []
            continue
        run.append((left + step * (i + 0.5), top + plot * (1 - float(rate) / top_rate), rate))
        x, y, _ = run[-1]
        out.append(
            Markup('<circle class="dot" cx="{}" cy="{}" r="3"><title>{}</title></circle>').format(
                f"{x:.1f}", f"{y:.1f}", f"{names[i]}: {percentage(rate)}"
            )
        )
    out.append(_line(run))
    return out


def _line(points: Sequence[tuple[float, float, Decimal]]) -> Markup:
    if len(points) < 2:
        return Markup("")
    return Markup('<polyline class="line" points="{}"/>').format(" ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points))


def _every(characters: int, step: float) -> int:
    """Label every n-th column, so that labels of this length do not touch."""
    needed = characters * 7.0 + 8
    return max(1, math.ceil(needed / step))


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
