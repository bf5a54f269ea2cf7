from __future__ import annotations

from dualtune_mlx.mcp.secrets import clean_output, redact, strip_credentials


def test_secrets_become_their_names_the_longest_first() -> None:
    secrets = [("A", "abcd"), ("B", "abcdef"), ("Auth", "Bearer t0ken"), ("SHORT", "on")]
    said = redact("abcdef abcd Bearer t0ken t0ken, on and on", secrets)
    assert said == "<B> <A> <Auth> <Auth>, on and on"


def test_what_is_told_is_short_and_hides_a_secret_that_a_cut_would_split() -> None:
    secret = "x" * 1_990 + "y" * 20
    assert clean_output(f"first\n{secret} the end\n", [("KEY", secret)]) == "first\n<KEY> the end"
    assert clean_output("line\n" * 100, []).count("line") == 10
    assert len(clean_output("z" * 10_000, [])) == 2_000


def test_what_is_told_cannot_steer_the_terminal() -> None:
    assert clean_output("a\tb\x1b[31m\x07c\rd", []) == "a\tb\ufffd[31m\ufffdc\nd"


def test_an_address_without_its_secrets() -> None:
    assert strip_credentials("https://u:p@h.example:81/mcp?key=1#f") == "https://h.example:81/mcp"
