"""URLs: what the guard lets pass, the HTTP client and the resolver must read as the guard did."""

import ipaddress
import socket
from urllib.parse import urlsplit

import httpx2

from ext_authz.outbound import OutboundError, refuse_unguarded


def one_input(data: bytes) -> None:
    url = data.decode(errors="ignore").removesuffix("\n")
    try:
        refuse_unguarded(url)
    except OutboundError:
        return
    assert_guarded(url)


def assert_guarded(url: str) -> None:
    """`url` leads over https, or to this machine; and never to a link-local address."""
    try:
        client_url = httpx2.URL(url)
    except httpx2.InvalidURL:
        return  # the client refuses it before it connects
    host = client_url.raw_host.decode().lower()
    assert host == urlsplit(url).hostname
    addresses = _addresses(host)
    is_local = host == "localhost" or any(address.is_loopback for address in addresses)
    assert client_url.scheme == "https" or (client_url.scheme == "http" and is_local)
    assert not any(address.is_link_local for address in addresses)
    assert not client_url.userinfo
    assert not client_url.fragment


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """What the resolver makes of `host` without asking anybody: it knows many spellings."""
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return []
    addresses = [ipaddress.ip_address(address) for *_, (address, *_) in found]
    return [getattr(address, "ipv4_mapped", None) or address for address in addresses]
