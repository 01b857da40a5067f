"""The report as one HTML page: tables cut to what fits, charts, and the sentences that come first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import jinja2
import pyarrow as pa
from markupsafe import Markup

from medbill.reports import charts, words
from medbill.reports.charts import Bar
from medbill.reports.exact import count, day, dollars, percentage, plural, short_day
from medbill.reports.tables import total
from medbill.settings import Practice

_TOP = 12
_DRIVERS_DRAWN = 12
Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """heading and how a cell is made of a row; number: right aligned; style: CSS classes, `wide` for what a
    narrow screen leaves to the CSV."""

    heading: str
    cell: Callable[[Row], str | Markup]
    number: bool = False
    style: str = ""


@dataclass(frozen=True)
class View:
    """A table as shown: a caption, headings, rows of cells, a total row; note: what is not shown and where it is."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str | Markup]]
    total: Sequence[str | Markup] = ()
    note: str = ""
    first_is_heading: bool = field(default=True)


def render(tables: dict[str, pa.Table], practice: Practice, start: date, end: date, as_of: date, listed: int) -> str:
    """The page. Everything that comes from data passes through autoescape or an escaping format."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("medbill.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    head = tables["headline"].to_pylist()[0]
    return environment.get_template("denials.html.j2").render(
        practice=practice.name,
        practice_id=practice.id,
        start=day(start),
        end=day(end),
        as_of=day(as_of),
        due_by=day(as_of + timedelta(days=14)),
        empty=head["denials"] == 0,
        cards=_cards(head, as_of),
        sentences=_sentences(tables, head, as_of),
        notes=_notes(head),
        definitions=words.DEFINITIONS,
        figures=_figures(tables, head) if head["denials"] else {},
        views=_views(tables, listed) if head["denials"] else {},
        dollars=dollars,
        head=head,
    )


def _cards(head: Row, as_of: date) -> list[dict[str, str]]:
    """The headline figures: label, value, the line under it, anchor of the definition."""

    def card(label: str, value: str, under: str, anchor: str, tone: str = "") -> dict[str, str]:
        return {"label": label, "value": value, "under": under, "anchor": anchor, "tone": tone}

    return [
        card(
            "Denied dollars",
            dollars(head["denied"]),
            f"{plural(head['denied_claims'], 'denied claim')}, {plural(head['denials'], 'denial')}",
            "denied",
        ),
        card(
            "Recoverable",
            dollars(head["recoverable"]),
            f"open on {plural(head['recoverable_claims'], 'claim')}",
            "recoverable",
            "recoverable",
        ),
        card(
            "Due within 14 days",
            dollars(head["due_soon"]),
            f"{plural(head['due_soon_claims'], 'claim')}, by {day(as_of + timedelta(days=14))}",
            "due",
            "recoverable",
        ),
        card(
            "Lost",
            dollars(head["lost"]),
            f"{dollars(head['lost_deadline_passed'])} of it by a passed deadline",
            "lost",
            "lost",
        ),
        card(
            "Initial denial rate",
            percentage(head["initial_denial_rate_claims"]),
            f"of claims; {percentage(head['initial_denial_rate_dollars'])} of dollars",
            "initial",
        ),
        card(
            "First-pass rate",
            percentage(head["first_pass_rate"]),
            f"{count(head['first_pass_claims'])} of {plural(head['claims_remitted'], 'claim')} remitted",
            "firstpass",
        ),
        card(
            "Overturn rate",
            percentage(head["overturn_rate"]),
            f"{count(head['overturned_claims'])} of {count(head['initially_denied_claims'])} paid later",
            "overturn",
        ),
        card("Settled since", dollars(head["settled"]), "paid, reversed or denied again", "settled", "settled"),
    ]


def _sentences(tables: dict[str, pa.Table], head: Row, as_of: date) -> list[str]:
    """What to know before reading on."""
    if not head["denials"]:
        return []
    said = []
    drivers = [r for r in tables["top_drivers"].to_pylist() if r["share"] is not None]
    if drivers:
        few = next((i for i, r in enumerate(drivers, 1) if r["cumulative_share"] >= 50), len(drivers))
        first = drivers[0]
        said.append(
            f"{plural(few, 'driver')} of {len(drivers)} {'makes' if few == 1 else 'make'} up "
            f"{percentage(drivers[few - 1]['cumulative_share'])} of denied dollars. The largest: {first['payer']}, "
            f"{words.category(first['category']).lower()} (CARC {first['reason_code']}), {dollars(first['denied'])}."
        )
    if head["due_soon"]:
        urgent = [r for r in tables["work_list"].to_pylist() if r["deadline"] is not None]
        nearest = min(r["deadline"] for r in urgent)
        said.append(
            f"{dollars(head['due_soon'])} on {plural(head['due_soon_claims'], 'claim')} can still be recovered but falls due by "
            f"{day(as_of + timedelta(days=14))}; the first deadline is {day(nearest)}."
        )
    elif head["recoverable"]:
        said.append(f"{dollars(head['recoverable'])} can still be recovered; no deadline falls within 14 days.")
    if head["lost_deadline_passed"]:
        said.append(f"{dollars(head['lost_deadline_passed'])} is lost because its deadline has passed.")
    return said


def _notes(head: Row) -> list[str]:
    said = []
    if head["denials_undated"]:
        said.append(
            f"{plural(head['denials_undated'], 'denial')} ({dollars(head['denied_undated'])}) came on a remittance without a "
            "payment date and is in no period; it is not counted here."
            if head["denials_undated"] == 1
            else f"{plural(head['denials_undated'], 'denial')} ({dollars(head['denied_undated'])}) came on remittances without a "
            "payment date and are in no period; they are not counted here."
        )
    if head["claims_first_unknown"]:
        said.append(
            f"{plural(head['claims_first_unknown'], 'claim')} begin with a correction of a remittance older than the data: first "
            "answer unknown, left out of the rates."
        )
    return said


def _bar(row: Row, label: str, name: str) -> Bar:
    return Bar(label, (row["recoverable"], row["lost"], row["not_owed"], row["settled"]), name)


def _driver_name(row: Row) -> str:
    return f"{row['payer']}, {words.category(row['category'])}, CARC {row['reason_code']}"


def _figures(tables: dict[str, pa.Table], head: Row) -> dict[str, Markup]:
    weeks = tables["by_week"].to_pylist()
    drivers = [r for r in tables["top_drivers"].to_pylist() if r["share"] is not None][:_DRIVERS_DRAWN]
    return {
        "stand": charts.stand_bar("fig-stand", "Where the denied dollars stand", _bar(head, "", "All denials")),
        "pareto": charts.pareto(
            "fig-pareto",
            "Denied dollars by driver, with cumulative share",
            [_bar(r, str(r["rank"]), f"{r['rank']}. {_driver_name(r)}") for r in drivers],
            [r["cumulative_share"] for r in drivers],
        ),
        "weeks": charts.columns(
            "fig-weeks",
            "Denied dollars by week of payment, and initial denial rate",
            [_bar(r, short_day(r["first_day"]), f"{short_day(r['first_day'])} to {day(r['last_day'])}") for r in weeks],
            [r["initial_denial_rate"] for r in weeks],
            "Initial denial rate, % of claims first remitted in the week",
        ),
        "ages": charts.columns(
            "fig-ages",
            "Denied dollars by age of denial in days",
            [_bar(r, r["age"], f"{r['age']} days") for r in tables["by_age"].to_pylist()],
        ),
        "categories": charts.rows(
            "fig-categories",
            "Denied dollars by category",
            [
                _bar(r, words.category(r["category"]), words.category(r["category"]))
                for r in tables["by_category"].to_pylist()
            ],
        ),
    }


def _money(name: str, heading: str | None = None, style: str = "") -> Column:
    def cell(row: Row) -> str | Markup:
        said = dollars(row[name])
        return said if row[name] else Markup('<span class="soft">{}</span>').format(said)

    return Column(heading or name.capitalize(), cell, True, style)


def _measures(maximum: Decimal) -> list[Column]:
    return [
        Column("Denials", lambda row: count(row["denials"]), True),
        Column("Claims", lambda row: count(row["claims"]), True, "wide"),
        _money("denied", style="strong"),
        Column("Share", lambda row: percentage(row["share"]), True),
        Column("", lambda row: charts.cell_bar(_bar(row, "", "of it"), maximum), style="bar"),
        _money("recoverable"),
        _money("lost"),
        _money("not_owed", "Not owed"),
        _money("settled"),
    ]


def _breakdown(name: str, caption: str, keys: Sequence[Column], table: pa.Table, top: int | None = _TOP) -> View:
    """A table of groups, the largest first; past `top` rows the rest is one row, so that the columns still add up."""
    rows = table.to_pylist()
    maximum = max((_bar(r, "", "").total for r in rows), default=Decimal(0))
    columns = [*keys, *_measures(maximum)]
    cut = len(rows) if top is None or len(rows) <= top + 1 else top
    cells = [[c.cell(r) for c in columns] for r in rows[:cut]]
    rest, note = rows[cut:], ""
    if rest:
        summed = {
            m: sum((r[m] for r in rest if r[m] is not None), Decimal(0))
            for m in ("denied", "share", "recoverable", "lost", "not_owed", "settled")
        }
        summed |= {"denials": sum(r["denials"] for r in rest), "claims": None}
        label = f"{len(rest)} others"
        cells.append([label, *[""] * (len(keys) - 1), *(c.cell(summed) for c in columns[len(keys) :])])
        note = f"All {len(rows)} rows are in csv/{name}.csv and parquet/{name}.parquet."
    whole = {m: total(table, m) for m in ("denials", "denied", "recoverable", "lost", "not_owed", "settled")}
    share = "100.0%" if whole["denied"] else percentage(None)
    footer = [
        "Total",
        *[""] * (len(keys) - 1),
        count(whole["denials"]),
        "",
        dollars(whole["denied"]),
        share,
        "",
        dollars(whole["recoverable"]),
        dollars(whole["lost"]),
        dollars(whole["not_owed"]),
        dollars(whole["settled"]),
    ]
    return View(name, caption, columns, cells, footer, note)


def _views(tables: dict[str, pa.Table], listed: int) -> dict[str, View]:
    code = Markup("<code>{}</code>").format
    category = Column("Category", lambda r: words.category(r["category"]))
    payer = Column("Payer", lambda r: _payer(r))
    return {
        "drivers": _drivers(tables["top_drivers"]),
        "weeks": _weeks(tables["by_week"]),
        "ages": _breakdown(
            "by_age",
            "Denials by age in days",
            [Column("Age in days", lambda r: r["age"].replace("-", "\u2013"))],
            tables["by_age"],
            top=None,
        ),
        "work": _work(tables["work_list"], listed),
        "categories": _breakdown("by_category", "Denials by category", [category], tables["by_category"], top=None),
        "recoverable": _recoverable(tables["recoverable_by_category"]),
        "payers": _breakdown("by_payer", "Denials by payer", [payer], tables["by_payer"]),
        "reasons": _breakdown(
            "by_reason",
            "Denials by group, reason code (CARC) and remark codes (RARC)",
            [
                Column("Reason", lambda r: code(f"{r['group_code']}-{r['reason_code']}")),
                Column("Remarks", lambda r: code(r["remark_codes"]) if r["remark_codes"] else "none", style="codes"),
                Column("Category", category.cell, style="wide"),
            ],
            tables["by_reason"],
        ),
        "procedures": _breakdown(
            "by_procedure",
            "Denials by procedure code",
            [Column("Procedure", lambda r: code(r["procedure_code"]))],
            tables["by_procedure"],
        ),
        "providers": _breakdown(
            "by_provider",
            "Denials by rendering provider (NPI)",
            [Column("Rendering NPI", lambda r: code(r["rendering_npi"]))],
            tables["by_provider"],
        ),
    }


def _payer(row: Row) -> str | Markup:
    identity = row["payer_id"]
    if not identity or identity == row["payer"]:
        return str(row["payer"])
    return Markup('{} <span class="soft">{}</span>').format(row["payer"], identity)


def _drivers(table: pa.Table) -> View:
    rows = table.to_pylist()
    shown = rows if len(rows) <= _TOP + 1 else rows[:_TOP]

    def do(row: Row) -> Markup:
        names = row["actions"].split(" ")
        first = Markup("<b>{}.</b> {}").format(words.action_name(names[0]), words.action_text(names[0]))
        if len(names) == 1:
            return first
        return first + Markup(" <span class=soft>In part: {}.</span>").format(
            ", ".join(words.action_name(n).lower() for n in names[1:])
        )

    def driver(row: Row) -> Markup:
        return Markup("<b>{}</b><br>{} <code>CARC {}</code>").format(
            row["payer"], words.category(row["category"]), row["reason_code"]
        )

    columns = [
        Column("#", lambda r: count(r["rank"]), True),
        Column("Driver", driver, style="driver"),
        Column("Denials", lambda r: count(r["denials"]), True, "wide"),
        _money("denied", style="strong"),
        Column("Share", lambda r: percentage(r["share"]), True, "wide"),
        Column("Cumulative", lambda r: percentage(r["cumulative_share"]), True),
        _money("recoverable"),
        Column("What to do", do, style="todo"),
    ]
    cells = [[c.cell(r) for c in columns] for r in shown]
    rest = rows[len(shown) :]
    note = ""
    if rest:
        summed = {
            "denials": sum(r["denials"] for r in rest),
            "denied": sum((r["denied"] for r in rest), Decimal(0)),
            "share": sum((r["share"] for r in rest if r["share"] is not None), Decimal(0)),
            "recoverable": sum((r["recoverable"] for r in rest), Decimal(0)),
            "cumulative_share": rows[-1]["cumulative_share"],
        }
        cells.append(["", f"{len(rest)} other drivers", *(c.cell(summed) for c in columns[2:7]), ""])
        note = f"All {len(rows)} drivers are in csv/top_drivers.csv and parquet/top_drivers.parquet."
    footer = [
        "",
        "Total",
        count(total(table, "denials")),
        dollars(total(table, "denied")),
        "100.0%" if total(table, "denied") else percentage(None),
        "",
        dollars(total(table, "recoverable")),
        "",
    ]
    return View(
        "top_drivers",
        "Top drivers: payer, category and reason code, by denied dollars",
        columns,
        cells,
        footer,
        note,
        False,
    )


def _weeks(table: pa.Table) -> View:
    columns = [
        Column("Week from", lambda r: Markup('<span class="nowrap">{}</span>').format(day(r["first_day"]))),
        Column("Denials", lambda r: count(r["denials"]), True),
        Column("Claims", lambda r: count(r["claims"]), True, "wide"),
        _money("denied", style="strong"),
        Column("Share", lambda r: percentage(r["share"]), True, "wide"),
        _money("recoverable"),
        _money("lost"),
        _money("not_owed", "Not owed"),
        _money("settled"),
        Column("Remitted", lambda r: count(r["claims_remitted"]), True, "wide"),
        Column("Denied first", lambda r: count(r["initially_denied_claims"]), True, "wide"),
        Column("Rate", lambda r: percentage(r["initial_denial_rate"]), True),
    ]
    footer = [
        "Total",
        count(total(table, "denials")),
        "",
        dollars(total(table, "denied")),
        "100.0%" if total(table, "denied") else percentage(None),
        *(dollars(total(table, m)) for m in ("recoverable", "lost", "not_owed", "settled")),
        count(total(table, "claims_remitted")),
        count(total(table, "initially_denied_claims")),
        "",
    ]
    cells = [[c.cell(r) for c in columns] for r in table.to_pylist()]
    return View("by_week", "Denials by week of payment (Monday to Sunday)", columns, cells, footer)


def _recoverable(table: pa.Table) -> View:
    columns = [
        Column("Category", lambda r: words.category(r["category"])),
        _money("denied", style="strong"),
        _money("recoverable"),
        Column("Of denied", lambda r: percentage(r["recoverable_share"]), True, "wide"),
        _money("due_soon", "Due in 14 days"),
        _money("lost", style="wide"),
        _money("lost_not_recoverable", "Not recoverable"),
        _money("lost_deadline_passed", "Deadline passed"),
        _money("not_owed", "Not owed", "wide"),
        _money("settled"),
    ]
    denied, recoverable = total(table, "denied"), total(table, "recoverable")
    footer = [
        "Total",
        dollars(denied),
        dollars(recoverable),
        percentage(recoverable * 100 / denied) if denied else percentage(None),
        *(
            dollars(total(table, m))
            for m in ("due_soon", "lost", "lost_not_recoverable", "lost_deadline_passed", "not_owed", "settled")
        ),
    ]
    cells = [[c.cell(r) for c in columns] for r in table.to_pylist()]
    return View("recoverable_by_category", "Recoverable and lost dollars by category", columns, cells, footer)


def _work(table: pa.Table, listed: int) -> View:
    def deadline(row: Row) -> str | Markup:
        left = row["days_left"]
        if left is None:
            return "none"
        said = "today" if left == 0 else f"in {plural(left, 'day')}"
        style = "soon" if left <= 14 else "soft"
        return Markup('<span class="nowrap">{}</span> <span class="{} nowrap">{}</span>').format(
            day(row["deadline"]), style, said
        )

    def reason(row: Row) -> Markup:
        codes = f"{row['group_code']}-{row['reason_code']} {row['remark_codes']}".strip()
        return Markup("{}<br><code>{}</code>").format(words.category(row["category"]), codes)

    columns = [
        Column("#", lambda r: count(r["rank"]), True),
        Column("Claim", lambda r: Markup("<code>{}</code>").format(r["claim_token"] or "not stated"), style="claim"),
        Column("Payer", lambda r: r["payer"]),
        Column("Reason", reason, style="reason"),
        Column("Procedures", lambda r: Markup("<code>{}</code>").format(r["procedure_codes"]), style="codes wide"),
        _money("recoverable", style="strong"),
        Column("Deadline", deadline),
        Column("Next step", lambda r: words.action_name(r["action"]) + ("" if r["appealable"] else " (no appeal)")),
    ]
    rows = table.to_pylist()
    cells = [[c.cell(r) for c in columns] for r in rows[:listed]]
    note = (
        f"{listed} of {len(rows)} rows, {dollars(sum((r['recoverable'] for r in rows[:listed]), Decimal(0)))} of "
        f"{dollars(total(table, 'recoverable'))}; all are in csv/work_list.csv and parquet/work_list.parquet."
        if len(rows) > listed
        else ""
    )
    footer = (
        [
            "",
            "Total shown" if len(rows) > listed else "Total",
            "",
            "",
            "",
            dollars(sum((r["recoverable"] for r in rows[:listed]), Decimal(0))),
            "",
            "",
        ]
        if rows
        else []
    )
    return View("work_list", "Open denials to work next", columns, cells, footer, note, False)
