"""Reading the rules' policy files: every scalar stays text until a schema gives it a type, so 98.00 never becomes a float."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from medbill.errors import PolicyError


class _Loader(yaml.SafeLoader):
    """Safe YAML whose scalars are strings (or null) and whose mappings refuse a key given twice."""


_Loader.yaml_implicit_resolvers = {
    first: kept
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    if (kept := [(tag, pattern) for tag, pattern in resolvers if tag == "tag:yaml.org,2002:null"])
}


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    pairs = [(loader.construct_object(k, deep=True), loader.construct_object(v, deep=True)) for k, v in node.value]
    found: dict[str, Any] = {}
    for key, value in pairs:
        if not isinstance(key, str) or key in found:
            raise yaml.constructor.ConstructorError(
                None, None, "a key is given twice or is no plain text", node.start_mark
            )
        found[key] = value
    return found


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


class Policy(BaseModel):
    """Base of the schemas: unknown fields are errors, since a misspelt field would otherwise be silently without effect."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


P = TypeVar("P", bound=Policy)


def load_yaml(path: Path, schema: type[P]) -> P:
    """A YAML file under a schema. Raises PolicyError naming file and field where it is missing, malformed or does not fit."""
    return _checked(path, lambda: schema.model_validate(_Loader(path.read_bytes()).get_single_data()))


def _checked(path: Path, read: Callable[[], P]) -> P:
    name = f"{path.parent.name}/{path.name}"
    try:
        return read()
    except OSError as error:
        raise PolicyError(f"{name} is missing or cannot be read") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise PolicyError(f"{name}{where}: {problem}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise PolicyError(f"{name}: {field}: {first['msg']}") from error
