"""DualTune: choose a tool, then write its arguments, over one base model.

with DualTune.load("bundle/") as dt:
    call = dt.call("What time is it in Tokyo?", tools)
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from dualtune_mlx.bundle import Bundle
from dualtune_mlx.decoding import ArgumentGrammar, GrammarTokenizer, grounded
from dualtune_mlx.errors import BundleError, ModelError, UsageError
from dualtune_mlx.models import BaseModel, load_model
from dualtune_mlx.prompts import Prompt, Template
from dualtune_mlx.prompts.cards import labels
from dualtune_mlx.schemas import check_arguments
from dualtune_mlx.stage import Ran, Stage, StageRunner
from dualtune_mlx.tools import RESPOND, Message, Tool, ToolCall, as_messages, as_tools
from dualtune_mlx.usage import Usage

MAX_TOKENS = 512
Messages = str | Iterable[Message | Mapping[str, Any]]
Tools = Iterable[Tool | Mapping[str, Any]]


class DualTune:
    """Calls tools with a base model, a template and the adapters of a bundle (or none)."""

    def __init__(self, base: BaseModel, prompt: Prompt, bundle: Bundle | None = None) -> None:
        self.base = base
        self.prompt = prompt
        self.bundle = bundle
        self._runner = StageRunner(base)
        self._grammar: GrammarTokenizer | None = None
        self._stages: dict[tuple[str, str], Stage] = {}

    @classmethod
    def load(
        cls, bundle: str | Path, model: str | BaseModel | None = None, memory_budget: int | None = None
    ) -> DualTune:
        """Load a bundle and its base model.

        Args:
            bundle: the bundle's folder.
            model: the base model, where it lies elsewhere than the bundle says.
            memory_budget: bytes that weights and adapters may take together.

        Raises:
            BundleError: when the bundle is damaged, or the model is not the one it was trained on.
            ModelError: when the model cannot be loaded, or exceeds the budget.
        """
        opened = Bundle.open(bundle)
        base = model if isinstance(model, BaseModel) else load_model(model or opened.model)
        if base.fingerprint != opened.fingerprint:
            raise BundleError(
                "the bundle was trained on another base model",
                where=opened.folder,
                got=f"{base.name} ({base.fingerprint[:12]})",
                expected=f"{opened.model} ({opened.fingerprint[:12]})",
                fix="pass the model that the bundle names",
            )
        dualtune = cls(base, Prompt(opened.load_template(), base.tokenizer, opened.cards), opened)
        for stage, scope in opened.stages:
            dualtune._stage(stage, _tool_of_scope(scope))
        dualtune._check_memory(memory_budget)
        return dualtune

    @classmethod
    def without_adapters(cls, model: str | BaseModel, template: str, cards: str = "signature") -> DualTune:
        """The base model alone, with the same prompts and the same constrained decoding."""
        base = model if isinstance(model, BaseModel) else load_model(model)
        return cls(base, Prompt(Template(template), base.tokenizer, cards))

    def __enter__(self) -> DualTune:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the adapters out of the base model and give the caches' memory back."""
        self.base.bank.clear()
        self._runner.prefixes.clear()
        self._stages.clear()
        gc.collect()
        mx.clear_cache()

    def call(self, messages: Messages, tools: Tools, *, top_k: int = 1, max_tokens: int = MAX_TOKENS) -> ToolCall:
        """Choose a tool (or ``respond``) and write its arguments.

        Args:
            messages: the conversation, OpenAI-style, or one request as text.
            tools: the visible tools, as objects or dictionaries.
            top_k: how many candidates to rank.
            max_tokens: the longest arguments.

        Raises:
            DecodingError: when the arguments are not complete within ``max_tokens``.
            PromptError, ToolError: when the conversation or a tool cannot be used.
        """
        messages, tools = as_messages(messages), as_tools(tools)
        chosen = self._choose(messages, tools, top_k)
        candidates = self._candidates(chosen, tools)
        usage = Usage({"selector": chosen.usage})
        tool, confidence = candidates[0]
        call = ToolCall(tool.name, {}, tool.server, confidence, tuple(candidates), usage)
        if tool is RESPOND or not tool.takes_arguments:
            return call
        written = self._write(messages, tools, tool, max_tokens)
        usage.stages["arguments"] = written.usage
        return replace(call, arguments=written.value)

    def select(self, messages: Messages, tools: Tools, *, top_k: int = 5) -> list[tuple[Tool, float]]:
        """The ``top_k`` most probable tools, ``respond`` among them, with exact probabilities."""
        messages, tools = as_messages(messages), as_tools(tools)
        return self._candidates(self._choose(messages, tools, top_k), tools)

    def arguments(
        self, messages: Messages, tool: Tool | Mapping[str, Any], tools: Tools = (), *, max_tokens: int = MAX_TOKENS
    ) -> dict[str, Any]:
        """The arguments of one tool; ``tools`` are the visible ones (the tool alone, when left out).

        Raises:
            DecodingError: when they are not complete within ``max_tokens``.
        """
        (tool,) = as_tools([tool])
        if not tool.takes_arguments:
            return {}
        return self._write(as_messages(messages), as_tools(tools) or (tool,), tool, max_tokens).value

    def _choose(self, messages: tuple[Message, ...], tools: tuple[Tool, ...], top_k: int) -> Ran[Any]:
        if top_k < 1:
            raise UsageError(
                "the number of candidates is out of range", where="top_k", got=top_k, expected="at least 1"
            )
        stream = self.prompt.stream(messages, tools, ToolCall(RESPOND.name))
        return self._runner.choose(self._stage("selector"), stream, self.prompt.names(tools), top_k)

    def _candidates(self, chosen: Ran[Any], tools: tuple[Tool, ...]) -> list[tuple[Tool, float]]:
        choices = _choices(tools)
        return [(choices[ranked.name], ranked.probability) for ranked in chosen.value]

    def _write(
        self, messages: tuple[Message, ...], tools: tuple[Tool, ...], tool: Tool, max_tokens: int
    ) -> Ran[dict[str, Any]]:
        if self._grammar is None:
            self._grammar = GrammarTokenizer(self.base.tokenizer)
        stage = self._stage("arguments", tool)
        schema = grounded(tool, messages, stage.grounding)
        grammar = ArgumentGrammar(replace(tool, parameters=schema), self._grammar)
        stream = self.prompt.stream(messages, tools, ToolCall(tool.name, {}, tool.server))
        written = self._runner.write(stage, stream, grammar, max_tokens)
        check_arguments(written.value, tool)
        return written

    def _stage(self, name: str, tool: Tool | None = None) -> Stage:
        """The stage with the adapter that serves it, loaded at most once."""
        key = (name, f"{tool.server}/{tool.name}" if tool else "")
        if key not in self._stages:
            found = self.bundle.adapter_for(name, tool) if self.bundle else None
            stage = Stage(name)
            if found:
                slot, adapter = found
                stage = Stage(name, self.base.bank.load(adapter), slot.path, slot.grounding)
            self._stages[key] = stage
        return self._stages[key]

    def _check_memory(self, budget: int | None) -> None:
        weights: dict[str, mx.array] = tree_flatten(self.base.model.parameters(), destination={})  # type: ignore[assignment]
        needed = sum(array.nbytes for array in weights.values())
        needed += sum(adapter.nbytes for adapter in self.base.bank.resident)
        if budget is not None and needed > budget:
            raise ModelError(
                "the model and its adapters exceed the memory budget",
                where=self.base.name,
                got=f"{needed / 2**20:.0f} MiB",
                expected=f"at most {budget / 2**20:.0f} MiB",
                fix="raise the budget, or use a smaller or quantised model",
            )


def _choices(tools: tuple[Tool, ...]) -> dict[str, Tool]:
    return {**labels(tools), RESPOND.name: RESPOND}


def _tool_of_scope(scope: str) -> Tool | None:
    server, _, name = scope.partition("/")
    return Tool(name or "*", server=server) if scope else None
