"""Several threads and several engines over one base model: turns in order, and every result as if alone."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest

from dualtune_mlx import DualTune, Tool
from dualtune_mlx.concurrency import Cancelled, FairLock
from dualtune_mlx.errors import UsageError
from tests import tiny
from tests.adapters.adapters import adapter_for
from tests.engine.engines import PATH
from tests.models.test_models import LLAMA3

TOOLS = [Tool("read_file", "Read.", PATH), Tool("read_dir", "List.", PATH), Tool("now", "Time.")]
REQUESTS = [f"show {name}.txt" for name in "abcdefgh"]
THREADS, CALLS = 4, 6


def engines(policy: str = "off", **changes):
    """Two engines with adapters of their own over one base model."""
    base = tiny.model(**changes)
    base.fusion.policy = policy
    made = []
    for number, activation in enumerate(("turn", "invocation")):
        stages = enumerate(("selector", "arguments"), 10 * number + 1)
        adapters = {(name, ""): adapter_for(base.bank, seed, activation) for seed, name in stages}
        made.append(DualTune(base, tiny.renderer(base), adapters))
    return made


def work(dualtune, kind, request):
    """What one of the ways to use an engine gives."""
    if kind == "call":
        call = dualtune.call(request, TOOLS, max_tokens=64)
        return call.name, call.arguments, call.confidence
    if kind == "drawn":
        return dualtune.arguments(request, TOOLS[0], TOOLS, temperature=1.0, seed=len(request), max_tokens=64)
    return [(tool.name, probability) for tool, probability in dualtune.select(request, TOOLS)]


def random_work(seed):
    drawn = random.Random(seed)
    return [
        (drawn.randrange(2), drawn.choice(["call", "select", "drawn"]), drawn.choice(REQUESTS)) for _ in range(CALLS)
    ]


@pytest.mark.parametrize(
    ("policy", "changes"),
    [("off", {}), ("always", {}), ("off", {"rope_scaling": LLAMA3})],
    ids=["off", "always", "rope"],
)
def test_every_result_is_the_one_of_a_single_thread(policy, changes):
    """The model's rotary frequencies, and what the first thread kept, are used by threads that did not make them."""
    alone, shared = engines(policy, **changes), engines(policy, **changes)
    jobs = [random_work(seed) for seed in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as threads:
        found = list(threads.map(lambda job: [work(shared[n], kind, r) for n, kind, r in job], jobs))
    expected = [[work(alone[n], kind, request) for n, kind, request in job] for job in jobs]
    for ours, theirs in zip(found, expected, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    assert shared[0].base.bank.active is None
    for n, kind, request in chain.from_iterable(jobs):
        assert work(shared[n], kind, request), "the first thread can use what the others left"


def assert_same(one, other):
    """Equal, probabilities up to rounding: how much of a prefix is found decides how a product is cut up."""
    if isinstance(one, list):
        assert dict(one) == pytest.approx(dict(other), rel=1e-5)
    elif isinstance(one, tuple):
        assert one[:2] == other[:2]
        assert one[2] == pytest.approx(other[2], rel=1e-5)
    else:
        assert one == other


def test_turns_are_in_the_order_of_the_tickets():
    lock, order = FairLock(), []
    first = lock.take_ticket()
    first.acquire()
    tickets = [lock.take_ticket() for _ in range(20)]

    def take(number):
        with lock.turn(tickets[number]):
            order.append(number)
            time.sleep(0.001)

    threads = [threading.Thread(target=take, args=(n,)) for n in random.Random(1).sample(range(20), 20)]
    for thread in threads:
        thread.start()
    assert order == []
    first.release()
    for thread in threads:
        thread.join()
    assert order == list(range(20))
    assert not lock.tickets


def test_a_ticket_that_is_cancelled_is_passed_over():
    lock = FairLock()
    first, second, third = lock.take_ticket(), lock.take_ticket(), lock.take_ticket()
    first.acquire()
    second.cancel()
    with pytest.raises(Cancelled):
        second.acquire()
    lock.check_cancelled()
    first.cancel()
    with pytest.raises(Cancelled):
        lock.check_cancelled()
    first.release()
    lock.check_cancelled()
    third.acquire()
    with pytest.raises(UsageError, match="in use by a stream"), lock.turn():
        pass
    third.release()
    assert not lock.tickets


def test_a_turn_ends_with_an_error():
    (dualtune, other) = engines()
    with pytest.raises(UsageError, match="where: top_k"):
        dualtune.select("show a.txt", TOOLS, top_k=0)
    assert other.select("show a.txt", TOOLS)
    assert not other.base.lock.tickets


def test_calls_that_wait_while_the_engine_is_closed_are_refused():
    dualtune, other = engines()
    base, refused = dualtune.base, []
    ticket = base.lock.take_ticket()
    ticket.acquire()

    def call():
        try:
            dualtune.call("show a.txt", TOOLS)
        except UsageError as error:
            refused.append(error.what)

    closing, waiting = threading.Thread(target=dualtune.close), threading.Thread(target=call)
    for number, thread in enumerate((closing, waiting), 2):
        thread.start()
        while len(base.lock.tickets) < number:
            time.sleep(0.001)
    ticket.release()
    closing.join()
    waiting.join()
    assert refused == ["the engine is closed"]
    assert other.select("show a.txt", TOOLS)
