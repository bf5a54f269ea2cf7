"""The whole road against ``mlx_lm.server`` with the embedded model: the road, not the quality."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from dualtune_mlx.chat import LocalChat
from dualtune_mlx.data import write_tools
from dualtune_mlx.models import EMBEDDED, resolve
from dualtune_mlx.synthesis.options import SynthesisOptions
from dualtune_mlx.synthesis.synthesize import synthesize
from dualtune_mlx.synthesis.teacher import Teaching
from dualtune_mlx.synthesis.teacher.asking import Asking
from dualtune_mlx.synthesis.teacher.backends import LocalBackend, open_backend
from dualtune_mlx.synthesis.teacher.budget import Limits
from dualtune_mlx.synthesis.teacher.journal import JOURNAL
from dualtune_mlx.tools import Tool

pytest.importorskip("datasketch", reason="needs the extra synth")
pytest.importorskip("py3langid", reason="needs the extra synth")
pytestmark = [pytest.mark.model, pytest.mark.processes]
TOOLS = (Tool("add_note", "Add a note.", {"type": "object", "properties": {"text": {"type": "string"}}}),)
OPTIONS, LIMITS = SynthesisOptions(requests=3), Limits(requests=3)
ASKING = Asking(in_flight=2, seconds=600, answer_tokens=16)


@pytest.fixture
def server(free_port):
    """The address of ``mlx_lm.server`` with the embedded model."""
    folder = resolve(EMBEDDED)
    # Our package loads what makes MLX fast on Linux.
    program = "import sys, dualtune_mlx.models, mlx_lm.server; mlx_lm.server.main()"
    command = [sys.executable, "-c", program, "--model", str(folder), "--port", str(free_port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{free_port}/v1"
        try:
            while True:
                assert process.poll() is None
                try:
                    urlopen(f"{url}/models", timeout=5).close()
                    break
                except (URLError, TimeoutError):
                    time.sleep(0.2)
            yield url
        finally:
            process.terminate()


@pytest.mark.parametrize("where", ["endpoint", "local"])
def test_a_small_model_walks_the_road(where, tmp_path, request):
    write_tools(tmp_path, TOOLS)
    teacher = (
        open_backend(request.getfixturevalue("server"), "default_model")
        if where == "endpoint"
        else open_backend(EMBEDDED)
    )
    summary = synthesize(TOOLS, tmp_path, OPTIONS, Teaching(teacher, LIMITS, ASKING))
    assert summary.spent.requests == 3 and summary.exceeded == "3 requests" and summary.unanswered == 0
    assert 0 < summary.spent.written <= 3 * 17 and summary.spent.read > 200
    kept, rejected = ((tmp_path / f"{name}.jsonl").read_text().splitlines() for name in ("requests", "rejected"))
    assert len(kept) == summary.kept and len(kept) + len(rejected) >= 1
    assert all(json.loads(line)["detail"] for line in rejected)
    answers = (tmp_path / JOURNAL).read_text()
    again = synthesize(TOOLS, tmp_path, OPTIONS, Teaching(teacher, LIMITS, ASKING))
    assert (tmp_path / JOURNAL).read_text() == answers and again == summary


def test_the_local_teacher_is_the_model_itself():
    backend = open_backend(EMBEDDED)
    assert isinstance(backend, LocalBackend) and isinstance(backend._chat, LocalChat)
    assert (backend.name, backend.most_in_flight) == (EMBEDDED, 1)
