"""A template is one for a model where its control tokens are tokens of the model's tokenizer."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from dualtune_mlx.errors import PromptError
from dualtune_mlx.prompts import BUILT_IN_TEMPLATES, Template, check_fit, template_for
from tests import tiny

CHATML = ("<|im_start|>", "<|im_end|>")
LLAMA3 = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
GEMMA = ("<bos>", "<start_of_turn>", "<end_of_turn>")
CONTROL_TOKENS = {
    "chatml": CHATML,
    "hermes": CHATML,
    "llama3": LLAMA3,
    "gemma": GEMMA,
    "agentflux-selector": CHATML,
    "agentflux-arguments": (),  # ordinary text for the Qwen models that it is for
}


def tokenizer(*control: str, chat_template: str | None = None, plain: tuple[str, ...] = ()) -> Any:
    """Bytes, and these control tokens; ``plain`` tokens are in the vocabulary as ordinary ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    bpe.add_tokens([AddedToken(token, normalized=False) for token in plain])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, chat_template=chat_template)


def test_the_control_tokens_of_the_built_in_templates():
    found = {name: Template(name).control_tokens for name in BUILT_IN_TEMPLATES}
    assert {name: set(tokens) for name, tokens in found.items()} == {k: set(v) for k, v in CONTROL_TOKENS.items()}


@pytest.mark.parametrize("name", BUILT_IN_TEMPLATES)
def test_a_template_fits_where_each_control_token_is_one_token(name):
    check_fit(Template(name), tokenizer(*CONTROL_TOKENS[name]))
    for token in CONTROL_TOKENS[name]:
        others = [one for one in CONTROL_TOKENS[name] if one != token]
        with pytest.raises(PromptError, match=f"where: {name}\n") as error:
            template_for(name, tokenizer(*others))
        assert error.value.got == token
        assert "--template auto" in error.value.fix


def own_template(folder: Path, token: str) -> str:
    path = folder / "own.jinja"
    path.write_text(Path(tiny.TEMPLATE).read_text().replace("<|im_end|>", token))
    return str(path)


@pytest.mark.parametrize(
    ("token", "fits"),
    [
        ("<|im_end|>", True),
        ("<|end|>", False),
        ("<\uff5cend_of_sentence\uff5c>", False),
        ("<end_of_turn>", False),
        ("<|im_start|>", True),
        ("</turn>", True),  # no control token by its form
        ('{{ "<|end|>" }}', True),  # a value: ordinary text
        ("{# <|end|> #}", True),
    ],
)
def test_a_file_s_control_tokens_are_known_by_their_form(tmp_path, token, fits):
    name = own_template(tmp_path, token)
    if fits:
        assert template_for(name, tokenizer(*CHATML)).source == Path(name).read_text()
        return
    with pytest.raises(PromptError, match="control tokens that the model does not have") as error:
        template_for(name, tokenizer(*CHATML))
    assert error.value.got == token
    assert f'{{{{ "{token}" }}}}' in error.value.fix
    template_for(name, tokenizer(*CHATML, token))


def test_an_added_token_in_brackets_is_one_that_data_cannot_write(tmp_path):
    template_for(own_template(tmp_path, "<|end|>"), tokenizer(*CHATML, plain=("<|end|>",)))


@pytest.mark.parametrize(
    ("control", "chat_template", "name"),
    [
        (CHATML, None, "chatml"),
        (CHATML, "<|im_start|>…<tool_call>…", "hermes"),
        (CHATML, "<|im_start|>…", "chatml"),
        (LLAMA3, "{{ bos_token }}<|start_header_id|>…", "llama3"),
        (GEMMA, "{{ bos_token }}<start_of_turn>…", "gemma"),
        (GEMMA, None, "gemma"),
        ((*LLAMA3, *CHATML), "<|start_header_id|>…", "llama3"),
        ((*LLAMA3, *CHATML), None, "chatml"),
        ((*CHATML, "[INST]"), "[INST]…", "chatml"),
    ],
)
def test_auto_is_the_model_s_own_form(control, chat_template, name):
    assert template_for("auto", tokenizer(*control, chat_template=chat_template)).name == name


def test_a_control_token_without_an_embedding_is_none():
    chatml = tokenizer(*CHATML)
    template_for("chatml", chatml, len(chatml))
    with pytest.raises(PromptError, match=r"got: <\|im_end\|>"):
        template_for("chatml", chatml, len(chatml) - 1)
    with pytest.raises(PromptError, match="no built-in template fits"):
        template_for("auto", chatml, len(chatml) - 1)


def test_auto_is_refused_where_none_fits():
    with pytest.raises(PromptError, match=r"no built-in template fits(?s:.*)give its file"):
        template_for("auto", tokenizer("[INST]", "[/INST]", chat_template="[INST]"))


def test_mlx_lm_s_wrapper_is_a_tokenizer_too():
    wrapped = copy.deepcopy(tiny.tokenizer())
    wrapped._tokenizer.chat_template = "<start_of_turn>"
    assert template_for("auto", wrapped).name == "gemma"
