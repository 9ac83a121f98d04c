"""`sockade user`: add, list and disable users, and set their passwords."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer

from sockade.cli.identities import open_users
from sockade.cli.options import ConfigOption, DataDirOption, settings_from
from sockade.cli.passwords import read_password
from sockade.identity.users import Users
from sockade.settings import Settings

app = typer.Typer(name="user", help="Add, list and disable users.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking for it.")
]
Result = TypeVar("Result")


@app.command()
def add(
    name: Name,
    role: Annotated[str, typer.Option(metavar="ROLE", help="What the application may go by.")] = "user",
    password_stdin: PasswordStdin = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Add a user, who signs in with a password."""
    settings = settings_from(config, data_dir)
    password = read_password(from_stdin=password_stdin)
    user = _with_users(settings, lambda users: users.add(name, role=role, password=password))
    typer.echo(f"User {user.name} added, with the role {user.role}.")


@app.command("list")
def list_users(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """List all users."""
    found = _with_users(settings_from(config, data_dir), lambda users: users.list())
    if not found:
        typer.echo("There is no user yet: sockade user add NAME.", err=True)
    for user in found:
        state = "disabled" if user.disabled_at is not None else "active"
        since = datetime.fromtimestamp(user.created_at, UTC)
        typer.echo(f"{user.name:<24} {user.role:<12} {state:<9} {since:%Y-%m-%d}")


@app.command()
def disable(name: Name, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Disable a user and end every session of theirs."""
    ended = _with_users(settings_from(config, data_dir), lambda users: users.disable(name))
    typer.echo(f"User {name} disabled; sessions ended: {len(ended)}.")


@app.command()
def role(
    name: Name,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="What the application may go by.")],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Set a user's role and end every session of theirs."""
    ended = _with_users(settings_from(config, data_dir), lambda users: users.set_role(name, role))
    typer.echo(f"Role of {name} set to {role}; sessions ended: {len(ended)}.")


@app.command()
def password(
    name: Name,
    password_stdin: PasswordStdin = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Set a user's password and end every session of theirs."""
    settings = settings_from(config, data_dir)
    secret = read_password(from_stdin=password_stdin)
    ended = _with_users(settings, lambda users: users.set_password(name, secret))
    typer.echo(f"Password of {name} set; sessions ended: {len(ended)}.")


def _with_users(settings: Settings, work: Callable[[Users], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        async with open_users(settings) as users:
            return await work(users)

    return asyncio.run(run())
