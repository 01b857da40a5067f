"""`medbill retention`: what the retention policy keeps, lets go and holds; purging by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

app = typer.Typer(help="Show the retention policy at work; purge what it lets go.", no_args_is_help=True)

_AsJson = Annotated[bool, typer.Option("--json", help="JSON.")]


@app.command()
def show(as_json: _AsJson = False) -> None:
    """Each rule with its days, what is due under it now, and what is old enough but stays, with the reason."""
    from medbill.pipelines import retention, retention_policy
    from medbill.pipelines.context import Context

    ctx = Context.open()
    policy = retention_policy.load(ctx.settings.policies / "retention.yml")
    found = retention.counts(retention.due(ctx, policy, datetime.now(UTC)))
    if as_json:
        due = {rule: {why: n for (name, why), n in found.items() if name == rule} for rule in policy.days}
        content = {"policy": policy.version, "hash": policy.hash, "days": policy.days, "years": policy.years}
        typer.echo(json.dumps({**content, "holds": len(policy.holds), "now": due}))
        return
    typer.echo(f"policy {policy.version}, {len(policy.holds)} legal hold(s)")
    for rule, days in policy.days.items():
        now = "  ".join(f"{why} {n}" for (name, why), n in sorted(found.items()) if name == rule)
        typer.echo(f"{rule:<22} {days:>5} days   {now}".rstrip())
    for name, years in policy.years.items():
        typer.echo(f"{name:<22} {years:>5} years  never purged by medbill")


@app.command()
def run(
    actor: Annotated[str, typer.Option("--actor", help="Who decides: a person's name.", envvar="MEDBILL_ACTOR")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Purge what the policy lets go, for good; guard does it every night. May be run again at any time."""
    from medbill.audit.roles import permit
    from medbill.pipelines import purge, retention, retention_policy
    from medbill.pipelines.context import Context
    from medbill.settings import Settings

    if dry_run:
        ctx = Context.open()
        policy = retention_policy.load(ctx.settings.policies / "retention.yml")
        for one in retention.due(ctx, policy, datetime.now(UTC)):
            if isinstance(one, retention.Due):
                typer.echo(f"{one.rule}  {one.practice}  {one.resource}  {len(one.keys)} objects")
            else:
                typer.echo(f"{one.rule}  {one.practice}  stays: {one.why}")
        return
    done = purge.run(Context.for_person(permit(Settings.from_env(), actor, "purge")))
    for rule, count in sorted(done.erased.items()):
        typer.echo(f"{rule}: {count} purged")
    for (rule, why), count in sorted(done.kept.items()):
        typer.echo(f"{rule}: {count} stay ({why})")
    if done.locked:
        typer.echo(f"{done.locked} are kept by the bucket's lock until it ends; nobody can open them any more")
