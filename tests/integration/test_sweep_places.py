"""Places on a real disk, a real object store and a real PostgreSQL: everything in them is read, or the sweep says it was not."""

from __future__ import annotations

import gzip
import json
import sqlite3
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from medbill.settings import Settings
from medbill.sweep import databases, places
from medbill.sweep.canaries import Canary
from medbill.sweep.databases import Door
from medbill.sweep.places import Place, Plan
from medbill.sweep.plan import Told, plan
from medbill.sweep.run import Report, details, sweep

NAME = Canary(1, "name", "Zorvath Quillimane")
SSN = Canary(2, "ssn", "412-55-6789")


def look(*where: Place) -> Report:
    return sweep([NAME, SSN], Plan(list(where)))


def found(report: Report) -> set[str]:
    return {f"{f.item}: {h.kind}" for s in report.searched for f in s.found for h in f.hits}


def test_every_file_of_a_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "deep" / ".hidden").mkdir(parents=True)
    (tmp_path / "deep" / ".hidden" / ".part").write_bytes(b"\xff\x00Zorvath Quillimane")
    (tmp_path / "log.gz").write_bytes(gzip.compress(b"x" * 100_000 + b"Zorvath Quillimane"))
    with zipfile.ZipFile(tmp_path / "docs.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.txt", "Zorvath Quillimane " * 5)
    pq.write_table(pa.table({"who": ["Zorvath Quillimane"] * 9}), tmp_path / "t.parquet", compression="zstd")
    with sqlite3.connect(tmp_path / "state.sqlite") as connection:
        connection.execute("CREATE TABLE t(x)")
        connection.execute("INSERT INTO t VALUES ('Zorvath Quillimane')")
    connection.close()
    (tmp_path / "412556789.txt").write_text("nothing")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "a").write_text("Zorvath Quillimane")
    report = look(places.folder("disk", tmp_path, without=frozenset({tmp_path / "kept"})))
    expected = {"deep/.hidden/.part: name", "log.gz: name", "docs.zip: name", "t.parquet: name", "state.sqlite: name"}
    assert found(report) == expected | {"names of files: ssn"}
    assert report.code == 1


def test_a_value_across_two_pieces_is_found(tmp_path: Path) -> None:
    data = b"." * 1000 + b"Zorvath Quillimane" + b"." * 1000
    for size in range(1000, 1030):
        chunks = iter([data[i : i + 7] for i in range(0, len(data), 7)])
        pieces = list(places.pieces(chunks, size, 64))
        assert any(b"Zorvath Quillimane" in piece for _, piece in pieces)
        assert all(data[offset : offset + len(piece)] == piece for offset, piece in pieces)


def test_a_name_with_a_value_in_it_is_not_printed(tmp_path: Path) -> None:
    (tmp_path / "Quillimane_Zorvath.txt").write_text("ssn 412-55-6789")
    report = look(places.folder("disk", tmp_path))
    text = "\n".join(details(report)) + json.dumps(report.to_dict())
    assert report.hits == 2 and "Quillimane" not in text and "412" not in text


def test_what_cannot_be_searched_is_said(tmp_path: Path) -> None:
    (tmp_path / "torn.parquet").write_bytes(b"PAR1" + b"\x15" * 500 + b"PAR1")
    empty = tmp_path / "empty"
    empty.mkdir()
    torn = look(places.folder("torn", tmp_path))
    gone = look(places.folder("gone", tmp_path / "nowhere"))
    wrong = look(places.folder("wrong", empty, filled=True))
    assert [r.code for r in (torn, gone, wrong, look(places.folder("empty", empty)))] == [2, 2, 2, 0]
    assert "SWEEP_UNREACHABLE" in gone.problems[0]


def test_a_hit_beside_a_place_that_cannot_be_searched_is_still_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("Zorvath Quillimane")
    report = look(places.folder("gone", tmp_path / "nowhere"), places.folder("here", tmp_path))
    assert report.code == 2 and report.hits == 1


def test_objects_of_a_store_are_read(tmp_path: Path) -> None:
    (tmp_path / "deid").mkdir()
    (tmp_path / "deid" / "a.bin").write_text("Zorvath Quillimane")
    (tmp_path / "landing").mkdir()
    (tmp_path / "landing" / "b.bin").write_text("412-55-6789")
    assert found(look(places.objects("deid", str(tmp_path), "deid/"))) == {"deid/a.bin: name"}


