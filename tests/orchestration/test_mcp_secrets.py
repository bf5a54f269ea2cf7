from __future__ import annotations

from dualtune_mlx.orchestration.secrets import last_words, redacted, without_credentials


def test_secrets_become_their_names_the_longest_first() -> None:
    secrets = {"A": "abcd", "B": "abcdef", "Auth": "Bearer t0ken", "SHORT": "on"}
    said = redacted("abcdef abcd Bearer t0ken t0ken, on and on", secrets)
    assert said == "<B> <A> <Auth> <Auth>, on and on"


def test_last_words_are_few_and_hide_a_secret_that_a_cut_would_split() -> None:
    secret = "x" * 1_990 + "y" * 20
    assert last_words(f"first\n{secret} the end\n".encode(), {"KEY": secret}) == "first\n<KEY> the end"
    assert last_words(b"line\n" * 100, {}).count("line") == 10
    assert len(last_words(b"z" * 10_000, {})) == 2_000
    assert last_words(b"\xff", {}) == "\ufffd"


def test_an_address_without_its_secrets() -> None:
    assert without_credentials("https://u:p@h.example:81/mcp?key=1#f") == "https://h.example:81/mcp"
