import json
import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
from click.testing import CliRunner

from w2v.cli import cli

# A shell starts what it runs in the background deaf to Ctrl-C, and so would be what tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def only_built_ins(monkeypatch):
    """What is installed or set on this machine must not change a test."""
    monkeypatch.setenv("W2V_PLUGINS", "")
    for name in list(os.environ):
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)


@pytest.fixture
def w2v():
    """Run ``w2v ARGS`` with rows on stdin; return (exit code, parsed lines, stderr)."""

    def run(*args, stdin=()):
        lines = stdin if isinstance(stdin, str) else "".join(_line(r) + "\n" for r in stdin)
        result = CliRunner().invoke(cli, [str(a) for a in args], input=lines)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, [json.loads(x) for x in result.stdout.splitlines()], result.stderr

    return run


def _line(row):
    return json.dumps(row if isinstance(row, dict) else row.to_json())
