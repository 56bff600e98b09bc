"""Every setting: its name, default, help and range, in one place.

The JSON schema, the editors' settings and the docs are made from these classes. Layers are merged in the order
defaults < user file < workspace file < client options < command line; a value that cannot be used is named in a
problem sentence and the layer below it holds.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WORKSPACE_FILE = ".intract.toml"
"""Settings of one workspace, at the root of its first folder."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ModelSettings(_Section):
    """Which model runs, and on what."""

    name: str = Field(default="auto", min_length=1)
    """A name from `intract-lsp models list`, a directory with safetensors and a tokenizer, or a GGUF file; `auto`
    chooses by hardware."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the model runs; `auto` takes a GPU where there is one."""
    precision: Literal["auto", "float32", "bfloat16", "float16", "int8", "nf4"] = "auto"
    """Number format of the weights; `auto` takes int8 on CPUs with AVX2 or ARM dot products and the
    fastest float format elsewhere, on a CUDA GPU without room for that nf4 (4 bits, by bitsandbytes)."""
    use_flash_attention: Literal["auto", "on", "off"] = "auto"
    """Compute prompts with torch's flash attention on a CUDA GPU; `auto` does where the GPU has it, `on` says where it
    has not."""
    draft: str = ""
    """A small model with the same vocabulary whose tokens the model checks several at once: a name as in `name`, or
    `auto` for the smallest of a model's family beside models of 3B parameters or more. Suggestions stay the same."""
    threads: int = Field(default=0, ge=0, le=256)
    """CPU threads for the model; 0 = one for each physical core."""
    kv_cache_mib: int = Field(default=192, ge=16, le=65536)
    """Memory in MiB for what was computed of past prompts; one prompt of the 0.5B model takes 24, and one is always
    kept."""
    offline: bool = False
    """Never fetch a model: only the local cache and local paths are used."""


class CompletionSettings(_Section):
    """When and how much to suggest."""

    enabled: bool = True
    """Switch all suggestions on or off."""
    disabled_languages: tuple[str, ...] = ()
    """Language identifiers without suggestions, such as `markdown`."""
    popup: Literal["off", "auto", "on"] = "off"
    """Offer suggestions as items of the completion popup too: `auto` in editors without inline completion, `on` in all;
    of the two kinds of request about one document the newest is answered."""
    popup_deadline_ms: int = Field(default=1000, ge=50, le=120_000)
    """Milliseconds after which the popup does without a suggestion; one that comes later is offered at the next key."""
    multi_line: Literal["auto", "always", "never"] = "auto"
    """Suggest several lines: by what stands around the cursor, at every line's end, or never."""
    max_line_tokens: int = Field(default=64, ge=1, le=1024)
    """Most tokens of a one-line suggestion."""
    max_block_tokens: int = Field(default=160, ge=1, le=4096)
    """Most tokens of a suggestion of several lines."""
    prefix_tokens: int = Field(default=0, ge=0, le=32768)
    """Tokens shown to the model before the cursor; 0 = 512 on a CPU, 2048 on a GPU."""
    suffix_tokens: int = Field(default=0, ge=0, le=32768)
    """Tokens shown to the model behind the cursor; 0 = 128 on a CPU, 512 on a GPU."""
    exact: bool = False
    """Render the prompt at the cursor and compute it from scratch each time: for tests and comparisons; slow."""
    deadline_ms: int = Field(default=8000, ge=50, le=120_000)
    """Milliseconds after which a suggestion is shown as far as it got."""
    work_ahead: bool = True
    """Compute the likely next prompt while idle (never on battery)."""
    debounce_ms: int = Field(default=-1, ge=-1, le=5000)
    """Milliseconds without a further keystroke before the model runs; -1 = adapt to the typing."""
    cache_kib: int = Field(default=4096, ge=0, le=1_048_576)
    """Memory for past suggestions in KiB; 0 = keep none."""
    retrieval: bool = True
    """Show the model pieces of other files that are likely to help; they come from the index and from what you edited
    lately."""
    retrieval_disabled_languages: tuple[str, ...] = ()
    """Language identifiers whose suggestions use the current file alone."""
    context_tokens: int = Field(default=0, ge=0, le=32768)
    """Most tokens of pieces of other files; 0 = what suits the device."""
    definitions: bool = False
    """Show the model also what the names around the cursor stand for: signatures and fields of the workspace. Off by
    default, since models of half a billion weights complete no better with them."""
    retrieval_deadline_ms: int = Field(default=30, ge=1, le=5000)
    """Milliseconds to look for such pieces; what is found later is left out."""


class IndexSettings(_Section):
    """What of the workspace is kept in an index, on this machine."""

    enabled: bool = True
    """Index the workspace's folders and follow their changes."""
    max_files: int = Field(default=20_000, ge=1, le=1_000_000)
    """Most files of a folder, the nearest to its root; the status says where there are more."""
    disabled_folders: tuple[str, ...] = ()
    """Workspace folders that are not indexed, by name or absolute path, also with `*`."""


