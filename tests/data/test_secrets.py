"""Secrets and home folders are found by their shapes; what only speaks of them is left alone."""

from __future__ import annotations

import pytest

from dualtune_mlx.data.secrets import SHAPES, find_home_paths, find_secrets

LETTERS = "aB3dE6gH9jK2mN5pQ8sT1vW4xY7z"
FOUND = {
    "an AWS access key": "AKIA" + "ABCDEFGH23456789",
    "a GitHub token": "ghp_" + (LETTERS * 2)[:36],
    "a GitLab token": "glpat-" + LETTERS[:20],
    "an API key": "sk-proj-" + LETTERS,
    "a Slack token": "xoxb-" + "1234567890-abcdef",
    "a Google API key": "AIza" + (LETTERS * 2)[:35],
    "a Stripe key": "sk_live_" + LETTERS[:24],
    "an npm token": "npm_" + (LETTERS * 2)[:36],
    "a PyPI token": "pypi-" + LETTERS * 2,
    "a Hugging Face token": "hf_" + (LETTERS * 2)[:34],
    "a private key": "-----BEGIN RSA PRIVATE KEY-----",
    "a JSON web token": "eyJhbGciOiJI.eyJzdWIiOiIx." + LETTERS,
    "a bearer token": "Bearer " + LETTERS,
    "a password in a URL": "postgres://ada:hunter22@db/main",
    "a password": 'DB_PASSWORD="correct7horse"',
}


@pytest.mark.parametrize(
    "secret", ["sk-ant-api03-" + LETTERS, "my password is correct7horse", "GITLAB_TOKEN=" + LETTERS]
)
def test_other_forms_are_found_too(secret):
    assert list(find_secrets(secret))


@pytest.mark.parametrize(("kind", "secret"), FOUND.items(), ids=FOUND)
def test_a_secret_is_found_where_it_stands(kind, secret):
    text = f"Save this:\n{secret} please"
    (found,) = find_secrets(text)
    assert found.kind == kind
    assert text[found.start : found.end].strip('"') in secret


def test_every_shape_is_tried():
    assert set(FOUND) == set(SHAPES)


@pytest.mark.parametrize(
    "text",
    [
        "Reset the password of ada, and send her the token",
        "password: ${DB_PASSWORD}",
        "api_key=<your key here>",
        "Authorization: Bearer TOKEN",
        "https://example.com:8080/a@b",
        "The skunk-works risk-assessment is done",
        "Which key: value pairs has config.json?",
        "token: required",
    ],
)
def test_words_about_secrets_are_none(text):
    assert not list(find_secrets(text))


def test_home_folders_are_found_unless_they_are_nobody_s():
    text = r"Open /home/ada/notes.txt, /Users/Grace/x, C:\Users\linus\y, /home/user/z and /var/home"
    assert list(find_home_paths(text)) == ["/home/ada", "/Users/Grace", r"C:\Users\linus"]
