"""A bundle: what training writes and everything else reads.

dualtune.json                     base model, template, tools, stages, training facts
template.jinja                    the user's own template, where there is one
template-<hash>.jinja             another template of the user's, of stages that have their own
selector/                         the selector's adapter
arguments/<slug>-<hash>/          argument adapters: a tool's own, a server's, or the shared one
words.safetensors                 the word classifier, where there is one
*.new-<hash>                      an adapter or classifier that is about to take another one's place
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
from dualtune_mlx.bundle.entries import AdapterEntry, TemplateRef, WordsEntry, read_text_field
from dualtune_mlx.bundle.manifest_file import FORMAT, MANIFEST, read_manifest, write_manifest
from dualtune_mlx.bundle.parts import find_part, name_new, settle_parts, tidy_up
from dualtune_mlx.bundle.words import FILE as WORDS
from dualtune_mlx.bundle.words import encode_words, load_words
from dualtune_mlx.decoding import Evidence, Grounding, Ungrounded, WordClassifier
from dualtune_mlx.errors import BundleError
from dualtune_mlx.files import atomic_file, lock_folder, require_no_links, write_text
from dualtune_mlx.prompts import BUILT_IN_TEMPLATES, PromptRenderer, Template, check_fit
from dualtune_mlx.tools import Tool

OWN_TEMPLATE = "template.jinja"

StageKey = tuple[str, str]
"""A stage and the scope that its adapter serves: ``""`` (every tool), ``"server"`` or ``"server/tool"``."""


@dataclass(frozen=True)
class Bundle:
    """The manifest of a bundle folder."""

    folder: Path
    """Where the bundle is."""
    model: str
    """The base model: a folder or a hub id."""
    fingerprint: str
    """The fingerprint of the base model's weights."""
    template: str
    """The name or path of the template of all stages without their own."""
    template_hash: str
    """The template's hash when the bundle was written."""
    cards: str
    """The kind of tool card."""
    argument_card: str = "none"
    """What the arguments are written from, beside the conversation: one of ``ARGUMENT_CARDS``."""
    tools: tuple[Tool, ...] = ()
    """The tools that the adapters were trained on."""
    stages: Mapping[StageKey, AdapterEntry] = field(default_factory=dict)
    """The adapters by stage and scope."""
    evidence: Evidence | None = None
    """How the words of tools and request count where visible tools were not trained on; None where they do not."""
    words: WordsEntry | None = None
    """The word classifier of the tools that were trained on."""
    prefixes: tuple[str, ...] | None = ()
    """The checksums of the prefix files that were computed for it; None where the manifest is older than this list."""
    weights: str = ""
    """The hash of all of the base model's weights; "" where it is not known."""

    @classmethod
    def open(cls, folder: str | Path) -> Bundle:
        """Read a bundle's manifest, and tidy up where a program has ended while it wrote the bundle.

        Raises:
            BundleError: when it is missing, damaged, or of another format.
        """
        bundle = cls._read(Path(folder))
        tidy_up(bundle.folder, lambda: cls._read(bundle.folder).parts)
        return bundle

    @classmethod
    def _read(cls, folder: Path) -> Bundle:
        path = folder / MANIFEST
        value = read_manifest(path)
        try:
            return cls._from_dict(folder, value)
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
            raise BundleError(
                "a bundle's manifest lacks a field, or has one of another form",
                where=path,
                got=f"no field {error.args[0]!r}" if isinstance(error, KeyError) else str(error),
                fix="restore the file, or train again into another folder",
            ) from error

    @classmethod
    def _from_dict(cls, folder: Path, value: Mapping[str, Any]) -> Bundle:
        stages = {
            (stage, scope): AdapterEntry.from_dict(entry)
            for stage, scopes in value["stages"].items()
            for scope, entry in scopes.items()
        }
        base, prompt = value["base"], value["prompt"]
        tools = tuple(Tool.from_dict(tool) for tool in value["tools"])
        return cls(
            folder=folder,
            model=read_text_field(base, "model"),
            fingerprint=read_text_field(base, "fingerprint"),
            template=read_text_field(prompt, "template"),
            template_hash=read_text_field(prompt, "hash"),
            cards=read_text_field(prompt, "cards"),
            argument_card=read_text_field({"argument_card": "none", **prompt}, "argument_card"),
            tools=tools,
            stages=stages,
            evidence=Evidence.from_dict(value["evidence"]) if "evidence" in value else None,
            words=WordsEntry.from_dict(value["words"]) if "words" in value else None,
            prefixes=tuple(map(str, value["prefixes"])) if "prefixes" in value else None,
            weights=read_text_field({"weights": "", **base}, "weights"),
        )

    @property
    def parts(self) -> dict[str, str]:
        """The hash of each adapter's content, and of the word classifier's file, by its path in the bundle."""
        words = {WORDS: self.words.content_hash} if self.words else {}
        return {**{adapter_path(*key): entry.content_hash for key, entry in self.stages.items()}, **words}

    def to_dict(self) -> dict[str, Any]:
        """The manifest as it stands in its file."""
        stages: dict[str, dict[str, Any]] = {}
        for (stage, scope), entry in self.stages.items():
            stages.setdefault(stage, {})[scope] = entry.to_dict()
        weights = {"weights": self.weights} if self.weights else {}
        card = {"argument_card": self.argument_card} if self.argument_card != "none" else {}
        return {
            "format": FORMAT,
            "base": {"model": self.model, "fingerprint": self.fingerprint, **weights},
            "prompt": {"template": self.template, "hash": self.template_hash, "cards": self.cards, **card},
            "tools": [{**tool.to_dict(), "schema_hash": schema_hash(tool)} for tool in self.tools],
            "stages": stages,
            **({"evidence": self.evidence.to_dict()} if self.evidence else {}),
            **({"words": self.words.to_dict()} if self.words else {}),
            **({"prefixes": list(self.prefixes)} if self.prefixes is not None else {}),
        }

    def load_template(self, own: TemplateRef | None = None) -> Template:
        """Load the template that adapters were trained with: a stage's ``own``, or else the bundle's.

        Raises:
            BundleError: when the template has changed since.
            PromptError: when its file cannot be read.
        """
        reference = own or TemplateRef(self.template, self.template_hash)
        is_built_in = reference.name in BUILT_IN_TEMPLATES
        template = Template(reference.name if is_built_in else str(self.folder / _template_file(own)))
        if template.hash != reference.hash:
            raise BundleError(
                "the template is not the one the bundle was trained with",
                where=template.name,
                got=template.hash[:12],
                expected=reference.hash[:12],
                fix="train again, or use the version of this package that wrote the bundle",
            )
        return template

    def open_renderer(self, tokenizer: Any, own: TemplateRef | None = None, model: str | None = None) -> PromptRenderer:
        """The renderer of the prompts that adapters were trained with.

        Args:
            tokenizer: the base model's.
            own: a stage's own template; without it, the bundle's.
            model: the base model, where it may be another one than the bundle's. Then the template has to fit it.

        Raises:
            BundleError, PromptError: as ``load_template`` does; PromptError for a template that does not fit or an
                unknown kind of argument card too.
        """
        template = self.load_template(own)
        if model not in (None, self.model):
            check_fit(template, tokenizer)
        return PromptRenderer(template, tokenizer, self.cards, self.argument_card)

    def check_weights(self, model: str, weights: str) -> None:
        """Refuse a base model whose weights are not, to the last bit, those that the bundle was made with.

        Args:
            model: the model's name, for the message.
            weights: the hash of all of its weights; "" where it is not known, then nothing is checked.

        Raises:
            BundleError: when they are others.
        """
        if self.weights and weights and self.weights != weights:
            raise BundleError(
                "the base model has other weights than when the bundle was made",
                where=model,
                got=weights[:12],
                expected=f"{self.weights[:12]} ({self.model})",
                fix="download or convert the model again; name the very one that the bundle was made with",
            )

    @property
    def hierarchical(self) -> bool:
        """Whether the bundle learned to choose along the hierarchy of tools: its router or its selector did."""
        selector = self.stages.get(("selector", ""))
        return ("router", "") in self.stages or bool(selector and selector.training.get("hierarchical"))

    def find_regrouped(self, tools: Iterable[Tool]) -> Iterator[tuple[Tool, Tool]]:
        """Yield each tool whose group is not the one it was trained in, as it is now and as it was then."""
        known = {(tool.server, tool.name): tool for tool in self.tools}
        pairs = ((tool, known.get((tool.server, tool.name), tool)) for tool in tools)
        return ((now, then) for now, then in pairs if now.group != then.group)

    def find_adapter(self, stage: str, scope: str = "") -> tuple[AdapterEntry, Adapter] | None:
        """Load the adapter of a scope, else that of the next wider scope, else none.

        Raises:
            AdapterError, BundleError: as ``load_adapter`` does.
        """
        server, _, tool = scope.partition("/")
        for wider in scope_chain(server, tool):
            entry = self.stages.get((stage, wider))
            if entry is not None:
                return entry, self.load_adapter(stage, wider)
        return None

    def load_adapters(self) -> Iterator[tuple[AdapterEntry, Adapter]]:
        """Load all adapters, one by one.

        Raises:
            AdapterError, BundleError: as ``load_adapter`` does.
        """
        for (stage, scope), entry in self.stages.items():
            yield entry, self.load_adapter(stage, scope)

    def load_adapter(self, stage: str, scope: str = "") -> Adapter:
        """Load the adapter of a stage and a scope, which the bundle must have.

        Raises:
            KeyError: when the bundle has none for these.
            AdapterError: when it cannot be read.
            BundleError: when it is not the adapter that the manifest describes.
        """
        entry = self.stages[stage, scope]
        if entry.path != adapter_path(stage, scope):
            raise BundleError(
                "a bundle names an unexpected path",
                where=self.folder / MANIFEST,
                got=entry.path,
                fix="restore the manifest, or train this stage again",
            )
        adapter = Adapter.load(find_part(self.folder, entry.path, entry.content_hash))
        if adapter.content_hash != entry.content_hash:
            raise BundleError(
                "an adapter is not the one that the bundle's manifest describes",
                where=self.folder / entry.path,
                got=adapter.content_hash[:12],
                expected=entry.content_hash[:12],
                fix="restore the bundle, or train this stage again",
            )
        return adapter

    def add_adapter(
        self,
        stage: str,
        scope: str,
        adapter: Adapter,
        *,
        training: Mapping[str, Any],
        tools: Iterable[Tool],
        grounding: Grounding | None = None,
        ungrounded: Ungrounded | None = None,
    ) -> Bundle:
        """Write an adapter into the folder, then the manifest, and return the bundle as it then is.

        Stages that another process has added since this bundle was opened stay.
        """
        path = adapter_path(stage, scope)
        require_no_links(self.folder, self.folder / path)
        with lock_folder(self.folder):
            latest = Bundle.open(self.folder) if (self.folder / MANIFEST).exists() else self
            adapter.save(name_new(self.folder / path, adapter.content_hash))
            entry = AdapterEntry(path, adapter.content_hash, grounding or {}, ungrounded or {}, dict(training))
            known = {(tool.server, tool.name): tool for tool in (*latest.tools, *tools)}
            stages = {**latest.stages, (stage, scope): entry}
            bundle = replace(latest, tools=tuple(known.values()), stages=stages)
            bundle.write()
            settle_parts(self.folder, bundle.parts)
        return bundle

    def set_evidence(self, evidence: Evidence) -> Bundle:
        """Write the weight of lexical evidence into the manifest, and return the bundle as it then is."""
        with lock_folder(self.folder):
            bundle = replace(Bundle.open(self.folder), evidence=evidence)
            bundle.write()
        return bundle

    def set_prefixes(self, checksums: Iterable[str]) -> Bundle:
        """Write into the manifest which prefix files are the bundle's, and return the bundle as it then is."""
        wanted = tuple(sorted(checksums))
        if (opened := Bundle.open(self.folder)).prefixes == wanted:
            return opened
        with lock_folder(self.folder):
            bundle = replace(Bundle.open(self.folder), prefixes=wanted)
            bundle.write()
        return bundle

    def load_words(self) -> WordClassifier | None:
        """Load the word classifier, where there is one.

        Raises:
            BundleError: when it is not the one that the manifest describes.
        """
        if self.words is None:
            return None
        content_hash = self.words.content_hash
        return load_words(find_part(self.folder, WORDS, content_hash), content_hash)

    def set_words(self, classifier: WordClassifier, evidence: Evidence) -> Bundle:
        """Write a word classifier, and how it joins the model, and return the bundle as it then is."""
        with lock_folder(self.folder):
            content, content_hash = encode_words(classifier)
            bundle = replace(Bundle.open(self.folder), words=WordsEntry(content_hash, evidence))
            with atomic_file(name_new(self.folder / WORDS, content_hash)) as temporary:
                temporary.write_bytes(content)
            bundle.write()
            settle_parts(self.folder, bundle.parts)
        return bundle

    def write(self) -> None:
        """Write the manifest, and copies of the templates that are the user's own."""
        self._copy_template(TemplateRef(self.template, self.template_hash), self.folder / OWN_TEMPLATE)
        for entry in self.stages.values():
            if entry.template is not None:
                self._copy_template(entry.template, self.folder / _template_file(entry.template))
        write_manifest(self.folder / MANIFEST, self.to_dict())

    def _copy_template(self, reference: TemplateRef, file: Path) -> None:
        """Copy a template of the user's into the bundle, unless it is there already."""
        if reference.name not in BUILT_IN_TEMPLATES and not (
            file.exists() and Template(str(file)).hash == reference.hash
        ):
            write_text(file, Template(reference.name).source)


