"""The token tree: what is computed in a tree of continuations is what each of them alone would give."""

from __future__ import annotations

import random

import mlx.core as mx
import pytest

from dualtune_mlx.kv import TokenTree, TreePaths
from dualtune_mlx.models import BaseModel
from tests import tiny

PREFIX = [(7 * i) % 250 for i in range(tiny.WINDOW + 9)]
Tokens = tuple[int, ...]


def logits_after(base: BaseModel, tree: TokenTree, known: TreePaths, paths: list[Tokens]) -> mx.array:
    batch = tree.batch([known.add(path) for path in paths])
    states = base.hidden(batch.tokens, batch.caches)
    logits = base.head(states[mx.arange(len(paths)), mx.array(batch.lengths) - 1])
    mx.eval(logits)
    return logits


def alone(base: BaseModel, tokens: list[int]) -> mx.array:
    return base.head(base.hidden(mx.array([tokens]), base.new_caches())[0, -1])


def prefill(base: BaseModel, tokens: list[int]) -> list:
    caches = base.new_caches()
    base.prefill(tokens, caches)
    return caches


def random_tree(generator: random.Random, begin: Tokens) -> list[Tokens]:
    """Paths that continue each other or ``begin``, each after those that it continues."""
    paths = [begin]
    for _ in range(9):
        parent = generator.choice(paths)
        path = (*parent, *(generator.randrange(200) for _ in range(generator.randrange(1, 5))))
        if path not in paths:
            paths.append(path)
    return paths[1:]


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("begin", [(), (5, 6)])
def test_every_branch_is_computed_as_if_it_stood_alone(kind, begin):
    base, generator = tiny.model(kind=kind, layers=3), random.Random(len(begin))
    tree = TokenTree(prefill(base, [*PREFIX, *begin]))
    known = TreePaths(begin, tree.root)
    paths = random_tree(generator, begin)
    for batch in (paths[:4], paths[4:5], paths[5:]):
        found = logits_after(base, tree, known, batch)
        for path, row in zip(batch, found, strict=True):
            assert mx.allclose(row, alone(base, [*PREFIX, *path]), rtol=1e-4, atol=1e-5).item(), (kind, path)


def test_every_token_of_the_tree_is_computed_once():
    base = tiny.model()
    tree = TokenTree(prefill(base, PREFIX))
    known = TreePaths((), tree.root)
    computed = []
    for paths in ([(1, 2), (1, 2, 3, 4), (9,)], [(1, 2, 3, 4, 5, 6), (1, 2, 7), (9, 9)]):
        batch = tree.batch([known.add(path) for path in paths])
        base.hidden(batch.tokens, batch.caches)
        computed += [row[:n] for row, n in zip(batch.tokens.tolist(), batch.lengths, strict=True)]
    assert computed == [[1, 2], [3, 4], [9], [5, 6], [7], [9]]


def test_a_branch_does_not_see_its_neighbours():
    """The comparison above would notice: the same branch gives other logits behind another parent."""
    base = tiny.model()
    one, other = alone(base, [*PREFIX, 1, 2]), alone(base, [*PREFIX, 3, 2])
    assert not mx.allclose(one, other, rtol=1e-4, atol=1e-5).item()
    tree = TokenTree(prefill(base, PREFIX))
    found = logits_after(base, tree, TreePaths((), tree.root), [(1,), (3,), (1, 2), (3, 2)])
    assert mx.allclose(found[2], one, rtol=1e-4, atol=1e-5).item()
    assert mx.allclose(found[3], other, rtol=1e-4, atol=1e-5).item()
