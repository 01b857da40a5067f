"""Every command of README.md runs as it is written there, or the README says why it does not run in CI."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from medbill.sandbox import era, practice
from medbill.stack.lifecycle import Stack

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_EXEMPT = re.compile(r"#\s*not in CI:\s*\S+")
SECONDS = 1200


def commands() -> list[str]:
    """The lines of all shell blocks, in order, without those that say why they are not run."""
    blocks = [body for language, body in _BLOCK.findall((ROOT / "README.md").read_text()) if language == "sh"]
    lines = [line.strip() for body in blocks for line in body.splitlines()]
    return [line for line in lines if line and not _EXEMPT.search(line)]


def test_every_block_is_a_shell_block_so_that_none_escapes() -> None:
    assert {language for language, _ in _BLOCK.findall((ROOT / "README.md").read_text())} == {"sh"}
    assert {"make run", "make stop", "make status", "medbill audit verify"} <= set(commands())


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"make ([a-z-]+)", " ".join(commands()))) <= targets


@pytest.mark.slow
def test_every_command_of_the_readme_works(stack: Stack, tmp_path: Path) -> None:
    """In the README's order, `make stop` last; on the session's stack, so `make run` finds it running."""
    files, _ = era.build(practice.generate(seed=23, today=date(2026, 10, 31), claims=12))
    for name, file in zip(("payments.835", "more.835"), (f for f in files if f.data.startswith(b"ISA")), strict=False):
        (tmp_path / name).write_bytes(file.data)
    note = {"id": "n1", "text": "Called Jane Quillsworth at 617-555-0134 about CPT 99213."}
    (tmp_path / "notes.jsonl").write_text(json.dumps(note) + "\n")
    prefix = Path(sys.prefix)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MEDBILL"))}
    env |= {"MEDBILL_HOME": str(stack.home.path), "PATH": f"{prefix / 'bin'}:{env['PATH']}"}
    # the environment these tests run in is the installed one; make must not install it again
    make = f"make -C {ROOT} VENV={prefix} -o {prefix}/.installed-run -o {prefix}/.installed-dev"
    todo = sorted(commands(), key=lambda line: line == "make stop")
    preamble = ""
    for line in todo:
        runnable = re.sub(r"^make\b", make, line)
        runnable = re.sub(r"\b(payments|more)\.835", lambda m: str(tmp_path / m[0]), runnable)
        if line.startswith("eval "):
            preamble = f"{line}\n"
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", preamble + runnable],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert not stack.health().ok
    assert stack.start(timeout=600.0)  # for the tests after this one
