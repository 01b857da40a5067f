"""The de-identification policy: what becomes of every field, read from YAML, applied to whole Arrow tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from medbill.deid import vault as vaults
from medbill.deid.vault import Vault
from medbill.errors import BadInput, PolicyError
from medbill.model.claims import CLAIM_TABLES, NOTE_TABLES
from medbill.model.published import PUBLISHED_CLAIM_TABLES, PUBLISHED_NOTE_TABLES, PUBLISHED_REMITTANCE_TABLES
from medbill.model.remittances import ERA_TABLES

_KEY = pa.string()
#: Columns the pipeline adds to the reader's tables before they are landed.
KEY_COLUMNS: dict[str, dict[str, pa.DataType]] = {
    "remittances": {"remittance_key": _KEY},
    "claims": {"remittance_key": _KEY, "claim_key": _KEY},
    "service_lines": {"remittance_key": _KEY, "claim_key": _KEY},
    "adjustments": {"remittance_key": _KEY, "claim_key": _KEY, "line_number": pa.int32(), "sequence": pa.int32()},
    "provider_adjustments": {"remittance_key": _KEY, "sequence": pa.int32()},
    "problems": {},
}
#: object -> table -> field -> type of everything that is ever landed.
LANDED: dict[str, dict[str, dict[str, pa.DataType]]] = {
    "remittances": {
        name: {**{field.name: field.type for field in schema}, **KEY_COLUMNS[name]}
        for name, schema in ERA_TABLES.items()
    },
    "claims": {name: {field.name: field.type for field in schema} for name, schema in CLAIM_TABLES.items()},
    "notes": {name: {field.name: field.type for field in schema} for name, schema in NOTE_TABLES.items()},
}
PUBLISHED: dict[str, dict[str, pa.Schema]] = {
    "remittances": PUBLISHED_REMITTANCE_TABLES,
    "claims": PUBLISHED_CLAIM_TABLES,
    "notes": PUBLISHED_NOTE_TABLES,
}
_RULE = re.compile(
    r"(?:(?P<tokenize>tokenize) (?P<kind>[A-Z][A-Z_]*[A-Z])|(?P<year>year)|(?P<keep>keep)|(?P<drop>drop)"
    r"|(?P<text>free text))"
    r"(?: as (?P<name>[a-z_]+))?(?P<organisation>, of organisation)?"
)


@dataclass(frozen=True)
class Rule:
    """What becomes of one field. action: tokenize, year, keep, drop or text (free text); column: its name when published, None if dropped.

    personal: the field may identify the individual, a relative, employer or household member; False for kept fields and
    for those of payers, payees, payments and files.
    """

    action: str
    column: str | None
    kind: str | None
    personal: bool


@dataclass(frozen=True)
class Policy:
    """rules: object -> table -> field -> rule. Every rule fits the landed and published schemas of medbill.model."""

    rules: Mapping[str, Mapping[str, Mapping[str, Rule]]]

    def covers(self, object_name: str, table_name: str) -> bool:
        """Whether the table is published at all."""
        return table_name in PUBLISHED.get(object_name, {})

    def apply(
        self, object_name: str, table_name: str, table: pa.Table, vault: Vault, free_text: pa.Array | None = None
    ) -> pa.Table:
        """The table as it may be published: exactly the schema of medbill.model.published, same rows, same order.

        free_text: for a table with a field of free text, its rows' texts as the free-text engine de-identified them; the
        field itself is left behind. Fields without a rule are left behind. Kept text that looks like a token is escaped. Raises PolicyError where the
        table lacks a field the published one is made of, BadInput where a required field would be null.
        """
        if not self.covers(object_name, table_name):
            raise PolicyError(f"{object_name}.{table_name} is not a table that is published")
        sources = {rule.column: (name, rule) for name, rule in self.rules[object_name][table_name].items()}
        columns = []
        schema = PUBLISHED[object_name][table_name]
        for field in schema:
            name, rule = sources[field.name]
            if name not in table.column_names:
                raise PolicyError(f"{object_name}.{table_name} was landed without {name}; land it again")
            if rule.action == "text":
                if free_text is None or len(free_text) != table.num_rows:
                    raise PolicyError(
                        f"{object_name}.{table_name}.{name} is free text and was not de-identified as such"
                    )
                column = free_text
            else:
                column = _applied(rule, table[name], field.type, vault)
            if not field.nullable and column.null_count:
                raise BadInput(
                    f"{object_name}.{table_name}.{field.name}: {column.null_count} row(s) have no value",
                    code="REQUIRED_VALUE_MISSING",
                )
            columns.append(column)
        return pa.Table.from_arrays(columns, schema=schema)


def _applied(rule: Rule, values: pa.ChunkedArray, kind: pa.DataType, vault: Vault) -> pa.Array | pa.ChunkedArray:
    if rule.action == "tokenize":
        return vault.tokenize(str(rule.kind), values)
    if rule.action == "year":
        return pc.cast(pc.year(values), kind)
    if pa.types.is_string(kind) or (pa.types.is_list(kind) and pa.types.is_string(kind.value_type)):
        return _escaped(values, kind)
    return pc.cast(values, kind)


def _escaped(values: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Kept text with token look-alikes broken up; nearly always there are none."""
    lists = pa.types.is_list(kind)
    text = pc.list_flatten(values) if lists else values
    if not pc.any(pc.match_substring(text, "[")).as_py():
        return pc.cast(values, kind)
    if not lists:
        return pc.cast(vaults.escape(values), kind)
    rows = [row if row is None else vaults.escape(pa.array(row, pa.string())).to_pylist() for row in values.to_pylist()]
    return pa.chunked_array([pa.array(rows, kind)])


