"""The denial report: every figure against a small case worked out by hand."""

from __future__ import annotations

import csv
import html
import importlib.util
import json
import re
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from medbill.errors import BadInput, StoreUnavailable
from medbill.reports import denials as report
from medbill.reports import tables, words
from medbill.reports.denials import ReportPaths
from medbill.rules import carc
from medbill.settings import Settings

_spec = importlib.util.spec_from_file_location("reports_rows", Path(__file__).parents[1] / "reports_rows.py")
assert _spec and _spec.loader
rows = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(rows)
claim, denial, line, money = rows.claim, rows.denial, rows.line, rows.money

START, END, AS_OF = date(2026, 6, 1), date(2026, 6, 30), date(2026, 7, 1)
D1, D2, D3 = date(2026, 6, 2), date(2026, 6, 16), date(2026, 6, 29)


def build(
    out: Path,
    denials: list[dict[str, Any]],
    claims: list[dict[str, Any]],
    lines: list[dict[str, Any]] | None = None,
    **more: Any,
) -> ReportPaths:
    return report.build(
        rows.denials_table(denials),
        rows.claims_table(claims),
        more.get("start", START),
        more.get("end", END),
        rows.PRACTICE,
        out,
        more.get("as_of", AS_OF),
        service_lines=None if lines is None else rows.lines_table(lines),
    )


def figures(made: ReportPaths) -> dict[str, Any]:
    return made.summary["figures"]


def table(made: ReportPaths, name: str) -> list[dict[str, Any]]:
    return pq.read_table(made.parquet[name]).to_pylist()


def test_first_pass_rate_is_claims_without_denial_on_their_first_remittance(tmp_path: Path) -> None:
    claims = [claim("a.1", D1, paid=60), claim("b.1", D1), claim("c.1", D1, paid=60), claim("c.2", D2)]
    made = build(tmp_path, [denial("b.1", D1), denial("c.2", D2)], claims)  # c is denied on its second remittance only
    f = figures(made)
    assert (f["claims_remitted"], f["first_pass_claims"], f["first_pass_rate"]) == (3, 2, "66.7")
    assert (f["initially_denied_claims"], f["initial_denial_rate_claims"]) == (1, "33.3")
    assert (f["denied_claims"], f["denials"], f["denied"]) == (2, 2, "200.00")


def test_initial_denial_rate_by_dollars_is_first_denied_over_first_charges(tmp_path: Path) -> None:
    claims = [claim("a.1", D1, 300, 60), claim("b.1", D1, 100), claim("b.2", D2, 100)]
    made = build(tmp_path, [denial("a.1", D1, 90), denial("b.1", D1, 100), denial("b.2", D2, 100)], claims)
    assert figures(made)["initial_denial_rate_dollars"] == "47.5"  # 190 of 400


def test_a_claim_first_remitted_before_the_period_is_not_counted_again(tmp_path: Path) -> None:
    claims = [
        claim("a.1", date(2026, 5, 30)),
        claim("a.2", D1, paid=60),
        claim("b.1", START, paid=5),
        claim("c.1", END, paid=5),
    ]
    assert figures(build(tmp_path, [denial("a.1", date(2026, 5, 30))], claims))["claims_remitted"] == 2


def test_period_takes_both_its_ends(tmp_path: Path) -> None:
    days = [START - timedelta(days=1), START, END, END + timedelta(days=1)]
    made = build(tmp_path, [denial(f"{i}.1", d, 10**i) for i, d in enumerate(days)], [])
    assert figures(made)["denied"] == "110.00"


