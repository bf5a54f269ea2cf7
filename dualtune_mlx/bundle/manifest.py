"""A bundle: what training writes and everything else reads.

dualtune.json                     base model, template, tools, stages, training facts
template.jinja                    the user's own template, where there is one
template-<hash>.jinja             another one, of stages that have their own
selector/                         the selector's adapter
arguments/<slug>-<hash>/          argument adapters: a tool's own, a server's, or the shared one
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.decoding import Grounding
from dualtune_mlx.errors import BundleError
from dualtune_mlx.files import locked, write_json, write_text
from dualtune_mlx.prompts import BUILT_IN_TEMPLATES, Template
from dualtune_mlx.tools import Tool

FORMAT = 1
MANIFEST, OWN_TEMPLATE = "dualtune.json", "template.jinja"


@dataclass(frozen=True)
class TemplateRef:
    """A template: its name or file, and its hash; of a user's own the bundle holds a copy."""

    name: str
    hash: str

    @classmethod
    def of(cls, template: Template) -> TemplateRef:
        return cls(template.name, template.hash)


@dataclass(frozen=True)
class AdapterEntry:
    """Where an adapter lies in the bundle, the hash of its content, and how it was trained.

    ``grounding`` names the arguments that its data always copied from the conversation; ``template`` is what it was
    trained with, where that is not the bundle's.
    """

    path: str
    content_hash: str
    grounding: Grounding = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    template: TemplateRef | None = None


@dataclass(frozen=True)
class Bundle:
    """The manifest of a bundle folder. ``stages`` maps (stage, scope) to its adapter's slot.

    A scope is ``""`` (shared by all), ``"server"`` or ``"server/tool"``.
    """

    folder: Path
    model: str
    fingerprint: str
    template: str
    template_hash: str
    cards: str
    tools: tuple[Tool, ...] = ()
    stages: Mapping[tuple[str, str], AdapterEntry] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: str | Path) -> Bundle:
        """Read a bundle.

        Raises:
            BundleError: when it is missing, damaged, of another format, or its template was changed.
        """
        path = Path(folder) / MANIFEST
        value = read_manifest(path)
        try:
            return cls._from_dict(Path(folder), value)
        except (KeyError, TypeError, AttributeError) as error:
            raise BundleError(
                "a bundle's manifest lacks a field, or has one of another form", where=path, got=repr(error)
            ) from error

    @classmethod
    def _from_dict(cls, folder: Path, value: Mapping[str, Any]) -> Bundle:
        stages = {
            (stage, scope): AdapterEntry(
                slot["path"],
                slot["content"],
                _grounding(slot.get("grounding", {})),
                slot.get("training", {}),
                TemplateRef(slot["prompt"]["template"], slot["prompt"]["hash"]) if "prompt" in slot else None,
            )
            for stage, scopes in value["stages"].items()
            for scope, slot in scopes.items()
        }
        base, prompt = value["base"], value["prompt"]
        tools = tuple(Tool.from_dict(tool) for tool in value["tools"])
        return cls(
            folder,
            base["model"],
            base["fingerprint"],
            prompt["template"],
            prompt["hash"],
            prompt["cards"],
            tools,
            stages,
        )

    def load_template(self, own: TemplateRef | None = None) -> Template:
        """The template that the adapters were trained with: the bundle's, or a stage's own."""
        named = own or TemplateRef(self.template, self.template_hash)
        template = Template(named.name if named.name in BUILT_IN_TEMPLATES else str(self.folder / _file_of(own)))
        if template.hash != named.hash:
            raise BundleError(
                "the template is not the one the bundle was trained with",
                where=template.name,
                got=template.hash[:12],
                expected=named.hash[:12],
                fix="train again, or use the version of this package that wrote the bundle",
            )
        return template

    @property
    def hierarchical(self) -> bool:
        """Whether tools are chosen along their hierarchy: where there is a router, or the selector learned that."""
        selector = self.stages.get(("selector", ""))
        return ("router", "") in self.stages or bool(selector and selector.training.get("hierarchical"))

    def regrouped(self, tools: Iterable[Tool]) -> Iterator[tuple[Tool, Tool]]:
        """The tools that are in another group of their server than when they were trained on, each as it is and was."""
        known = {(tool.server, tool.name): tool for tool in self.tools}
        pairs = ((tool, known.get((tool.server, tool.name), tool)) for tool in tools)
        return ((now, then) for now, then in pairs if now.group != then.group)

    def adapter_for(self, stage: str, tool: Tool | None = None) -> tuple[AdapterEntry, Adapter] | None:
        """A stage's adapter and its slot: the tool's own, else its server's, else the shared one, else none.

        Raises:
            AdapterError, BundleError: when it cannot be read, or is not the one that was written.
        """
        return self.adapter_in(stage, f"{tool.server}/{tool.name}" if tool else "")

    def adapter_in(self, stage: str, scope: str) -> tuple[AdapterEntry, Adapter] | None:
        """The adapter of a scope (``server/tool``, ``server`` or "") and its slot, or that of the next wider scope.

        Raises:
            AdapterError, BundleError: when it cannot be read, or is not the one that was written.
        """
        for wider in (scope, scope.partition("/")[0], ""):
            slot = self.stages.get((stage, wider))
            if slot is not None:
                return slot, self.load(stage, wider, slot)
        return None

    def adapters(self) -> Iterator[tuple[AdapterEntry, Adapter]]:
        """All adapters and their slots.

        Raises:
            AdapterError, BundleError: when one cannot be read, or is not the one that was written.
        """
        for (stage, scope), slot in self.stages.items():
            yield slot, self.load(stage, scope, slot)

    def load(self, stage: str, scope: str, slot: AdapterEntry) -> Adapter:
        """The adapter in a slot.

        Raises:
            AdapterError, BundleError: when it cannot be read, or is not the one that was written.
        """
        if slot.path != adapter_path(stage, scope):
            raise BundleError("a bundle names an unexpected path", where=self.folder / MANIFEST, got=slot.path)
        adapter = Adapter.load(self.folder / slot.path)
        if adapter.content_hash != slot.content_hash:
            raise BundleError(
                "an adapter is not the one that the bundle's manifest describes",
                where=self.folder / slot.path,
                got=adapter.content_hash[:12],
                expected=slot.content_hash[:12],
                fix="restore the bundle, or train this stage again",
            )
        return adapter

    def with_adapter(
        self,
        stage: str,
        scope: str,
        adapter: Adapter,
        training: Mapping[str, Any],
        tools: Iterable[Tool],
        grounding: Grounding | None = None,
    ) -> Bundle:
        """Write an adapter into the folder and the manifest after it; the bundle as it then is.

        Another process may have added its own stage since this bundle was opened; that stays.
        """
        path = adapter_path(stage, scope)
        with locked(self.folder):
            latest = Bundle.open(self.folder) if (self.folder / MANIFEST).exists() else self
            adapter.save(self.folder / path)
            slot = AdapterEntry(path, adapter.content_hash, grounding or {}, dict(training))
            known = {(tool.server, tool.name): tool for tool in (*latest.tools, *tools)}
            stages = {**latest.stages, (stage, scope): slot}
            bundle = replace(latest, tools=tuple(known.values()), stages=stages)
            bundle.write()
        return bundle

    def write(self) -> None:
        """Write the manifest, and the templates that are the user's own."""
        self._keep(TemplateRef(self.template, self.template_hash), self.folder / OWN_TEMPLATE)
        for slot in self.stages.values():
            if slot.template is not None:
                self._keep(slot.template, self.folder / _file_of(slot.template))
        write_json(self.folder / MANIFEST, self.to_dict())

    def _keep(self, named: TemplateRef, file: Path) -> None:
        """Copy a template into the bundle, where it is the user's own and not there yet."""
        if named.name not in BUILT_IN_TEMPLATES and not (file.exists() and Template(str(file)).hash == named.hash):
            write_text(file, Template(named.name).source)

    def to_dict(self) -> dict[str, Any]:
        stages: dict[str, dict[str, Any]] = {}
        for (stage, scope), slot in self.stages.items():
            entry = {
                "path": slot.path,
                "content": slot.content_hash,
                "grounding": slot.grounding,
                "training": dict(slot.training),
            }
            if slot.template is not None:
                entry["prompt"] = {"template": slot.template.name, "hash": slot.template.hash}
            stages.setdefault(stage, {})[scope] = entry
        return {
            "format": FORMAT,
            "base": {"model": self.model, "fingerprint": self.fingerprint},
            "prompt": {"template": self.template, "hash": self.template_hash, "cards": self.cards},
            "tools": [{**tool.to_dict(), "schema_hash": schema_hash(tool)} for tool in self.tools],
            "stages": stages,
        }


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest as it stands in its file.

    Raises:
        BundleError: when it is missing, is not JSON, or has another format.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(
            "there is no bundle", where=path.parent, expected=MANIFEST, fix="make one: dualtune train selector …"
        ) from error
    except (OSError, ValueError) as error:
        raise BundleError("a bundle's manifest cannot be read", where=path, got=error) from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        got = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise BundleError("a bundle has an unknown format", where=path, got=got, expected=FORMAT)
    return value


