"""One embedded stack for all end-to-end tests of a session: real PostgreSQL, real Airflow, the sandbox."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medbill.pipelines import demo
from medbill.settings import Settings
from medbill.stack.lifecycle import Stack
from medbill.sweep.cli import app as sweep


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that use the stack are marked so, before -m is looked at."""
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker("stack")


#: Claims of the sandbox's practice: small, so that a pipeline takes seconds.
CLAIMS = 60
#: A busy machine of two cores with nothing compiled yet.
START_SECONDS = 600.0


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A running, healthy stack with a fresh home; `stack.airflow()` gives a logged-in client of its Airflow.

    Its practice has identifiers planted that may be found nowhere afterwards (test_phi_sweep.py).
    """
    home = Path(tempfile.mkdtemp(prefix="mb-st-"))  # short: a socket path may not exceed 107 bytes
    found = Stack(Settings.from_env({"MEDBILL_HOME": str(home)}))
    temp = home / "tmp"
    temp.mkdir(mode=0o777)
    temp.chmod(0o1777)  # PostgreSQL is another user
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMPDIR", str(temp))
            found.start(timeout=START_SECONDS, claims=CLAIMS)
        planted = CliRunner().invoke(sweep, ["plant"], env={"MEDBILL_HOME": str(home)})
        assert planted.exit_code == 0, planted.output
        yield found
    finally:
        found.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def said(stack: Stack) -> list[str]:
    """What `make run` prints, from a run to its end."""
    lines: list[str] = []
    with stack.airflow() as airflow:
        demo.run(airflow, stack.settings, say=lines.append, timeout=20 * 60.0)
    return lines
