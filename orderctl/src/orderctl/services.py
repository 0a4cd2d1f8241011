"""The services of a deployment, as far as operating them goes."""

from __future__ import annotations

from urllib.parse import quote, urlsplit, urlunsplit

from shared.services import SERVICES

__all__ = ["SERVICES", "role_dsn"]


def role_dsn(admin_url: str, role: str, password: str) -> str:
    """The address that `role` uses, on the server and database of `admin_url`."""
    parts = urlsplit(admin_url)
    user = quote(role) + (f":{quote(password)}" if password else "")
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}@{host}"))
