"""The denial report in headless Chromium: it renders, asks nothing of any network, and nothing in it overlaps."""

from __future__ import annotations

import html
import importlib.util
import json
import re
import shutil
import struct
import subprocess
from datetime import date
from pathlib import Path

import pytest

from medbill.reports import denials as report

_spec = importlib.util.spec_from_file_location("reports_rows", Path(__file__).parents[1] / "reports_rows.py")
assert _spec and _spec.loader
rows = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(rows)

pytestmark = pytest.mark.slow

#: Measures the page from inside; only ever added to a copy of it, whose policy against scripts is taken out.
_MEASURE = """
<script>
addEventListener('load', () => {
  const overlaps = [], outside = [];
  for (const svg of document.querySelectorAll('svg.chart')) {
    const frame = svg.getBoundingClientRect();
    const boxes = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
    boxes.forEach(([a, p], i) => {
      if (p.left < frame.left - 1 || p.right > frame.right + 1 || p.top < frame.top - 1 || p.bottom > frame.bottom + 1)
        outside.push(a);
      for (const [b, q] of boxes.slice(i + 1))
        if (p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 2 && q.top < p.bottom - 2)
          overlaps.push(a + ' / ' + b);
    });
  }
  const wide = [...document.querySelectorAll('.scroll')].filter(d => d.scrollWidth > d.clientWidth + 1).map(d => d.ariaLabel);
  const bars = [...document.querySelectorAll('svg.chart rect')].filter(r => r.getBoundingClientRect().height > 0).length;
  const out = document.createElement('pre');
  out.id = 'measured';
  out.textContent = JSON.stringify({overlaps, outside, wide, bars,
    page: document.documentElement.scrollWidth, window: innerWidth});
  document.body.append(out);
});
</script>
"""


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found:
        pytest.fail("no Chromium on the PATH: install it with `apt-get install -y chromium`")
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    denials, claims, lines = rows.practice_days(7, date(2026, 2, 2), 150)
    folder = tmp_path_factory.mktemp("report")
    made = report.build(
        denials,
        claims,
        date(2026, 4, 1),
        date(2026, 6, 30),
        rows.PRACTICE,
        folder,
        date(2026, 7, 1),
        service_lines=lines,
    )
    return made.html


def run(chromium: str, folder: Path, page: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Open the page once; stdout and stderr of the browser."""
    profile = folder / "profile"
    shutil.rmtree(profile, ignore_errors=True)
    return subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={profile}",
            *flags,
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


def requests(net_log: Path) -> list[str]:
    """What the page asked for, the page itself aside. Chromium's own errands belong to no file:// page."""
    log = json.loads(net_log.read_text())
    start = log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    asked = [e["params"] for e in log["events"] if e["type"] == start and "url" in e.get("params", {})]
    return [p["url"] for p in asked if "file://" in p.get("network_isolation_key", "")]


def test_renders_without_console_message_or_network_request(chromium: str, page: Path, tmp_path: Path) -> None:
    net_log = tmp_path / "net.json"
    done = run(chromium, tmp_path, page, "--enable-logging=stderr", f"--log-net-log={net_log}", "--dump-dom")
    assert "Lakeside Family Medicine" in done.stdout and 'id="work_list"' in done.stdout
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    assert requests(net_log) == []


def test_this_test_would_see_a_request_and_a_console_message(chromium: str, tmp_path: Path) -> None:
    probe, net_log = tmp_path / "probe.html", tmp_path / "net.json"
    probe.write_text('<img src="http://probe.invalid/x.png"><script>console.log("seen")</script>')
    done = run(chromium, tmp_path, probe, "--enable-logging=stderr", f"--log-net-log={net_log}", "--dump-dom")
    assert requests(net_log) == ["http://probe.invalid/x.png"]
    assert "CONSOLE" in done.stderr


def test_names_no_outside_url_and_carries_no_script(page: Path) -> None:
    text = page.read_text()
    assert re.findall(r"(?:https?:)?//[\w.]+", text) == []
    assert re.findall(r"@import|url\(|<script|<iframe|<object|<embed|\son\w+=", text) == []
    assert set(re.findall(r'(?:src|href)="([^"#]*)', text)) == {"data:,", ""}
    assert "default-src 'none'" in text


@pytest.mark.parametrize("width", [1280, 700])
def test_nothing_overlaps_or_leaves_its_place(chromium: str, page: Path, tmp_path: Path, width: int) -> None:
    copy = tmp_path / "measured.html"
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    copy.write_text(text.replace("</body>", _MEASURE + "</body>"))
    done = run(chromium, tmp_path, copy, f"--window-size={width},2000", "--dump-dom")
    found = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout)
    assert found, done.stderr
    measured = json.loads(html.unescape(found[1]))
    assert measured["window"] == width
    assert measured["page"] <= width
    assert measured["overlaps"] == []
    assert measured["outside"] == []
    assert measured["bars"] > 60
    if width == 1280:
        assert measured["wide"] == []  # every table fits


def test_screenshot_shows_the_chart_colours(chromium: str, page: Path, tmp_path: Path) -> None:
    shot = tmp_path / "report.png"
    run(chromium, tmp_path, page, "--window-size=1280,1600", "--hide-scrollbars", f"--screenshot={shot}")
    data = shot.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (1280, 1600)
    assert len(data) > 60_000  # a blank page of this size is a few kilobytes


def test_empty_report_renders(chromium: str, tmp_path: Path) -> None:
    made = report.build(
        rows.denials_table([]),
        rows.claims_table([]),
        date(2026, 1, 1),
        date(2026, 1, 31),
        rows.PRACTICE,
        tmp_path / "r",
        date(2026, 2, 1),
    )
    done = run(chromium, tmp_path, made.html, "--enable-logging=stderr", "--dump-dom")
    assert "No denials in this period" in done.stdout
    assert "CONSOLE" not in done.stderr