def test_overturn_rate_is_initially_denied_claims_paid_later(tmp_path: Path) -> None:
    claims = [
        claim("a.1", D1),
        claim("a.2", D2, paid=60),  # overturned
        claim("b.1", D1),
        claim("b.2", D2),  # denied again
        claim("c.1", D1),  # no further answer
        claim("d.1", D1),
        claim("d.2", D2, paid=60),  # paid, and taken back
        claim("d.3", D3, -100, -60, is_reversal=True),
        claim("e.1", D1, paid=60),  # never denied: not in the denominator
        claim("f.1", D1, paid=30),  # denied in part
        claim("f.2", D2, paid=12, payer_id="P2"),  # a secondary payer's share of the paid part
        claim("g.1", D1),
        claim("g.2", D2, paid=60, payer_id="P2"),  # wholly denied, then paid by the payer that came first
        claim("h.1", D1, paid=30),
        claim("h.2", D2, -100, -30, is_reversal=True),
        claim("h.3", D2, 100, 70),  # corrected upwards
        claim("i.1", D1, paid=30),
        claim("i.2", D2, -100, -30, is_reversal=True),
        claim("i.3", D2, 100, 30),  # corrected without a cent more
    ]
    made = build(tmp_path, [denial(f"{c}.1", D1, 40) for c in "abcdfghi"], claims)
    f = figures(made)
    assert (f["initially_denied_claims"], f["overturned_claims"], f["overturn_rate"]) == (8, 3, "37.5")


def test_a_correction_without_its_original_has_no_known_first_answer(tmp_path: Path) -> None:
    claims = [claim("a.1", D1, -100, -60, is_reversal=True), claim("a.2", D1, 100, 70), claim("b.1", D1, paid=60)]
    made = build(tmp_path, [], claims)
    f = figures(made)
    assert (f["claims_remitted"], f["claims_first_unknown"]) == (1, 1)
    assert "left out of the rates" in made.html.read_text()


def test_a_claim_in_two_parts_on_its_first_day_is_one_claim(tmp_path: Path) -> None:
    made = build(tmp_path, [denial("a.2", D1, 40)], [claim("a.1", D1, 60, 50), claim("a.2", D1, 40)])
    f = figures(made)
    assert (f["claims_remitted"], f["charges_remitted"], f["initial_denial_rate_dollars"]) == (1, "100.00", "40.0")


@pytest.mark.parametrize(
    ("age", "bucket"),
    [
        (0, "0-30"),
        (30, "0-30"),
        (31, "31-60"),
        (60, "31-60"),
        (61, "61-90"),
        (90, "61-90"),
        (91, "91-120"),
        (120, "91-120"),
        (121, "121+"),
        (2000, "121+"),
        (-3, "0-30"),
    ],
)
def test_age_counts_from_payment_date_to_as_of(tmp_path: Path, age: int, bucket: str) -> None:
    made = build(tmp_path, [denial("a.1", D1)], [], as_of=D1 + timedelta(days=age))
    found = table(made, "by_age")
    assert [r["age"] for r in found] == ["0-30", "31-60", "61-90", "91-120", "121+"]
    assert [r["age"] for r in found if r["denials"]] == [bucket]


def test_recoverable_lost_not_owed_and_settled(tmp_path: Path) -> None:
    claims = [claim(f"{c}.1", D1) for c in "abcdef"] + [claim("d.2", D2, paid=62)]
    made = build(
        tmp_path,
        [
            denial("a.1", D1, 100, 62, deadline=AS_OF),  # open on its last day
            denial("b.1", D1, 100, 62, deadline=AS_OF - timedelta(days=1)),  # a day late
            denial("c.1", D1, 100, 0, deadline=None),  # nothing to recover
            denial("d.1", D1, 100, 62, deadline=AS_OF),  # paid since
            denial("e.1", D1, 100, 55, deadline=AS_OF + timedelta(days=14)),
            denial("f.1", D1, 100, 50, deadline=AS_OF + timedelta(days=15)),
        ],
        claims,
    )
    f = figures(made)
    assert (f["recoverable"], f["recoverable_claims"]) == ("167.00", 3)
    assert (f["due_soon"], f["due_soon_claims"]) == ("117.00", 2)
    assert (f["lost"], f["lost_deadline_passed"], f["lost_not_recoverable"]) == ("162.00", "62.00", "100.00")
    assert (f["not_owed"], f["settled"], f["recoverable_when_denied"]) == ("171.00", "100.00", "291.00")
    (row,) = table(made, "recoverable_by_category")
    assert (row["recoverable"], row["lost"], row["recoverable_share"]) == (money(167), money(162), Decimal("27.8"))