class TrainingSettings(_Section):
    """How a model is fine-tuned on a project."""

    enabled: bool = True
    """Allow fine-tuning; off, no run begins and what waits is not begun."""
    method: Literal["auto", "standard", "lora", "qlora"] = "auto"
    """What is trained: all weights, low-rank matrices beside them, or these beside a base in 4 or 8 bits; `auto` takes
    `lora`, and `qlora` on a GPU with less than three times the memory of the weights."""
    lora_r: int = Field(default=0, ge=0, le=1024)
    """Rank of the low-rank matrices; 0 = 64 on a CPU, 16 on a GPU."""
    lora_alpha: int = Field(default=0, ge=0, le=4096)
    """Their scale, times the rank; 0 = twice the rank."""
    lora_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of their inputs that is dropped in training."""
    target_modules: tuple[str, ...] = ()
    """Names of the linear layers that get low-rank matrices, such as `q_proj`; empty = all but the head."""
    bits: Literal[4, 8] = 4
    """Bits of a weight of the base under `qlora`."""
    double_quant: bool = True
    """Quantise the scales of a 4-bit base, too."""
    quant_type: Literal["nf4", "fp4"] = "nf4"
    """Number format of a 4-bit base."""
    optim: Literal["auto", "adamw_torch", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "sgd", "adafactor"] = (
        "auto"
    )
    """The optimiser, as transformers names it; `auto` takes `adamw_torch` on a CPU, `adamw_8bit` on a GPU and
    `paged_adamw_8bit` there under `qlora`."""
    gradient_checkpointing: Literal["auto", "on", "off"] = "auto"
    """Compute activations twice rather than keep them; `auto` does where a GPU is more than 60 % full of weights."""
    context_length: int = Field(default=0, ge=0, le=32768)
    """Most tokens of a sample; 0 = 512 on a CPU, 2048 on a GPU."""
    learning_rate: float = Field(default=0.0, ge=0.0, le=1.0)
    """Highest learning rate, after the warm-up; for `standard`, a tenth of it is used. 0 = 0.0002, for an adapter on a
    CPU times the root of 64 / `lora_r`. On a CPU an adapter is weighed by 0.4 at the end, so that little is
    forgotten."""
    minutes: float = Field(default=0.0, ge=0.0, le=10_080.0)
    """Minutes that the training itself may take; 0 = 20 on a CPU and 60 on a GPU, or no limit with steps or epochs."""
    steps: int = Field(default=0, ge=0, le=1_000_000)
    """Most steps of the optimiser; 0 = no limit."""
    epochs: float = Field(default=0.0, ge=0.0, le=1000.0)
    """How often each sample is trained on at most; 0 = no limit."""
    batch_size: int = Field(default=0, ge=0, le=4096)
    """Samples of one step; 0 = 4 on a CPU, 16 on a GPU."""
    gpus: int = Field(default=1, ge=0, le=64)
    """GPUs that train together, each with the whole model and a share of every step; 0 = all. On Linux only."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """What the choice of samples and the first weights depend on."""
    use_ntp: bool = True
    """Train on plain text, each token from those before it."""
    use_fim: bool = True
    """Train on holes in the code, as completions are asked for."""
    ntp_share: float = Field(default=0.25, ge=0.0, le=1.0)
    """Of the tokens that are plain text, where both kinds are used."""
    train_on_code: bool = True
    """Train on the project's code."""
    exclude: tuple[str, ...] = ()
    """Files and folders that are not trained on, each as a line of a `.gitignore` at the folder's root."""
    held_out: int = Field(default=300, ge=0, le=10_000)
    """Most places in the newest code that are not trained on but measured at; 0 = all of the code is trained on, so
    that nothing is proven and the adapter waits to be promoted by hand."""
    pause_while_typing: bool = True
    """Stop training on the CPU while completions are asked for, and for three seconds after."""
    hold_back: float = Field(default=0.2, ge=0.0, le=0.5)
    """Share of the time in which a new adapter is held back, to see whether it helps: where you keep fewer suggestions
    with it than without, beyond chance, it is taken back; 0 = never. On a CPU only."""
    schedule: Literal["off", "idle"] = "off"
    """Begin a run by itself when nothing has been asked for a while; never on battery."""
    changed_lines: int = Field(default=500, ge=1, le=1_000_000)
    """Lines that must have been committed since the last run before the schedule begins one."""


class LogSettings(_Section):
    """What is written to the log: ids, sizes and timings, never code."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is logged."""


class Settings(_Section):
    """All settings of intract-lsp."""

    model: ModelSettings = ModelSettings()
    """Which model runs, and on what."""
    completion: CompletionSettings = CompletionSettings()
    """When and how much to suggest."""
    index: IndexSettings = IndexSettings()
    """What is indexed."""
    training: TrainingSettings = TrainingSettings()
    """How a model is fine-tuned."""
    log: LogSettings = LogSettings()
    """What is logged."""


