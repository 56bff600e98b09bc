"""The reference of all settings as Markdown, made from their JSON schema."""

from __future__ import annotations

import json
from typing import Any

from intract_lsp.settings import WORKSPACE_FILE, Settings

_INTRODUCTION = f"""\
<!-- Printed by `intract-lsp config reference`, from intract_lsp/settings.py: change it there. -->
# Settings

The same settings can be given in these places; a later one wins, setting by setting:

1. the user's file `config.toml`, in the directory that `intract-lsp config show` names;
2. `{WORKSPACE_FILE}` at the root of a workspace's first folder, in the same form;
3. the editor: its settings' section `intract`, or `initializationOptions`;
4. the command line: `--set SECTION.NAME=VALUE`, as often as needed;
5. commands such as `intract.toggle`, until the server ends.

```toml
# config.toml or {WORKSPACE_FILE}
[completion]
popup = "auto"
disabled_languages = ["markdown"]
```

On the command line that is `--set completion.popup=auto --set 'completion.disabled_languages=["markdown"]'`.
A value that cannot be used is named in one message, and the place before it counts. What is changed in the editor
applies at once; where `completion.popup` must wait for the next start of the server, a message says so.

No setting has an environment variable of its own. `INTRACT_HOME` keeps the settings file, and all else that intract-lsp
writes, in one directory; `HF_HUB_OFFLINE=1` keeps models from being fetched from the Hugging Face hub."""

_TYPES = {"boolean": "`true`, `false`", "integer": "whole number", "number": "number", "string": "text"}

_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
}


def reference() -> str:
    """Return the whole document, without a line end behind it."""
    definitions = Settings.model_json_schema()["$defs"]
    parts = [_INTRODUCTION]
    for section, field in Settings.model_fields.items():
        parts.append(_section(section, definitions[type(field.default).__name__]))
    return "\n\n".join(parts)


def _section(name: str, schema: dict[str, Any]) -> str:
    lines = [
        f"## {name}",
        schema["description"],
        "",
        "| setting | values | default | what it does |",
        "|---|---|---|---|",
    ]
    for setting, values in schema["properties"].items():
        cells = (f"`{name}.{setting}`", _values(values), f"`{_toml(values['default'])}`", values["description"])
        lines.append(f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def _values(schema: dict[str, Any]) -> str:
    """Return which values a setting takes."""
    if "enum" in schema:
        return ", ".join(f"`{_toml(value)}`" for value in schema["enum"])
    if schema["type"] == "array":
        return f"list of {_TYPES[schema['items']['type']]}s"
    kind = _TYPES[schema["type"]]
    if "minimum" in schema and "maximum" in schema:
        return f"{kind}, {_number(schema['minimum'])} to {_number(schema['maximum'])}"
    limits = [form.format(_number(schema[name])) for name, form in _LIMITS.items() if name in schema]
    if schema.get("minLength"):
        limits.append("not empty")
    return ", ".join([kind, *limits])


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _toml(value: object) -> str:
    """JSON's spelling of these values is TOML's, too."""
    return json.dumps(value)
