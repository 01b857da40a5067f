"""The 835 reader beside other readers, in one run: claims per second and peak memory.

    python benchmarks/era.py            # 20,000 claims, 60,000 service lines, 120,000 adjustments, about 10 MB
    python benchmarks/era.py --scale    # also ours alone up to 400,000 claims, streamed

Every reader runs as its own process, the readers in turn, several times; of the times the shortest counts, of the peaks
of memory the largest. "In process" is the time from the file on disk to the reader's result, without imports; "CPU" is
what the processors worked meanwhile, which other work on the machine disturbs less; "whole process" is from start to exit.
Memory is the peak resident size of the process, imports included. `pip install oxedi pyx12` for the other readers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MIB = 1024  # ru_maxrss is in KiB on Linux

#: reader -> (label, program). A program reads sys.argv[1] and prints JSON with its own counts and its time.
_TIMED = """
import json, sys, time
{imports}
began, cpu_began = time.perf_counter(), time.process_time()
{body}
took, cpu = time.perf_counter() - began, time.process_time() - cpu_began
print(json.dumps({{"seconds": took, "cpu": cpu, "counts": counts}}))
"""
READERS = {
    "ours": (
        "medbill: five tables and all checks, streamed",
        "from pathlib import Path\nfrom medbill.x12 import era",
        "counts = [0] * 4\n"
        "for batch in era.stream(Path(sys.argv[1])):\n"
        "    for i, name in enumerate(('claims', 'service_lines', 'adjustments', 'problems')):\n"
        "        counts[i] += batch.table(name).num_rows\n"
        "counts = counts[:3]",
    ),
    "oxedi": (
        "oxedi: parse, its own tables",
        "import oxedi",
        "tables = oxedi.parse_file(sys.argv[1]).tables\n"
        "counts = [len(tables[n]) for n in ('claims', 'services', 'adjustments')]",
    ),
    "oxedi_arrow": (
        "oxedi: parse, its tables as Arrow",
        "import oxedi\nimport pyarrow as pa",
        "tables = oxedi.parse_file(sys.argv[1]).tables\n"
        "tables = {n: pa.RecordBatchReader.from_stream(tables[n]).read_all() for n in tables}\n"
        "counts = [tables[n].num_rows for n in ('claims', 'services', 'adjustments')]",
    ),
    "pyx12": (
        "pyx12: its segment reader",
        "import pyx12.x12file",
        "counts = [0, 0, 0]\n"
        "for segment in pyx12.x12file.X12Reader(sys.argv[1]):\n"
        "    name = segment.get_seg_id()\n"
        "    counts[0] += name == 'CLP'; counts[1] += name == 'SVC'; counts[2] += name == 'CAS'",
    ),
    "split": (
        "bytes.split on the terminator, nothing else",
        "",
        "segments = open(sys.argv[1], 'rb').read().split(b'~')\ncounts = None",
    ),
}
"""pyx12 counts CAS segments; the file has one triplet in each."""


def write_file(path: Path, claims: int) -> int:
    """A balanced 835: per claim three lines, per line two adjustments. Streamed, so any size can be written."""
    pick = random.Random(835)
    envelope = (
        "ISA*00*          *00*          *ZZ*SYNTHPAYER     *ZZ*SYNTHPROVIDER  *260115*1200*^*00501*000000001*0*T*:~"
        "GS*HP*SYNTHPAYER*SYNTHPROVIDER*20260115*1200*1*X*005010X221A1~"
    )
    body = path.with_suffix(".body")
    total, segments = 0, 0
    with body.open("w") as out:
        for number in range(claims):
            lines, charge, paid, patient = [], 0, 0, 0
            for _ in range(3):
                line_paid, contractual, own = pick.randint(2000, 20000), pick.randint(100, 9000), pick.randint(0, 4000)
                line_charge = line_paid + contractual + own
                charge, paid, patient = charge + line_charge, paid + line_paid, patient + own
                code = pick.choice(("99213", "99214", "36415", "85025")) + pick.choice(("", "", ":25", ":59:GT"))
                lines.append(
                    f"SVC*HC:{code}*{_amount(line_charge)}*{_amount(line_paid)}**{pick.randint(1, 4)}~"
                    f"DTM*472*202601{pick.randint(1, 28):02d}~CAS*CO*45*{_amount(contractual)}~"
                    f"CAS*PR*{pick.randint(1, 3)}*{_amount(own)}~REF*6R*{pick.randint(10**8, 10**9)}~"
                    f"AMT*B6*{_amount(line_charge - contractual)}~"
                )
            total += paid
            text = (
                f"CLP*{100_000_000 + number}*1*{_amount(charge)}*{_amount(paid)}*{_amount(patient)}*12*"
                f"{pick.randint(10**12, 10**13)}*11*1~NM1*QC*1*{pick.choice(('SMITHSON', 'DE LA TEST', 'OBRIEN'))}*PAT*Q***MI*"
                f"W{pick.randint(10**8, 10**9)}~NM1*82*1*DOCTOR*ALICE****XX*1234567893~DTM*232*20260102~"
                + "".join(lines)
            )
            segments += text.count("~")
            out.write(text)
    head = (
        f"ST*835*0001~BPR*I*{_amount(total)}*C*ACH*CCP*01*999999992*DA*123456*1512345678**01*999988880*DA*98765*20260115~"
        "TRN*1*T1*1512345678~DTM*405*20260115~N1*PR*SYNTH PLAN~N3*1 TEST ST~N4*SPRINGFIELD*IL*62701~"
        "PER*BL*HELP*TE*8005550100~N1*PE*SYNTH CLINIC*XX*1234567893~REF*TJ*123456789~LX*1~"
    )
    with path.open("w") as out, body.open() as source:
        out.write(envelope + head)
        while block := source.read(1 << 20):
            out.write(block)
        out.write(f"SE*{segments + head.count('~') + 1}*0001~GE*1*1~IEA*1*000000001~")
    body.unlink()
    return path.stat().st_size


def _amount(cents: int) -> str:
    """As payers write it: trailing zeros suppressed."""
    return f"{cents // 100}.{cents % 100:02d}".rstrip("0").rstrip(".") or "0"


def run(reader: str, path: Path, cache: Path) -> dict[str, float]:
    """One process of a reader: seconds in process and whole, peak MiB."""
    _, imports, body = READERS[reader]
    program = _TIMED.format(imports=imports, body=body)
    # installed packages have their byte code cached; so here, wherever this runs
    env = {**os.environ, "PYTHONPYCACHEPREFIX": str(cache), "PYTHONDONTWRITEBYTECODE": ""}
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, env=env)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    whole = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{reader} failed")
    result = json.loads(output)
    return {
        "seconds": result["seconds"],
        "cpu": result["cpu"],
        "whole": whole,
        "whole_cpu": usage.ru_utime + usage.ru_stime,
        "mib": usage.ru_maxrss / MIB,
    }


def compare(path: Path, claims: int, repeats: int, readers: list[str], cache: Path) -> dict[str, dict[str, float]]:
    runs: dict[str, list[dict[str, float]]] = {reader: [] for reader in readers}
    for reader in readers:
        run(reader, path, cache)  # warms the caches of files and byte code
    for _ in range(repeats):
        for reader in readers:
            runs[reader].append(run(reader, path, cache))
    best = {r: {k: (max if k == "mib" else min)(x[k] for x in runs[r]) for k in runs[r][0]} for r in readers}
    for m in best.values():
        m["rate"], m["cpu_rate"], m["whole_rate"] = (claims / m[k] for k in ("seconds", "cpu", "whole"))
    return best


def show(best: dict[str, dict[str, float]]) -> None:
    columns = "in process s | claims/s | in process CPU s | claims/CPU s | whole process s | claims/s | peak MiB"
    print(f"| reader | {columns} |\n|---|---|---|---|---|---|---|---|")
    for reader, m in best.items():
        print(
            f"| {READERS[reader][0]} | {m['seconds']:.3f} | {m['rate']:,.0f} | {m['cpu']:.3f} | {m['cpu_rate']:,.0f} "
            f"| {m['whole']:.2f} | {m['whole_rate']:,.0f} | {m['mib']:.0f} |"
        )
    print()
    ours = best["ours"]
    for reader, m in best.items():
        if reader != "ours":
            print(
                f"ours / {reader}: {ours['rate'] / m['rate']:.2f} x claims/s in process "
                f"({ours['cpu_rate'] / m['cpu_rate']:.2f} x per CPU second), "
                f"{ours['whole_rate'] / m['whole_rate']:.2f} x whole process, {ours['mib'] / m['mib']:.2f} x peak memory"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claims", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scale", action="store_true", help="ours up to 400,000 claims")
    parser.add_argument("--readers", nargs="*", default=list(READERS), choices=list(READERS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="medbill-era-") as folder:
        cache = Path(folder) / "pycache"
        path = Path(folder) / "era.835"
        size = write_file(path, options.claims)
        print(
            f"{options.claims:,} claims, {3 * options.claims:,} lines, {6 * options.claims:,} adjustments, "
            f"{size / 1e6:.1f} MB; Python {platform.python_version()}, {os.cpu_count()} processors, "
            f"load {os.getloadavg()[0]:.1f}; best of {options.repeats}\n"
        )
        show(compare(path, options.claims, options.repeats, options.readers, cache))
        if options.scale:
            print(
                "\n| claims | MB | in process s | in process CPU s | claims/CPU s | peak MiB |\n|---|---|---|---|---|---|"
            )
            for claims in (25_000, 50_000, 100_000, 200_000, 400_000):
                size = write_file(path, claims)
                m = compare(path, claims, 1, ["ours"], cache)["ours"]
                print(
                    f"| {claims:,} | {size / 1e6:.0f} | {m['seconds']:.2f} | {m['cpu']:.2f} | {m['cpu_rate']:,.0f} "
                    f"| {m['mib']:.0f} |"
                )


if __name__ == "__main__":
    main()
