"""What looks like a secret is replaced, what does not stays, and equal secrets are known as equal."""

from __future__ import annotations

import pytest

from vfs.repo.repository import Repository
from vfs.repo.runs.secrets import Secrets, is_secret_name

KEY = "sk-" + "a1B2" * 8
WEB = "https:/"


@pytest.mark.parametrize(
    "words",
    [
        ["--password", "hunter2hunter2"],
        ["--password=hunter2hunter2"],
        ["DB_PASSWORD=hunter2hunter2", "env"],
        ["sh", "-c", "echo hunter2hunter2; echo x=1", "--token", "hunter2hunter2"],
        ["sh", "-c", f"echo $MY_TOKEN; curl -H {KEY}; echo accuracy=1"],
        ["postgres://me:hunter2hunter2@host/db"],
        ["git", "clone", f"{WEB}/hunter2hunter2ab@host/repository.git"],
        ["curl", "https://host/file?x=1&token=hunter2hunter2&y=2"],
        ["wget", f"{WEB}/bucket/o?X-Amz-Credential=hunter2hunter2&X-Amz-Signature=hunter2hunter2"],
        ["sh", "-c", f"pip install -i {WEB}/me:hunter2hunter2@host/simple torch; echo 1"],
        [f"--anything={KEY}"],
        ["sh", "-c", "echo a; export DB_PASSWORD=hunter2hunter2; ./serve"],
        ["sh", "-c", "cd x && ./train --api-key hunter2hunter2 --lr 0.1"],
    ],
)
def test_secrets_leave_a_command(words: list[str]) -> None:
    secrets = Secrets(b"k" * 32)
    secrets.learn({"MY_TOKEN": "hunter2hunter2"})
    shown = " ".join(secrets.words(words))
    assert "hunter2hunter2" not in shown
    assert KEY not in shown
    assert "[redacted:" in shown
    assert b"hunter2hunter2" not in secrets.data(b"a hunter2hunter2 b")


@pytest.mark.parametrize(
    "words",
    [
        ["python", "train.py", "--lr", "0.1", "--max-tokens", "512", "--tokenizer", "bert"],
        ["python", "/srv/project/train.py", "--keys", "a,b"],
        ["sh", "-c", "export TOKEN=$OTHER KEY=/srv/key; ./train --lr=0.1 --epochs 3"],
        ["git", "clone", "ssh://git@host/repository.git", f"{WEB}/ann@host/x", "https://host/a@b?x=1"],
        ["git", "checkout", "4be1f20c0ffee4be1f20c0ffee4be1f20c0ffee4"],
    ],
)
def test_other_words_stay(words: list[str]) -> None:
    secrets = Secrets(b"k" * 32)
    secrets.learn({"PWD": "/srv/project", "SSH_KEY": "/srv/project/key", "HOME": "/srv"})
    assert [word for word in secrets.words(words) if word not in words and "tokenizer" not in words] == []


def test_a_patch_loses_tokens_passwords_in_addresses_and_assigned_literals() -> None:
    lines = [
        f"+client = Client('{KEY}')",
        f"+url = '{WEB}/me:hunter2hunter2@host/x'",
        *(f"{line}" for line in ASSIGNMENTS),
    ]
    shown = Secrets(b"k" * 32).data("\n".join(lines).encode("utf-8", "surrogateescape"))
    assert [line for line in shown.split(b"\n") if b"[redacted:" not in line] == []
    assert b"letmein" not in shown
    assert shown.startswith(b"+client = Client('[redacted:")
    assert f"\n+url = '{WEB}/me:[redacted:".encode() in shown


ASSIGNMENTS = [
    "+password = 'letmein'",
    '-password: str = "letmein"',
    ' "api_key": "letmein22",',
    "+    self.db_password = 'letmein in words'",
    "+connect(host, password='letmein', retries=3)",
    "+password: letmein22",
    "+API_KEY=letmein22 ./serve",
    "+export HF_TOKEN=letmein22",
    '+secret_key := `x` + ""; token := "letmein22"',
    "+headers = {'Authorization': 'Bearer letmein22letmein22'}",
    "+private_key = b'letmein22'",
    "+key = 'letmein22letmein22'",
]


@pytest.mark.parametrize(
    "line",
    [
        "+password = getpass()",
        "+password = args.password",
        "+token = tokens[0]",
        "+pad_token = '[PAD]'",
        "+eos_token = 'endoftext'",
        "+tokenizer = 'bert-base-uncased2'",
        " merge(key='identifier')",
        "+primary_key = 'row_2024'",
        "+max_tokens: 4096000",
        "+key_file = '/run/secrets/key22'",
        "+PASSWORD_FILE=/run/secrets/password1",
        "-\udcff",
        "+auth = 'basic-auth'",
        "+sort(rows, key=lambda row: row.name1)",
    ],
)
def test_other_lines_of_code_stay(line: str) -> None:
    raw = line.encode("utf-8", "surrogateescape")
    assert Secrets(b"k" * 32).data(raw) == raw


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("hunter2/hunter2+", "hunter2%2Fhunter2%2B"),
        ('hunter2"hunter2', '{"x": "hunter2\\"hunter2"}'),
        ("/hunter2hunter2", "a /hunter2hunter2"),
        (
            "-----BEGIN KEY-----\nhunter2hunter2hunter2\nhunter2hunter2",
            "+hunter2hunter2hunter2\n+x",
        ),
    ],
)
def test_a_secret_is_known_in_the_forms_that_texts_have(value: str, text: str) -> None:
    secrets = Secrets(b"k" * 32)
    secrets.learn({"DB_PASSWORD": value})
    assert "hunter2" not in secrets.text(text)
    assert b"hunter2" not in secrets.data(text.encode())


def test_a_word_loses_what_a_later_one_says_to_be_secret() -> None:
    words = Secrets(b"k" * 32).words(["echo", "hunter2hunter2", "--password", "hunter2hunter2"])
    assert "hunter2hunter2" not in " ".join(words)


def test_a_repository_has_one_key_and_others_have_another(repo: Repository) -> None:
    first, again = (Secrets.of_repository(repo.path).redacted("value") for _ in range(2))
    assert first == again
    assert Secrets(b"x" * 32).redacted("value") != first
    assert (repo.path / "runs.key").stat().st_mode & 0o077 == 0


def test_names_of_secrets() -> None:
    assert all(map(is_secret_name, ["HF_TOKEN", "api-key", "AWS_SECRET_ACCESS_KEY", "db.password", "key", "auth"]))
    assert not any(
        map(is_secret_name, ["keyboard", "max_tokens", "monkey", "author", "num_tokens", "lr", "PYTHONPATH"])
    )
