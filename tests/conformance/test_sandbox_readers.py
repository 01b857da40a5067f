"""The sandbox's remittances through readers that are not ours: both must find nothing wrong with a regular file."""

import logging
from datetime import date

import oxedi
import pytest
from pyx12.params import params
from pyx12.x12n_document import x12n_document

from medbill.sandbox import era
from medbill.sandbox.practice import generate


@pytest.fixture(scope="module")
def files():
    return era.build(generate(7, today=date(2026, 6, 25)))[0]


def test_oxedi_has_no_diagnostics_for_regular_files(files):
    regular = [f for f in files if f.kind in ("regular", "duplicate", "two_payers", "unknown_claim")]
    assert len(regular) > 40
    assert {f.name: [str(d) for d in oxedi.parse(f.data).diagnostics] for f in regular} == {f.name: [] for f in regular}


def test_oxedi_sees_what_was_planted(files):
    for kind in ("unbalanced_claim", "unbalanced_transaction", "truncated"):
        found = [f for f in files if f.kind == kind]
        assert found and all(oxedi.parse(f.data).diagnostics for f in found), kind


def test_pyx12_calls_one_file_of_each_sender_valid(files, tmp_path):
    logging.getLogger("pyx12").setLevel(logging.CRITICAL)
    by_sender = {f.name.split("_")[0]: f for f in files if f.kind == "regular"}
    assert set(by_sender) >= {"LHP01", "BRM02", "MCR00", "MCD00", "CLEARSAND"}
    for file in by_sender.values():
        path = tmp_path / file.name
        path.write_bytes(file.data)
        assert x12n_document(params(), str(path), None, None, None), file.name
