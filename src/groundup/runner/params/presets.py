"""Presets are overlays of params.yaml in presets/; laptop.yaml restores the default of every key that they change."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from groundup.runner.params.layout import PLAIN, Layout, reread
from groundup.runner.params.load import Params, ParamsError, parse_params, read_sections

DEFAULTS = "laptop"


@dataclass(frozen=True)
class Change:
    """One value of params.yaml."""

    key: str  # dotted
    old: Any
    new: Any


@dataclass(frozen=True)
class Rewrite:
    """What params.yaml would become."""

    text: str
    changes: list[Change]
    params: Params
    keeps_sources: bool  # whether the user's own sources stay, not the preset's


def preset_names(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / "presets").glob("*.yaml"))


def load_preset(root: Path, name: str) -> Params:
    return with_preset(root, name, {}).params


def with_preset(root: Path, name: str, derived: Mapping[str, Any]) -> Rewrite:
    """params.yaml with a preset applied; `derived` overrides values of the preset, by dotted key.

    Keys that no preset changes stay, and so do sources that no preset has. ParamsError names every problem.
    """
    values = read_sections(root / "params.yaml")
    preset = _preset(root, name)
    target = _merge(_merge(values, preset), _nested(derived))
    own = _sources(values)
    others = (other for other in preset_names(root) if other != name)
    keeps_sources = own not in (None, _sources(preset)) and all(
        own != _sources(_preset(root, other)) for other in others
    )
    if keeps_sources:
        target["prepare"]["sources"] = own
    return _rewrite(root, values, target, keeps_sources)


def with_values(root: Path, values: Mapping[str, Any]) -> Rewrite:
    """params.yaml with other values, by dotted key; ParamsError names every problem."""
    present = read_sections(root / "params.yaml")
    return _rewrite(root, present, _merge(present, _nested(values)), keeps_sources=False)


def _rewrite(root: Path, values: dict[str, Any], target: dict[str, Any], keeps_sources: bool) -> Rewrite:
    path = root / "params.yaml"
    changes = _differences(values, target, "")
    layout = Layout(path.read_text(encoding="utf-8"))
    for change in changes:
        layout.set(change.key, change.new)
    rewritten = reread(layout.text)
    params = parse_params(rewritten, f"what {path} would become")
    if rewritten != target:
        raise ParamsError(PLAIN)
    return Rewrite(layout.text, changes, params, keeps_sources)


def _preset(root: Path, name: str) -> dict[str, Any]:
    defaults, preset = (_read_preset(root / f"presets/{file}.yaml") for file in (DEFAULTS, name))
    values = _merge(defaults, preset)
    values["prepare"]["sources"] = _merge_sources(_sources(defaults), _sources(preset) or [])
    return values


def _read_preset(path: Path) -> dict[str, Any]:
    """The numbers keep their notation when they are written again."""
    read_sections(path)
    loaded: dict[str, Any] = YAML().load(path.read_text(encoding="utf-8"))
    return loaded


def _merge(values: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Merge sections key by key; replace all else, lists included."""
    merged = dict(values)
    for key, new in overlay.items():
        old = merged.get(key)
        merged[key] = _merge(old, new) if isinstance(old, Mapping) and isinstance(new, Mapping) else new
    return merged


def _sources(values: Mapping[str, Any]) -> Any:
    prepare = values.get("prepare")
    return prepare.get("sources") if isinstance(prepare, Mapping) else None


def _merge_sources(defaults: list[dict[str, Any]], overlay: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge by name: the preset's sources come first, and a default source needs only the keys that differ."""
    rest = {source["name"]: source for source in defaults}
    return [dict(rest.pop(source["name"], {})) | dict(source) for source in overlay] + list(rest.values())


def _nested(derived: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in derived.items():
        *sections, last = key.split(".")
        section = nested
        for name in sections:
            section = section.setdefault(name, {})
        section[last] = value
    return nested


def _differences(values: Mapping[str, Any], target: Mapping[str, Any], prefix: str) -> list[Change]:
    changes = []
    for key, new in target.items():
        old = values.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changes += _differences(old, new, f"{prefix}{key}.")
        elif key not in values or old != new:
            changes.append(Change(f"{prefix}{key}", old, new))
    return changes
