"""Segment ids and code sets an 835 reader must know. Code values only."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
U8 = npt.NDArray[np.uint8]

#: Small numbers for the segment ids of the 835 and its envelope; 0 is any other id.
SEGMENTS = (
    "", "ISA", "GS", "ST", "SE", "GE", "IEA", "TA1",
    "BPR", "NTE", "TRN", "CUR", "N1", "N2", "N3", "N4", "PER", "RDM",
    "LX", "TS3", "TS2", "PLB",
    "CLP", "SVC", "CAS", "NM1", "REF", "DTM", "AMT", "QTY", "LQ", "MIA", "MOA",
)  # fmt: skip
CODE = {name: number for number, name in enumerate(SEGMENTS)}

GROUP_CODES = ("CO", "PR", "OA", "PI", "CR")


def flags(*names: str) -> npt.NDArray[np.bool_]:
    """A table over segment numbers: true for the named ids."""
    table = np.zeros(256, np.bool_)
    table[[CODE[name] for name in names]] = True
    return table


def key(text: bytes) -> int:
    """Up to eight bytes as the little-endian number a load of that width gives."""
    return int.from_bytes(text[:8], "little")


class Lookup:
    """Small numbers for up to a few hundred byte strings of at most eight bytes; 0 for every other.

    A multiplicative hash without collisions among the known keys, found once; a look-up is one multiplication and two
    gathers over the whole column.
    """

    def __init__(self, values: dict[bytes, int]) -> None:
        keys = np.array([key(k) for k in values], np.uint64)
        numbers = np.array(list(values.values()), np.uint8)
        bits = max(6, (16 * len(values)).bit_length())
        multiplier, tries = 0x9E3779B97F4A7C15, 0
        while len(set((slots := self._slots(keys, multiplier, bits)).tolist())) < len(keys):
            multiplier = (multiplier * 6364136223846793005 + 1442695040888963407) % 2**64 | 1
            tries += 1
            bits += tries % 64 == 0
        self._multiplier = np.uint64(multiplier)
        self._shift = np.uint64(64 - bits)
        self._keys = np.full(1 << bits, ~np.uint64(0), np.uint64)
        self._numbers = np.zeros(1 << bits, np.uint8)
        self._keys[slots], self._numbers[slots] = keys, numbers

    @staticmethod
    def _slots(keys: U64, multiplier: int, bits: int) -> U64:
        return (keys * np.uint64(multiplier)) >> np.uint64(64 - bits)

    def __call__(self, keys: U64) -> U8:
        slots = ((keys * self._multiplier) >> self._shift).view(np.int64)
        numbers: U8 = self._numbers.take(slots) * (self._keys.take(slots) == keys)
        return numbers


@cache
def segment_lookup() -> Lookup:
    return Lookup({name.encode(): number for name, number in CODE.items() if name})


@cache
def group_lookup(element: int) -> Lookup:
    """Group codes followed by the element separator."""
    return Lookup({group.encode() + bytes([element]): 1 for group in GROUP_CODES})


@cache
def carc_lookup() -> Lookup:
    return Lookup({carc.encode(): 1 for carc in known_carcs()})


@cache
def known_carcs() -> frozenset[str]:
    """Valid claim adjustment reason codes (ECL 139), one a line in policies/carc_known.txt; `#` begins a comment."""
    folder = os.environ.get("MEDBILL_POLICIES") or Path(__file__).resolve().parents[2] / "policies"
    lines = (Path(folder) / "carc_known.txt").read_text("ascii").splitlines()
    return frozenset(code for code in (line.partition("#")[0].strip() for line in lines) if code)
