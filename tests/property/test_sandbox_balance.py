"""Whatever the seed, size and day: remittances balance by line, claim and payment, except where that was planted."""

from datetime import date, timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from medbill.sandbox import era
from medbill.sandbox.practice import generate


def splits(data: bytes):
    """Transactions as plain lists: nothing shared with the writer."""
    transactions, claim, line = [], None, None
    for segment in data.decode().replace("\n", "").split("~"):
        e = segment.split("*")
        if e[0] == "BPR":
            transactions.append({"payment": Decimal(e[2]), "claims": [], "plb": Decimal(0)})
        elif e[0] == "CLP":
            claim = {"charge": Decimal(e[3]), "paid": Decimal(e[4]), "pr": Decimal(e[5] or 0), "cas": [], "lines": []}
            transactions[-1]["claims"].append(claim)
            line = None
        elif e[0] == "SVC":
            line = {"charge": Decimal(e[2]), "paid": Decimal(e[3]), "cas": []}
            claim["lines"].append(line)
        elif e[0] == "CAS":
            (claim if line is None else line)["cas"] += [(e[1], Decimal(e[i])) for i in range(3, len(e), 3)]
        elif e[0] == "PLB":
            transactions[-1]["plb"] += sum(Decimal(e[i]) for i in range(4, len(e), 2))
    return transactions


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    today=st.dates(date(2024, 2, 1), date(2032, 12, 31)),
    claims=st.integers(0, 400),
)
def test_everything_balances_unless_planted(seed, today, claims):
    files, truth = era.build(generate(seed, today - timedelta(days=52), claims=claims))
    unbalanced_lines = unbalanced_claims = unbalanced_payments = 0
    for file in files:
        if file.kind in ("pdf", "truncated"):
            continue
        for t in splits(file.data):
            for c in t["claims"]:
                bad = 0
                for x in c["lines"]:
                    bad += x["charge"] - sum(a for _, a in x["cas"]) != x["paid"]
                everything = c["cas"] + [a for x in c["lines"] for a in x["cas"]]
                unbalanced_lines += bad
                unbalanced_claims += c["charge"] - sum(a for _, a in everything) != c["paid"]
                assert c["pr"] == sum(a for g, a in everything if g == "PR")
                assert not c["lines"] or c["charge"] == sum(x["charge"] for x in c["lines"])
            difference = t["payment"] - (sum(c["paid"] for c in t["claims"]) - t["plb"])
            unbalanced_payments += difference != 0
            assert t["payment"] >= 0
    planted = [p["kind"] for p in truth.planted]
    assert unbalanced_lines == unbalanced_claims == planted.count("unbalanced_claim")
    assert unbalanced_payments == planted.count("unbalanced_transaction")
    assert truth.totals.get("paid", 0) == sum(c["paid"] for c in truth.claims)
