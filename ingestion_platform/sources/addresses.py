"""
Which addresses of the network an API may have.

Belongs here: names to addresses, and whether one is public. Doesn't: connecting (`http_client.py`).
"""

import ipaddress
import socket
from collections.abc import Callable

from ingestion_platform.errors import SourceError

Resolve = Callable[[str, int], list[str]]
"""Addresses of a host and port. Raises OSError when there are none."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_TUNNELS = ipaddress.IPv6Network("::/96")
"""IPv4 addresses in IPv6 ones, of a kind that nobody has used for long and that some systems still take for the IPv4 address."""


def resolve(host: str, port: int) -> list[str]:
    """What the machine's resolver says, each address once, in its order."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet. IPv4 addresses inside IPv6 ones are taken out and judged themselves."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return is_public(str(found.ipv4_mapped))
        if found.sixtofour is not None:
            return is_public(str(found.sixtofour))
        if found.teredo is not None:
            return all(is_public(str(inside)) for inside in found.teredo)
        if found in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)))
        if found in _TUNNELS or found.is_site_local:
            return False
    return found.is_global and not (found.is_multicast or found.is_reserved)


def addresses(host: str, port: int, resolve: Resolve, *, may_be_private: bool) -> list[str]:
    """
    The addresses of a host, all of which may be connected to.

    Raises:
        OSError: the name has none.
        SourceError: one of them isn't public: whoever answers for the name may lead us where only we can go.
    """
    found = resolve(host, port)
    if not may_be_private:
        private = next((address for address in found if not is_public(address)), None)
        if private is not None:
            raise SourceError(
                f"{host} has the address {private}, which isn't public",
                "when it is meant: private_hosts=True in the declaration, or private_hosts = true in the file of INGESTION_APIS",
            )
    return found
