"""The stages of an engine: which adapter, template and grounding serve a stage and a tool."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.bundle import Bundle, StageKey, scope_chain
from dualtune_mlx.decoding import Grounding
from dualtune_mlx.engine.stage import STAGES, Stage
from dualtune_mlx.errors import UsageError
from dualtune_mlx.models import BaseModel
from dualtune_mlx.prompts import PromptRenderer
from dualtune_mlx.tools import Tool


class StageRegistry:
    """Finds the stage that serves a tool, and keeps the stages' adapters resident until it is closed.

    Args:
        base: the model that the adapters are for.
        stages: pairs of a scope and the stage that serves it.
        grounding: the grounding of a stage that the base model serves alone.

    Raises:
        AdapterError: when an adapter does not fit the model; then none of them stays resident.
    """

    def __init__(
        self, base: BaseModel, stages: Iterable[tuple[str, Stage]] = (), grounding: Grounding | None = None
    ) -> None:
        self._base = base
        self._grounding = grounding or {}
        self._stages: dict[StageKey, Stage] = {}
        self._acquired: list[Adapter] = []
        try:
            for scope, stage in stages:
                self._add(scope, stage)
        except BaseException:  # an interrupt too: what was added to a shared base has to leave it
            self.close()
            raise

    @classmethod
    def open(
        cls, base: BaseModel, adapters: Mapping[StageKey, Adapter], grounding: Grounding | None, bundle: Bundle | None
    ) -> StageRegistry:
        """The stages of a bundle, or else of some adapters, which become resident between two calls.

        Raises:
            UsageError, AdapterError, BundleError: as ``from_adapters`` and ``from_bundle``.
        """
        if bundle is None and not adapters:
            return cls(base, grounding=grounding)
        with base.lock.turn():
            return cls.from_bundle(base, bundle) if bundle else cls.from_adapters(base, adapters, grounding)

    @classmethod
    def from_adapters(
        cls, base: BaseModel, adapters: Mapping[StageKey, Adapter], grounding: Grounding | None = None
    ) -> StageRegistry:
        """The stages of some adapters, and one grounding for all tools.

        Raises:
            UsageError: when a key is not a stage with a scope that the stage may have.
            AdapterError: when an adapter does not fit the model.
        """
        for key in adapters:
            _check_key(key)
        stages = (
            (scope, Stage(name, adapter, "/".join([name, *filter(None, scope.split("/"))]), grounding or {}))
            for (name, scope), adapter in adapters.items()
        )
        return cls(base, stages, grounding)

    @classmethod
    def from_bundle(cls, base: BaseModel, bundle: Bundle) -> StageRegistry:
        """The stages of a bundle's adapters, each with its own grounding and, where it has one, its own template.

        Raises:
            AdapterError, BundleError: when an adapter or a template cannot be read, or is not the one that was written.
        """
        return cls(base, _read_stages(bundle, base))

    @property
    def stages(self) -> Mapping[StageKey, Stage]:
        """The stages that have an adapter of their own."""
        return dict(self._stages)

    def find(self, name: str, tool: Tool | None = None) -> Stage:
        """The stage for a tool: the tool's own, else its server's, else the one of all tools, else the base model."""
        scopes = scope_chain(tool.server, tool.name) if tool else ("",)
        found = (self._stages[name, scope] for scope in scopes if (name, scope) in self._stages)
        return next(found, Stage(name, grounding=self._grounding))

    def close(self) -> None:
        """Release the adapters; the registry is empty afterwards."""
        while self._acquired:
            self._base.release(self._acquired.pop())
        self._stages.clear()

    def _add(self, scope: str, stage: Stage) -> None:
        if stage.adapter is not None:
            adapter = self._base.acquire(stage.adapter)
            self._acquired.append(adapter)
            stage = replace(stage, adapter=adapter)
        self._stages[stage.name, scope] = stage


def _read_stages(bundle: Bundle, base: BaseModel) -> Iterator[tuple[str, Stage]]:
    renderers: dict[str, PromptRenderer] = {}
    for (name, scope), entry in bundle.stages.items():
        adapter, own = bundle.load_adapter(name, scope), entry.template
        if own and own.hash not in renderers:
            renderers[own.hash] = bundle.open_renderer(base.tokenizer, own, base.name)
        renderer = renderers[own.hash] if own else None
        yield scope, Stage(name, adapter, entry.path, entry.grounding, renderer)


def _check_key(key: StageKey) -> None:
    """Refuse an adapter that no call would use.

    Raises:
        UsageError: when the key is not a stage with a scope that the stage may have.
    """
    name, scope = key
    if name not in STAGES or (scope and name != "arguments"):
        raise UsageError(
            "an adapter is for a stage that there is not",
            got=repr(key),
            expected=f'(stage, "") with a stage of {", ".join(STAGES)}; ("arguments", "server" or "server/tool")',
        )
