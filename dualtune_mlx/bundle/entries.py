"""What a bundle's manifest says of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dualtune_mlx.decoding import Evidence, Grounding, Ungrounded
from dualtune_mlx.prompts import Template


@dataclass(frozen=True)
class TemplateRef:
    """Names a template. The bundle holds a copy of a template that is the user's own."""

    name: str
    """One of ``BUILT_IN_TEMPLATES``, or the path that the user gave."""
    hash: str
    """The template's hash when the bundle was written."""

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> TemplateRef:
        """Read what a manifest says of a template.

        Raises:
            KeyError, TypeError: when a field is missing, or has another form.
        """
        return cls(read_text_field(value, "template"), read_text_field(value, "hash"))

    @classmethod
    def of(cls, template: Template) -> TemplateRef:
        """The reference to a template as it is now."""
        return cls(template.name, template.hash)


@dataclass(frozen=True)
class AdapterEntry:
    """What the manifest says of one adapter."""

    path: str
    """Its folder in the bundle."""
    content_hash: str
    """The hash of its content."""
    grounding: Grounding = field(default_factory=dict)
    """The arguments that its data always copied from the conversation."""
    ungrounded: Ungrounded = field(default_factory=dict)
    """Its other string arguments, each with the reason why it is not held to the conversation."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """How it was trained."""
    template: TemplateRef | None = None
    """The template that it was trained with, where that is not the bundle's."""

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> AdapterEntry:
        """Read an entry of a manifest.

        Raises:
            KeyError, TypeError, AttributeError: when a field is missing, or has another form.
        """
        return cls(
            path=read_text_field(value, "path"),
            content_hash=read_text_field(value, "content"),
            grounding=_parse_grounding(value.get("grounding", {})),
            ungrounded={tool: dict(reasons) for tool, reasons in value.get("ungrounded", {}).items()},
            training=dict(value.get("training", {})),
            template=TemplateRef.from_dict(value["prompt"]) if "prompt" in value else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """The entry as it stands in the manifest."""
        value = {
            "path": self.path,
            "content": self.content_hash,
            "grounding": self.grounding,
            **({"ungrounded": self.ungrounded} if self.ungrounded else {}),
            "training": dict(self.training),
        }
        if self.template is not None:
            value["prompt"] = {"template": self.template.name, "hash": self.template.hash}
        return value


@dataclass(frozen=True)
class WordsEntry:
    """What the manifest says of the word classifier."""

    content_hash: str
    """The hash of its file."""
    evidence: Evidence
    """How it joins the model's probabilities; ``weight`` and ``respond`` come on top of what it says itself."""

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> WordsEntry:
        """Read an entry of a manifest.

        Raises:
            KeyError, TypeError: when a field is missing, or has another form.
        """
        return cls(read_text_field(value, "content"), Evidence.from_dict(value["evidence"]))

    def to_dict(self) -> dict[str, Any]:
        """The entry as it stands in the manifest."""
        return {"content": self.content_hash, "evidence": self.evidence.to_dict()}


def read_text_field(value: Mapping[str, Any], name: str) -> str:
    """A field that has to be text.

    Raises:
        KeyError, TypeError: when it is missing, or is none.
    """
    text = value[name]
    if not isinstance(text, str):
        raise TypeError(f"{name!r} is no text: {text!r}")
    return text


def _parse_grounding(value: Any) -> Grounding:
    """The grounding in a manifest: ``{tool: {parameter: [constants]}}``."""
    return {
        tool: {path: _parse_texts(items) for path, items in parameters.items()} for tool, parameters in value.items()
    }


def _parse_texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"not a list of texts: {value!r}")
    return tuple(value)