def test_work_list_takes_the_due_first_then_the_dollars(tmp_path: Path) -> None:
    far = AS_OF + timedelta(days=80)
    made = build(
        tmp_path,
        [
            denial("a.1", D1, 500, 500, deadline=far),
            denial("b.1", D1, 20, 20, deadline=AS_OF + timedelta(days=3)),
            denial("c.1", D1, 300, 300, deadline=None),
            denial("d.1", D1, 90, 90, deadline=AS_OF + timedelta(days=14)),
            denial("e.1", D1, 999, 0),  # nothing to win: not listed
            denial(
                "a.1", D1, 40, 40, deadline=far, line_number=2, procedure_code="T1002"
            ),  # same claim and reason: same row
        ],
        [],
    )
    found = table(made, "work_list")
    assert [(r["claim_token"], r["recoverable"]) for r in found] == [
        ("[CLAIM_d]", money(90)),
        ("[CLAIM_b]", money(20)),
        ("[CLAIM_a]", money(540)),
        ("[CLAIM_c]", money(300)),
    ]
    assert [r["days_left"] for r in found] == [14, 3, 80, None]
    assert (found[2]["procedure_codes"], found[2]["denials"]) == ("T1001 T1002", 2)


def test_denied_again_counts_its_dollars_once_as_open(tmp_path: Path) -> None:
    made = build(tmp_path, [denial("a.1", D1), denial("a.2", D2)], [claim("a.1", D1), claim("a.2", D2)])
    f = figures(made)
    assert (f["denied"], f["recoverable"], f["settled"], f["denied_claims"]) == ("200.00", "100.00", "100.00", 1)


def test_denied_later_for_another_reason_leaves_the_first_open(tmp_path: Path) -> None:
    # A resubmission that bounces as a duplicate says nothing about the first denial.
    again = denial("a.2", D2, 100, 0, group_code="OA", reason_code="18", category="duplicate")
    made = build(tmp_path, [denial("a.1", D1), again], [claim("a.1", D1), claim("a.2", D2)])
    f = figures(made)
    # and a duplicate's dollars are those of the first claim: neither recoverable nor lost once more
    assert (f["recoverable"], f["lost"], f["not_owed"]) == ("100.00", "0.00", "100.00")


def test_reversed_denial_is_settled_but_a_reversed_payment_settles_nothing(tmp_path: Path) -> None:
    claims = [
        claim("a.1", D1),
        claim("a.2", D2, -100, 0, is_reversal=True),
        claim("b.1", D1),
        claim("b.2", D2, 100, 60),
        claim("b.3", D3, -100, -60, is_reversal=True),
    ]
    f = figures(build(tmp_path, [denial("a.1", D1), denial("b.1", D1)], claims))
    assert (f["settled"], f["recoverable"]) == ("100.00", "100.00")


def test_service_lines_settle_only_the_line_that_was_paid(tmp_path: Path) -> None:
    denials = [
        denial("a.1", D1, 100, line_token="[LINE_1]"),
        denial("a.1", D1, 70, line_number=2, line_token="[LINE_2]"),
    ]
    claims = [claim("a.1", D1, 170), claim("a.2", D2, 100, 60)]
    lines = [line("a.1", "[LINE_1]", 0), line("a.1", "[LINE_2]", 0, number=2), line("a.2", "[LINE_1]", 60)]
    assert figures(build(tmp_path / "lines", denials, claims, lines))["recoverable"] == "70.00"
    assert figures(build(tmp_path / "claims", denials, claims))["recoverable"] == "0.00"


