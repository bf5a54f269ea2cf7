"""A stand-in for AgentFlux's adapters, trained with PEFT on their text, and run here from an assembled bundle."""

from __future__ import annotations

import pytest

pytest.importorskip("peft", reason="needs the extra peft: make test-peft")

import json
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModelForCausalLM

from dualtune_mlx import DualTune
from dualtune_mlx.bundle.assemble import AdapterSource, assemble
from dualtune_mlx.bundle.verify import find_problems
from dualtune_mlx.tools import RESPOND
from tests import agentflux
from tests.conversion.peft.peft_models import torch_model

pytestmark = pytest.mark.peft

SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# Requests, the tool (None: an answer in words) and its arguments.
ASKED = [
    ("Read a.", "read_file", {"path": "a"}),
    ("Read the path.", "read_file", {"path": "the path"}),
    ("Delete a.", "delete_file", {"path": "a"}),
    ("Delete that file.", "delete_file", {"path": "file."}),
    ("The time?", "now", {}),
    ("Thanks!", None, {}),
]
STEPS = 60
IGNORED = -100


def encoded(text: str) -> list[int]:
    return agentflux.tokenizer().encode(text, add_special_tokens=False)


def prompted(request: str, stage: str) -> str:
    write = agentflux.selector_text if stage == "selector" else agentflux.arguments_text
    return write(agentflux.TOOLS, request)


def lines(stage: str) -> list[tuple[str, str]]:
    """What an adapter is trained on: the text before, and the text that it learns."""
    if stage == "selector":
        return [(prompted(r, stage), agentflux.chosen_text(name or "summarize")) for r, name, _ in ASKED]
    return [(prompted(r, stage), agentflux.written_text(name, given)) for r, name, given in ASKED if name == stage]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "qwen2"
    entries = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": len(agentflux.tokenizer()),
        "tie_word_embeddings": True,
        "max_position_embeddings": 2048,
    }
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen2", **entries), dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" not in name:
                parameter.copy_(torch.randn_like(parameter) * parameter.shape[-1] ** -0.5)
    network.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rope_theta": 10000.0}))  # mlx-lm has another default
    agentflux.tokenizer().save_pretrained(folder)
    return folder


def trained(model: Path, stage: str, to: Path) -> Path:
    """An adapter as their script makes one: rsLoRA on all seven projections, the loss on what the assistant wrote."""
    torch.manual_seed(1)
    config = LoraConfig(r=8, lora_alpha=16, use_rslora=True, target_modules=SEVEN, task_type="CAUSAL_LM")
    network = get_peft_model(torch_model(model), config).train()
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-2)
    rows = [(encoded(before + learned), len(encoded(before))) for before, learned in lines(stage)]
    ids = pad_sequence([torch.tensor(tokens) for tokens, _ in rows], batch_first=True)
    labels = torch.full_like(ids, IGNORED)
    for label, (tokens, start) in zip(labels, rows, strict=True):
        label[start : len(tokens)] = torch.tensor(tokens[start:])
    for _ in range(STEPS):
        network(input_ids=ids, labels=labels).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    network.save_pretrained(to)
    return to


@pytest.fixture(scope="module")
def adapters(model, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return {stage: trained(model, stage, folder / stage) for stage in ("selector", "read_file", "delete_file")}


@torch.no_grad()
def plain(model: Path, adapter: Path, text: str, until: str) -> str:
    """What PEFT writes behind a text, the most probable token each time."""
    network = PeftModel.from_pretrained(torch_model(model), str(adapter)).eval()
    tokens, written = encoded(text), ""
    while until not in written:
        tokens.append(int(network(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
        written = agentflux.tokenizer().decode(tokens[len(encoded(text)) :])
        assert len(written) < 200, f"PEFT's own adapter does not come to an end: {written}"
    return written


def test_the_same_choices_and_arguments_as_plain_generation_with_peft(model, adapters, tmp_path):
    sources = [AdapterSource("selector", "", str(adapters["selector"]), "agentflux-selector")]
    sources += [
        AdapterSource("arguments", f"files/{name}", str(adapters[name]), "agentflux-arguments")
        for name in ("read_file", "delete_file")
    ]
    assemble(
        tmp_path / "bundle",
        model=str(model),
        tools=agentflux.TOOLS,
        sources=sources,
        template="chatml",
        cards="signature",
    )
    assert find_problems(tmp_path / "bundle") == []
    with DualTune.load(tmp_path / "bundle") as dualtune:
        calls = [dualtune.call(request, agentflux.TOOLS) for request, _, _ in ASKED]
    for (request, name, arguments), call in zip(ASKED, calls, strict=True):
        choice = plain(model, adapters["selector"], prompted(request, "selector"), "</tool_call>")
        assert choice.startswith(agentflux.chosen_text(name or "summarize")[:-12])
        assert call.name == (name or RESPOND.name)
        if arguments:
            text = prompted(request, name)
            assert plain(model, adapters[name], text, "<|eot_id|>") == agentflux.written_text(name, arguments)
        assert call.arguments == arguments
