"""Arrow types shared by all schemas."""

from __future__ import annotations

import pyarrow as pa

#: Dollars and cents, exact. 18 digits is the longest R element of the 835.
MONEY = pa.decimal128(18, 2)
#: Units of service; up to three decimals occur (anesthesia minutes, drug quantities).
QUANTITY = pa.decimal128(18, 3)
STRINGS = pa.list_(pa.string())


def required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)