def test_service_lines_without_tokens_are_told_by_their_code(tmp_path: Path) -> None:
    denials = [
        denial("a.1", D1, 100, line_token="[LINE_1]"),
        denial("a.1", D1, 70, line_number=2, line_token="[LINE_2]", procedure_code="T1002"),
    ]
    lines = [line("a.2", None, 60, "T1002")]
    made = build(tmp_path, denials, [claim("a.1", D1, 170), claim("a.2", D2, 70, 60)], lines)
    assert figures(made)["recoverable"] == "100.00"


def test_shares_add_up_and_accumulate(tmp_path: Path) -> None:
    made = build(tmp_path, [denial(f"{c}.1", D1, 100, payer_id=c, payer_name=f"Payer {c}") for c in "abc"], [])
    assert [r["share"] for r in table(made, "by_payer")] == [Decimal("33.4"), Decimal("33.3"), Decimal("33.3")]
    assert [r["cumulative_share"] for r in table(made, "top_drivers")] == [
        Decimal("33.4"),
        Decimal("66.7"),
        Decimal("100.0"),
    ]


def test_drivers_are_payer_category_and_reason_with_the_action_of_most_dollars(tmp_path: Path) -> None:
    made = build(
        tmp_path,
        [
            denial("a.1", D1, 100, reason_code="16", category="missing_information_data", action="supply_information"),
            denial("b.1", D1, 150, reason_code="16", category="missing_information_data", action="corrected_claim"),
            denial("c.1", D1, 200),
            denial("d.1", D1, 45, payer_id="P2", payer_name="Payer Two"),
        ],
        [],
    )
    found = [
        (r["rank"], r["payer"], r["category"], r["reason_code"], r["denied"], r["share"], r["actions"])
        for r in table(made, "top_drivers")
    ]
    assert found == [
        (
            1,
            "Payer One",
            "missing_information_data",
            "16",
            money(250),
            Decimal("50.5"),
            "corrected_claim supply_information",
        ),
        (2, "Payer One", "authorization_referral", "197", money(200), Decimal("40.4"), "attach_auth_or_appeal"),
        (3, "Payer Two", "authorization_referral", "197", money(45), Decimal("9.1"), "attach_auth_or_appeal"),
    ]
    page = made.html.read_text()
    assert html.escape(words.action_text("corrected_claim")) in page


def test_reason_table_pairs_carc_with_sorted_rarcs(tmp_path: Path) -> None:
    made = build(
        tmp_path,
        [
            denial("a.1", D1, 10, remark_codes=["N2", "M1"]),
            denial("b.1", D1, 20, remark_codes=["M1", "N2", "M1"]),
            denial("c.1", D1, 5),
        ],
        [],
    )
    assert [(r["reason_code"], r["remark_codes"], r["denied"]) for r in table(made, "by_reason")] == [
        ("197", "M1 N2", money(30)),
        ("197", "", money(5)),
    ]


def test_payer_goes_by_its_id_under_the_name_used_last(tmp_path: Path) -> None:
    made = build(
        tmp_path,
        [
            denial("a.1", D1, 10, payer_name="Old Name"),
            denial("b.1", D3, 20, payer_name="New Name"),
            denial("c.1", D2, 5, payer_id=None, payer_name=None),
        ],
        [],
    )
    assert [(r["payer_id"], r["payer"], r["denied"]) for r in table(made, "by_payer")] == [
        ("P1", "New Name", money(30)),
        ("", "not stated", money(5)),
    ]


def test_every_week_is_there_with_partial_ends(tmp_path: Path) -> None:
    made = build(
        tmp_path,
        [denial("a.1", date(2026, 6, 10), 10)],
        [claim("a.1", date(2026, 6, 10)), claim("b.1", date(2026, 6, 9), paid=5)],
        start=date(2026, 6, 3),
    )
    weeks = table(made, "by_week")
    assert [(w["first_day"].day, w["last_day"].day, w["denied"]) for w in weeks] == [
        (3, 7, money(0)),
        (8, 14, money(10)),
        (15, 21, money(0)),
        (22, 28, money(0)),
        (29, 30, money(0)),
    ]
    assert [(w["claims_remitted"], w["initially_denied_claims"], w["initial_denial_rate"]) for w in weeks[:2]] == [
        (0, 0, None),
        (2, 1, Decimal("50.0")),
    ]