def scope_chain(server: str, tool: str = "") -> tuple[str, ...]:
    """The scopes that may serve a tool, the narrowest first: the tool's own, its server's, that of all tools.

    Without a tool, they are those that may serve a whole server.
    """
    return *((f"{server}/{tool}",) if tool else ()), server, ""


def adapter_path(stage: str, scope: str) -> str:
    """The folder of an adapter in its bundle.

    A scope is data: its folder is a slug and a hash, so that no scope leads out of the bundle.

    Raises:
        BundleError: when the stage is not a plain word.
    """
    if not re.fullmatch("[a-z]+", stage):
        raise BundleError("a stage's name is not a plain word", got=repr(stage), expected="selector, arguments, …")
    if stage != "arguments":
        return stage
    slug = re.sub(r"[^a-z0-9]+", "-", scope.lower()).strip("-")[:40] or "shared"
    return f"arguments/{slug}-{hashlib.sha256(scope.encode()).hexdigest()[:8]}"


def schema_hash(tool: Tool) -> str:
    """The SHA-256 of a tool's schema, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(dict(tool.parameters), sort_keys=True).encode()).hexdigest()


def _template_file(own: TemplateRef | None) -> str:
    """The file of the bundle's template, or of a stage's own. The hash is checked, because it becomes a name."""
    if own is None:
        return OWN_TEMPLATE
    if not re.fullmatch("[0-9a-f]{64}", own.hash):
        raise BundleError("a template's hash is not a SHA-256", got=repr(own.hash), expected="64 hexadecimal digits")
    return f"template-{own.hash[:12]}.jinja"