@pytest.fixture
def url(database: sa.Engine) -> str:
    return database.url.render_as_string(hide_password=False)


def test_every_column_of_every_table_is_read(database: sa.Engine, url: str) -> None:
    with database.begin() as connection:
        for statement in (
            'CREATE SCHEMA "Odd Name"',
            'CREATE TABLE "Odd Name"."t""x" (a text, j jsonb, b bytea, l text[], n bigint, v varchar(40))',
            """INSERT INTO "Odd Name"."t""x" VALUES ('Zorvath\nQuillimane', NULL, NULL, NULL, NULL, NULL)""",
            """INSERT INTO "Odd Name"."t""x" (j) VALUES ('{"who": "Zorvath\\u0020Quillimane"}')""",
            """INSERT INTO "Odd Name"."t""x" (b) VALUES ('\\x00ff'::bytea || 'Zorvath Quillimane'::bytea)""",
            """INSERT INTO "Odd Name"."t""x" (l) VALUES (ARRAY['a', 'Zorvath Quillimane'])""",
            'INSERT INTO "Odd Name"."t""x" (n) VALUES (412556789)',
            """INSERT INTO "Odd Name"."t""x" (v) VALUES ('C:\\Zorvath\\Quillimane')""",
        ):
            connection.execute(sa.text(statement.replace(":bytea", r"\:bytea").replace("::", r"\:\:")))
        connection.execute(sa.text("CREATE MATERIALIZED VIEW public.m AS SELECT 'Zorvath Quillimane'\\:\\:text AS c"))
    report = look(*databases.places("db", url))
    table = 'Odd Name.t"x'
    assert found(report) >= {f"{table}.{c}: name" for c in "ajblv"} | {f"{table}.n: ssn", "public.m.c: name"}
    assert report.problems == []


def test_a_door_that_is_not_there_is_an_error(url: str) -> None:
    report = look(*databases.places("db", url, [Door("XCom", ("xcom",)), Door("vault", ("vault_tokens",))]))
    assert report.code == 2 and len(report.problems) == 1 and "no table xcom" in report.problems[0]
    assert "db: vault" in {s.place for s in report.searched}


def test_rows_hidden_by_row_security_are_an_error_not_silence(database: sa.Engine, url: str) -> None:
    with database.begin() as connection:
        name = connection.scalar(sa.text("SELECT current_database()"))
        role = f"weak_{name}"
        for statement in (
            f"CREATE ROLE {role} LOGIN",
            f"GRANT CONNECT ON DATABASE {name} TO {role}",
            "CREATE TABLE public.secret (x text)",
            "INSERT INTO public.secret VALUES ('Zorvath Quillimane')",
            "ALTER TABLE public.secret ENABLE ROW LEVEL SECURITY",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
        ):
            connection.execute(sa.text(statement))
    try:
        weak = sa.make_url(url).set(username=role).render_as_string(hide_password=False)
        report = look(*databases.places("db", weak, [Door("secret", ("secret",))]))
        assert report.code == 2 and any("42501" in p for p in report.problems)
        assert found(look(*databases.places("db", url, [Door("secret", ("secret",))]))) == {"public.secret.x: name"}
    finally:
        with database.begin() as connection:
            connection.execute(sa.text(f"DROP OWNED BY {role}"))
            connection.execute(sa.text(f"DROP ROLE {role}"))


def test_a_database_that_is_down_is_an_error() -> None:
    report = look(*databases.places("db", "postgresql+psycopg2://nobody@127.0.0.1:1/none"))
    assert report.code == 2 and len(report.problems) == len(report.searched)


def test_a_deployment_that_told_nothing_is_not_clean(tmp_path: Path) -> None:
    """Nothing runs here: every place that nobody named counts as not searched, each by its name."""
    settings = Settings.from_env({"MEDBILL_HOME": str(tmp_path)})
    report = sweep([NAME], plan(settings, tmp_path / "c.jsonl", Told(temp=[tmp_path])))
    text = "\n".join(report.problems)
    assert report.code == 2
    for name in (
        "airflow-database",
        "medbill-database",
        "task-logs",
        "component-logs",
        "postgres-log",
        "lineage",
        "objects",
    ):
        assert f"where {name} is" in text, name