def test_procedures_and_providers(tmp_path: Path) -> None:
    made = build(
        tmp_path,
        [
            denial("a.1", D1, 10, procedure_code=None, rendering_npi=None),
            denial("a.1", D1, 20, line_number=2),
            denial("b.1", D1, 5),
        ],
        [],
    )
    assert [(r["procedure_code"], r["denials"], r["claims"], r["denied"]) for r in table(made, "by_procedure")] == [
        ("T1001", 2, 2, money(25)),
        ("claim level", 1, 1, money(10)),
    ]
    assert [(r["rendering_npi"], r["denied"]) for r in table(made, "by_provider")] == [
        ("1992000004", money(25)),
        ("not stated", money(10)),
    ]


def test_undated_denials_are_said_not_hidden(tmp_path: Path) -> None:
    made = build(tmp_path, [denial("a.1", None, 12), denial("b.1", D1, 30)], [claim("a.1", None)])
    f = figures(made)
    assert (f["denied"], f["denials_undated"], f["denied_undated"]) == ("30.00", 1, "12.00")
    assert "1 denial ($12.00) came on a remittance without a payment date" in made.html.read_text()


def test_claims_without_a_token_are_not_one_claim(tmp_path: Path) -> None:
    made = build(tmp_path, [], [claim("a.1", D1, claim_token=None), claim("b.1", D1, claim_token="")])
    assert figures(made)["claims_remitted"] == 2


@pytest.mark.parametrize("claims", [[], [("a.1", D1)]])
def test_empty_period_says_so(tmp_path: Path, claims: list[tuple[str, date]]) -> None:
    made = build(tmp_path, [], [claim(key, day, paid=60) for key, day in claims])
    page = made.html.read_text()
    assert "No denials in this period" in page and 'id="top_drivers"' not in page
    assert figures(made)["denied"] == "0.00"
    assert figures(made)["overturn_rate"] is None
    assert all(path.exists() for path in [*made.csv.values(), *made.parquet.values()])


def test_a_range_the_wrong_way_round_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="BAD_DATE_RANGE"):
        build(tmp_path, [], [], start=END, end=START)


def test_a_folder_that_takes_no_file_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="report folder"):
        build(tmp_path / "file", [], [])


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _shown(page: str, name: str) -> list[list[str]]:
    """Cells of the body rows of one HTML table, as text."""
    body = re.search(rf'<table id="{name}">.*?<tbody>(.*?)</tbody>', page, re.S)
    assert body
    text = re.sub(r"<svg.*?</svg>", "", body[1], flags=re.S)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in re.findall(r"<tr>(.*?)</tr>", text, re.S)]
    return [[html.unescape(re.sub(r"<[^>]+>", "", c)) for c in row] for row in cells]


def test_csv_parquet_html_and_summary_say_the_same(tmp_path: Path) -> None:
    denials, claims, lines = rows.practice_days(3, date(2026, 3, 2), 120)
    made = report.build(denials, claims, START, END, rows.PRACTICE, tmp_path, AS_OF, service_lines=lines)
    assert set(made.csv) == set(made.parquet) == set(tables.REPORT_TABLES)
    for name, schema in tables.REPORT_TABLES.items():
        stored = pq.read_table(made.parquet[name])
        assert stored.schema.equals(schema), name
        read = _read_csv(made.csv[name])
        assert len(read) == stored.num_rows
        for text, row in zip(read, stored.to_pylist(), strict=True):
            for column, value in row.items():
                said = text[column]
                if value is None:
                    assert said == ""
                elif isinstance(value, Decimal):
                    assert Decimal(said) == value
                elif isinstance(value, bool):
                    assert said == str(value).lower()
                else:
                    assert said.removeprefix("'") == str(value)
    page = made.html.read_text()
    for name, first in (
        ("by_category", 1),
        ("by_payer", 1),
        ("by_age", 1),
        ("by_procedure", 1),
        ("by_provider", 1),
        ("by_reason", 3),
    ):
        for cells, row in zip(_shown(page, name), table(made, name), strict=False):
            if "others" in cells[0]:
                break
            assert cells[first] == f"{row['denials']:,}"
            assert cells[first + 2] == f"${row['denied']:,.2f}"
            assert cells[first + 3] == f"{row['share']}%"
            assert cells[-4:] == [f"${row[m]:,.2f}" for m in ("recoverable", "lost", "not_owed", "settled")]
    head = table(made, "headline")[0]
    for name, value in figures(made).items():
        assert value == (f"{head[name]:f}" if isinstance(head[name], Decimal) else head[name])
    assert json.loads(made.summary_file.read_text()) == made.summary
    for name in ("denied", "recoverable", "due_soon", "lost", "settled"):
        assert f'<dd class="value">${head[name]:,.2f}</dd>' in page