def load(path: Path) -> Policy:
    """Read a policy. Raises PolicyError, naming the place, where it is missing or malformed, names a field that does not
    exist, or does not give every published column from exactly one field."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError):
        raise PolicyError("the de-identification policy is missing or not YAML") from None
    if not isinstance(content, dict) or set(content) != set(LANDED):
        raise PolicyError(f"the de-identification policy must have exactly the objects {', '.join(LANDED)}")
    return Policy({name: _object(name, tables) for name, tables in content.items()})


def _object(object_name: str, tables: object) -> dict[str, dict[str, Rule]]:
    known = LANDED[object_name]
    if not isinstance(tables, dict) or set(tables) != set(known):
        raise PolicyError(f"{object_name} must have exactly the tables {', '.join(known)}")
    return {name: _table(object_name, name, fields) for name, fields in tables.items()}


def _table(object_name: str, table_name: str, fields: object) -> dict[str, Rule]:
    where, known = f"{object_name}.{table_name}", LANDED[object_name][table_name]
    if not isinstance(fields, dict):
        raise PolicyError(f"{where} must map fields to actions")
    rules = {}
    for name, text in fields.items():
        if name not in known:
            raise PolicyError(f"{where}.{name}: there is no such field")
        rules[name] = _rule(f"{where}.{name}", name, text, known[name])
    published = PUBLISHED[object_name].get(table_name, pa.schema([]))
    columns = sorted(rule.column for rule in rules.values() if rule.column is not None)
    if columns != sorted(published.names):
        twice = {column for column in columns if columns.count(column) > 1}
        wrong = sorted(set(columns) ^ set(published.names) | twice)
        raise PolicyError(f"{where}: published columns made by no field, by two, or not declared: {', '.join(wrong)}")
    return rules


def _rule(where: str, name: str, text: object, kind: pa.DataType) -> Rule:
    match = _RULE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise PolicyError(f"{where}: write tokenize KIND [as NAME], year [as NAME], keep, drop or free text")
    action = next(action for action in ("tokenize", "year", "keep", "drop", "text") if match[action])
    if (action in ("keep", "drop", "text") and match["name"]) or (
        action in ("keep", "year", "text") and match["organisation"]
    ):
        raise PolicyError(f"{where}: {action} takes no such addition")
    if action == "text" and not pa.types.is_string(kind):
        raise PolicyError(f"{where}: only text is free text")
    if action == "tokenize" and not pa.types.is_string(kind):
        raise PolicyError(f"{where}: only text can be tokenised")
    if action == "year" and not pa.types.is_date(kind):
        raise PolicyError(f"{where}: only a date has a year")
    column = {
        "tokenize": match["name"] or f"{name}_token",
        "year": match["name"] or f"{name}_year",
        "keep": name,
        "text": name,
        "drop": None,
    }[action]
    return Rule(action, column, match["kind"], personal=action != "keep" and not match["organisation"])
