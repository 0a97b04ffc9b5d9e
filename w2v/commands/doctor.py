"""``w2v doctor``: what this machine has, for users and for bug reports."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from w2v import __version__, plugins
from w2v.errors import PluginError
from w2v.workers import cores

VARIABLES = ("OMP_NUM_THREADS", "HF_HUB_OFFLINE", "HF_HOME", "CUDA_VISIBLE_DEVICES", "W2V_PLUGINS")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def doctor(as_json: bool) -> None:
    """Say what is installed, what is missing, and what to type to get it."""
    found = report()
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"w2v {found['w2v']}, Python {found['python']}, {found['platform']}")
    click.echo(f"{found['cores']} cores, {found['free_gigabytes']} GB free here")
    for name, extra in found["extras"].items():
        missing = ", ".join(extra["missing"])
        state = f"missing {missing}  ->  {extra['hint']}" if missing else "ready"
        click.echo(f"  [{name}] {state}")
    for line in found["problems"]:
        click.echo(f"  problem: {line}")


def report() -> dict[str, Any]:
    """Return the state of this installation as plain JSON; imports nothing heavy."""
    import platform
    import shutil

    return {
        "w2v": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "cores": cores(),
        "free_gigabytes": round(shutil.disk_usage(".").free / 1e9, 1),
        "slurm": shutil.which("sbatch") is not None,
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "extras": _extras(),
        "problems": _problems(),
    }


def _extras() -> dict[str, dict[str, Any]]:
    """Return, for each extra, the versions that are installed and the packages that are not."""
    import importlib.metadata  # slow to import, and only needed here
    import re

    extras: dict[str, dict[str, Any]] = {}
    for line in importlib.metadata.requires("w2v") or ():
        needed, _, condition = line.partition(";")
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", condition)
        match = re.match(r"[\w.-]+", needed.strip())
        if not extra or not match or match[0] == "w2v":
            continue
        told = extras.setdefault(extra[1], {"installed": {}, "missing": []})
        try:
            told["installed"][match[0]] = importlib.metadata.version(match[0])
        except importlib.metadata.PackageNotFoundError:
            told["missing"].append(match[0])
            told["hint"] = f"pip install 'w2v[{extra[1]}]'"
    return extras


def _problems() -> list[str]:
    """Return what is wrong with the installed plugins."""
    plugins.discover()
    found = [f"plugin {name}: {error}" for name, error in sorted(plugins.broken.items())]
    for kind in plugins.KINDS:
        try:
            plugins.offers(kind)
        except PluginError as error:
            found.append(error.what)
    return found