def test_the_rest_row_keeps_a_cut_table_whole(tmp_path: Path) -> None:
    made = build(tmp_path, [denial(f"{i}.1", D1, 100 - i, procedure_code=f"T{i:04}") for i in range(20)], [])
    cells = _shown(made.html.read_text(), "by_procedure")
    assert len(cells) == 13 and cells[-1][:4] == ["8 others", "8", "\u2013", "$676.00"]
    assert sum(Decimal(c[3].strip("$")) for c in cells) == Decimal("1810.00")
    assert len(_read_csv(made.csv["by_procedure"])) == 20


def test_same_input_same_bytes_whatever_the_row_order(tmp_path: Path) -> None:
    denials, claims, lines = rows.practice_days(5, date(2026, 4, 1), 90)
    a = report.build(denials, claims, START, END, rows.PRACTICE, tmp_path / "a", AS_OF, service_lines=lines)
    turned = [t.take(list(range(t.num_rows - 1, -1, -1))) for t in (denials, claims, lines)]
    report.build(turned[0], turned[1], START, END, rows.PRACTICE, tmp_path / "b", AS_OF, service_lines=turned[2])
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(files) == 2 + 2 * len(tables.REPORT_TABLES)
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    before = a.html.read_bytes()
    report.build(denials, claims, START, END, rows.PRACTICE, tmp_path / "a", AS_OF, service_lines=lines)
    assert a.html.read_bytes() == before
    assert sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()) == files


HOSTILE = '</title></svg><script>alert("x")</script><img src=https://evil.example/x onerror=alert(1)>\x00\x1b\'&'


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    more = {
        "payer_name": HOSTILE,
        "procedure_code": "<b>1",
        "reason_code": '"><i>',
        "rendering_npi": "<u>",
        "category": "<em>x",
    }
    made = build(tmp_path, [denial("<a>.1", D1, action="<s>do", remark_codes=["<q>"], deadline=AS_OF, **more)], [])
    page = made.html.read_text()
    assert not re.search(r"<(script|img|i|u|em|s|q)\b", page)
    assert html.escape("<script>") in page
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", page)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\uff1d1"])
def test_csv_cells_are_never_formulas(tmp_path: Path, name: str) -> None:
    made = build(tmp_path, [denial("a.1", D1, -5, 0, payer_id=name, payer_name=name)], [])
    (row,) = _read_csv(made.csv["by_payer"])
    assert row["payer"].startswith("'") and row["payer_id"].startswith("'")
    assert row["denied"] == "-5.00"  # a number stays a number
    assert "\u2212$5.00" in made.html.read_text()


def test_every_action_and_category_has_own_words() -> None:
    assert set(words.ACTIONS) == set(carc.ACTIONS)
    known = {reason.category for reason in carc.load(Settings.from_env().policies).reasons.values()}
    assert known <= set(words.CATEGORIES)
    assert all(text.endswith(".") for _, text in words.ACTIONS.values())
    assert words.category("something_new") == "Something new" and words.action_text("something_new") == "Something new."