class SettingsStack:
    """The layers of one running program, of which some may change: the settings are always those of all layers."""

    ORDER = ("user file", "workspace file", "client", "command line", "session")
    """Names of the layers, lowest first; ``session`` holds what the user switched by a command."""

    def __init__(self) -> None:
        self._layers: dict[str, Layer] = {}
        self.current = Settings()
        """The settings in force."""

    def put(self, name: str, source: str, values: Mapping[str, Any]) -> list[str]:
        """Set a layer and return the problems found in it, one sentence each; the rest of it holds all the same."""
        problems: list[str] = []
        self._layers[name] = (source, _usable(source, values, problems))
        self.current, _ = merge_layers(self._layers[layer] for layer in self.ORDER if layer in self._layers)
        return problems

    def put_folder(self, folder: Path) -> list[str]:
        """Set the layer of a workspace folder's own file and return the problems found in it, one sentence each."""
        problems: list[str] = []
        source, values = read_layer(folder / WORKSPACE_FILE, problems)
        return problems + self.put("workspace file", source, values)

    def values(self, name: str) -> dict[str, Any]:
        """Return a copy of one layer's usable values."""
        _, values = self._layers.get(name, ("", {}))
        return {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}

    def layers(self) -> list[Layer]:
        """Return the usable values of each layer, lowest first."""
        return [self._layers[layer] for layer in self.ORDER if layer in self._layers]


Layer = tuple[str, Mapping[str, Any]]
"""Where values come from, for problem sentences, and the values as a nested mapping."""


def merge_layers(layers: Iterable[Layer]) -> tuple[Settings, list[str]]:
    """Merge layers, lowest first, and return the settings with every problem found, one sentence each."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for source, layer in layers:
        usable = _usable(source, layer, problems)
        _merge(values, usable)
    return Settings.model_validate(values), problems


def read_layer(path: Path, problems: list[str]) -> Layer:
    """Read a TOML settings file; a missing file is an empty layer, a broken one adds a problem."""
    try:
        return str(path), tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return str(path), {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        problems.append(f"{path} cannot be read ({error}): its settings are ignored.")
        return str(path), {}


def layer_from_options(options: Iterable[str], problems: list[str]) -> dict[str, Any]:
    """Turn ``section.name=value`` texts into a layer; values are read as TOML, else as plain strings."""
    layer: dict[str, Any] = {}
    for option in options:
        name, separator, text = option.partition("=")
        parts = name.strip().split(".")
        if not separator or len(parts) != 2 or not all(parts):
            problems.append(f"{option!r} is no setting; write section.name=value, such as model.threads=2.")
            continue
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        layer.setdefault(parts[0], {})[parts[1]] = value
    return layer


def _usable(source: str, layer: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Return a deep copy of ``layer`` without the values that do not validate on their own."""
    usable = {key: dict(value) if isinstance(value, Mapping) else value for key, value in layer.items()}
    while True:
        try:
            Settings.model_validate(usable)
            return usable
        except ValidationError as error:
            for detail in error.errors():
                location = [part for part in detail["loc"][:2] if isinstance(part, str)]
                problems.append(_sentence(source, location, detail["type"], detail["msg"], detail["input"]))
                _remove(usable, location)


def _sentence(source: str, location: list[str], kind: str, message: str, value: object) -> str:
    name = ".".join(location)
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(name, setting_names(), n=1, cutoff=0.5)
        hint = f" (did you mean {near[0]}?)" if near else ""
        return f"{source}: there is no setting {name}{hint}."
    shown = repr(value) if len(repr(value)) <= 60 else f"a {type(value).__name__}"
    return f"{source}: {name} cannot be {shown}: {message[:1].lower()}{message[1:]}."


def _remove(tree: dict[str, Any], location: list[str]) -> None:
    branch: Any = tree
    for part in location[:-1]:
        branch = branch.get(part, {})
    if isinstance(branch, dict):
        branch.pop(location[-1], None)


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def setting_names() -> list[str]:
    """Return every setting's dotted name, in the order of declaration."""
    names: list[str] = []
    for section, field in Settings.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            names.extend(f"{section}.{name}" for name in annotation.model_fields)
    return names


def as_toml(settings: Settings) -> str:
    """Return the settings in the settings file's form, each with its help as a comment."""
    lines: list[str] = []
    for section in type(settings).model_fields:
        values: BaseModel = getattr(settings, section)
        lines.append(f"[{section}]")
        for name, field in type(values).model_fields.items():
            lines.append(f"# {' '.join((field.description or '').split())}")
            lines.append(f"{name} = {_toml_value(getattr(values, name))}")
        lines.append("")
    return "\n".join(lines).rstrip()


def _toml_value(value: object) -> str:
    """JSON's spelling of texts, numbers, truth values and lists is TOML's too."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
