"""`medbill sandbox`: seed the made-up practice, serve its platform."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer

from medbill.sandbox.practice import SIZES, Size

app = typer.Typer(no_args_is_help=True, help="The seeded practice and its stand-in servers.")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("not a date of the form YYYY-MM-DD") from None


@app.command()
def seed(
    inbox: Annotated[Path, typer.Option(help="Remittance files go into a sub-folder of the practice here.")],
    state: Annotated[Path, typer.Option(help="What the server serves, its credentials, and truth.json.")],
    seed: Annotated[int, typer.Option(help="Another number gives another practice.")] = 7,
    today: Annotated[str, typer.Option(help="First day without data, YYYY-MM-DD; default: today in UTC.")] = "",
    size: Annotated[
        Size, typer.Option(help="Of lakeside: small is 330 claims in 52 days, medium 50,000 in 90.")
    ] = Size.SMALL,
    claims: Annotated[int | None, typer.Option(min=0, help="About how many claims, instead of the size's.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only the practice on this platform, e.g. tebra.")] = None,
) -> None:
    """Write the practices and 30 days of remittances; the same arguments write the same bytes."""
    from medbill.sandbox.seed import seed_advancedmd, seed_carecloud, seed_practice, seed_tebra

    day = _day(today) if today else datetime.now(UTC).date()
    if not only or "tebra" in only:
        seed_tebra(inbox, state, day)
    if not only or "advancedmd" in only:
        seed_advancedmd(inbox, state, day)
    if not only or "carecloud" in only:
        seed_carecloud(inbox, state, day)
    if only and "drchrono" not in only:
        return
    usual, days = SIZES[size]
    truth = seed_practice(inbox, state, day, seed=seed, claims=usual if claims is None else claims, days=days)
    typer.echo(
        f"practice {truth.practice}: {truth.practice_claims} claims; {truth.totals['files']} files from "
        f"{truth.first_day} to {truth.last_day} with {truth.totals['claims']} claims, "
        f"{len(truth.denials)} denials, {len(truth.underpayments)} underpayments, {len(truth.planted)} flawed inputs"
    )


@app.command()
def serve(
    state: Annotated[Path, typer.Option(help="The folder that `seed` wrote.")],
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8835,
    per_second: Annotated[int, typer.Option(min=1, help="Burst limit; the vendor's is 10.")] = 200,
    per_hour: Annotated[int, typer.Option(min=1, help="Hourly limit; the vendor's is 500.")] = 100_000,
    tebra_port: Annotated[int, typer.Option(help="Port of the Tebra stand-in; 0: none.")] = 0,
    advancedmd_port: Annotated[int, typer.Option(help="Port of the AdvancedMD stand-in; 0: none.")] = 0,
    carecloud_port: Annotated[int, typer.Option(help="Port of the CareCloud stand-in; 0: none.")] = 0,
) -> None:
    """Serve the practices on 127.0.0.1 until interrupted: lakeside as DrChrono, riverton as Tebra, cedarhill as AdvancedMD,
    pinegrove as CareCloud."""
    from medbill.sandbox import advancedmd, carecloud, drchrono, server, tebra

    with server.listening():
        servers: list[server.Server] = [
            drchrono.Server(drchrono.Sandbox(state, drchrono.Limits(per_second, per_hour)), port)
        ]
        if tebra_port:
            servers.append(tebra.Server(tebra.Sandbox(state), tebra_port))
        if advancedmd_port:
            servers.append(advancedmd.Server(advancedmd.Sandbox(state), advancedmd_port))
        if carecloud_port:
            servers.append(carecloud.Server(carecloud.Sandbox(state), carecloud_port))
    server.run(servers)
