"""The summary of a conversion has a row for all layers' tensors of a name."""

from __future__ import annotations

from dualtune_mlx.conversion.gguf import plan_conversion
from dualtune_mlx.conversion.gguf.summary import summarize_weights
from tests.conversion.gguf import writer


def test_tensors_that_differ_in_their_layer_alone_share_a_row(tmp_path):
    plan = plan_conversion(writer.tiny_gguf(tmp_path / "m.gguf"), "float16")
    rows = summarize_weights(plan)
    assert sum(row["count"] for row in rows) == len(plan.weights)
    by_source = {row["source"]: row for row in rows}
    assert len(by_source) == len(rows)
    assert by_source["token_embd.weight"]["count"] == 1
    query = by_source["blk.*.attn_q.weight"]
    assert query["count"] == plan.config["num_hidden_layers"] > 1
    assert query["target"] == "model.layers.*.self_attn.q_proj.weight"
    assert (query["stored"], query["becomes"]) == ("F32", "float16")
    assert query["shape"] == next(w.shape for w in plan.weights if w.source == "blk.0.attn_q.weight")
