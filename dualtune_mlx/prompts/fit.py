"""Whether a template is one for a model: its control tokens are tokens of the model's tokenizer."""

from __future__ import annotations

from typing import Any

from dualtune_mlx.errors import PromptError
from dualtune_mlx.prompts.encoder import Encoder
from dualtune_mlx.prompts.template import BUILT_IN_TEMPLATES, TEMPLATES, Template

AUTO = "auto"
"""The name that stands for the built-in template of the model's own form."""
WITH_CALLS, CALL = "hermes", "<tool_call>"
"""The template of ``chatml``'s form for models that have learned to call tools, and what their own template writes."""


def template_for(name: str, tokenizer: Any, vocabulary: int | None = None) -> Template:
    """The template of a name, for a model.

    Args:
        name: a built-in template's, a file, or ``auto``, which chooses by the model's chat template and tokens.
        tokenizer: the model's.
        vocabulary: how many tokens the model has an embedding of, where that is known.

    Raises:
        PromptError: when it cannot be read or does not fit the tokenizer, or none fits.
    """
    if name != AUTO:
        template = Template(name)
        check_fit(template, tokenizer, vocabulary)
        return template
    encoder = Encoder(tokenizer)
    fitting = [one for one in map(Template, TEMPLATES) if not _missing(one, encoder, vocabulary)]
    if not fitting:
        raise PromptError(
            "no built-in template fits the model",
            where=AUTO,
            got="a tokenizer without the control tokens of any",
            expected=", ".join(TEMPLATES),
            fix="write a template with the model's own control tokens, and give its file",
        )
    chat = str(getattr(tokenizer, "chat_template", None) or "")
    own = [one for one in fitting if any(token in chat for token in one.control_tokens)] or fitting
    return next((one for one in own if one.name == WITH_CALLS and CALL in chat), own[0])


def check_fit(template: Template, tokenizer: Any, vocabulary: int | None = None) -> None:
    """Refuse a template whose control tokens are ordinary text for a model, or have no embedding.

    The arguments are those of ``template_for``.

    Raises:
        PromptError: naming them.
    """
    missing = _missing(template, Encoder(tokenizer), vocabulary)
    if not missing:
        return
    own_file = template.name not in BUILT_IN_TEMPLATES
    text = "" if not own_file else f'; what is to be ordinary text is written {{{{ "{missing[0]}" }}}}'
    raise PromptError(
        "a template has control tokens that the model does not have",
        where=template.name,
        got=", ".join(missing),
        expected="control tokens that are one token each of the model's tokenizer, with an embedding",
        fix=f"give --template {AUTO}, or a file with the model's own control tokens{text}",
    )


def _missing(template: Template, encoder: Encoder, vocabulary: int | None) -> list[str]:
    known = {(i,) for i in encoder.control_ids if vocabulary is None or i < vocabulary}
    return [token for token in template.control_tokens if tuple(encoder.encode_text(token)) not in known]
