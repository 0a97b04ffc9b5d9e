"""``w2v plugins``: what is installed, and whether it keeps its contract."""

from __future__ import annotations

import inspect
import json
from typing import Any

import click

from w2v import plugins as registry
from w2v.errors import UnknownName


@click.group("plugins", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@click.pass_context
def plugins_group(ctx: click.Context, as_json: bool) -> None:
    """List every plugin name; broken plugins last."""
    if ctx.invoked_subcommand is not None:
        return
    rows = _rows()
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    for kind in (*registry.KINDS, "broken"):
        for row in (r for r in rows if r["kind"] == kind):
            click.echo(f"{kind:<10} {row['name']:<12} {row['summary']}")
            if row.get("options"):
                click.echo(f"{'':<23} {', '.join(row['options'])}")


def _rows() -> list[dict[str, Any]]:
    """Return one row per offered name and per broken plugin."""
    registry.discover()
    rows: list[dict[str, Any]] = []
    for kind in registry.KINDS:
        for name, (offer, owner) in sorted(registry.owned(kind).items()):
            parameters = inspect.signature(offer.make).parameters.values()
            rows.append(
                {
                    "kind": kind,
                    "name": name,
                    "plugin": owner,
                    "summary": (offer.make.__doc__ or "").strip().partition("\n")[0],
                    "options": [
                        p.name if p.default is p.empty else f"{p.name}={p.default}"
                        for p in parameters
                    ],
                    "licence": offer.licence,
                    "may_train": offer.may_train,
                    "can": sorted(offer.can),
                }
            )
    for name, error in sorted(registry.broken.items()):
        what = f"{type(error).__name__}: {error}"
        rows.append({"kind": "broken", "name": name, "summary": what})
    return rows


@plugins_group.command("check")
@click.argument("name")
def check(name: str) -> None:
    """Hold everything that a plugin name offers against its contract.

    NAME is a name from ``w2v plugins``, with options if it needs any (``NAME:KEY=VALUE``).
    """
    from w2v import testing

    kinds = [k for k in registry.KINDS if _offered(k, name.partition(":")[0])]
    if not kinds:
        known = {n for kind in registry.KINDS for n in registry.offers(kind)}
        raise UnknownName("plugin", name.partition(":")[0], known, registry.broken)
    for kind in kinds:
        for done in testing.check(kind, name):
            click.echo(f"ok  {kind} {name}: {done}")


def _offered(kind: str, name: str) -> bool:
    try:
        registry.find(kind, name)
    except UnknownName:
        return False
    return True