def _file_of(own: TemplateRef | None) -> str:
    """Where a template of the user's lies: the bundle's, or a stage's own, whose hash must be one to make a name."""
    if own is None:
        return OWN_TEMPLATE
    if not re.fullmatch("[0-9a-f]{64}", own.hash):
        raise BundleError("a template's hash is none", got=repr(own.hash), expected="64 hexadecimal digits")
    return f"template-{own.hash[:12]}.jinja"


def _grounding(value: Any) -> Grounding:
    """The grounding of a manifest: ``{tool: {parameter: [constants]}}``."""
    return {tool: {path: _texts(items) for path, items in parameters.items()} for tool, parameters in value.items()}


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"not a list of texts: {value!r}")
    return tuple(value)


def adapter_path(stage: str, scope: str) -> str:
    """Where an adapter lies: a scope is data, so it becomes a slug and a hash, never a path by itself."""
    if not re.fullmatch("[a-z]+", stage):
        raise BundleError("a stage's name is not a plain word", got=repr(stage), expected="selector, arguments, …")
    if stage != "arguments":
        return stage
    slug = re.sub(r"[^a-z0-9]+", "-", scope.lower()).strip("-")[:40] or "shared"
    return f"arguments/{slug}-{hashlib.sha256(scope.encode()).hexdigest()[:8]}"


def schema_hash(tool: Tool) -> str:
    return hashlib.sha256(json.dumps(dict(tool.parameters), sort_keys=True).encode()).hexdigest()
