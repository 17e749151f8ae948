"""Hosts and addresses: the one spelling of a host, and whether an address is a public one."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_network

from .errors import UrlNotAllowedError


def normalise_host(host: str) -> str:
    """The one spelling of a host: IDNA's ASCII form, and a plain address for every spelling of it.

    Raises:
        UrlNotAllowedError: it is no host name and no address.
    """
    try:
        if ":" in host:
            return str(IPv6Address(host.removeprefix("[").removesuffix("]")))
        name = host if host.isascii() else host[:_MAX_NAME].encode("idna").decode("ascii")
        name = name.lower().removesuffix(".")
        if len(host) > _MAX_NAME or not _NAME.fullmatch(name) or _IDNA_DEVIATIONS.intersection(host):
            raise ValueError("not a name")
        return _ipv4(name.split(".")) if _NUMBER.fullmatch(name.rpartition(".")[2]) else name
    except ValueError as error:  # UnicodeError is one
        raise UrlNotAllowedError("the URL's host is malformed") from error


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is a public unicast one, and no metadata service."""
    if isinstance(address, IPv6Address) and (address not in _IPV6_UNICAST or address.scope_id):
        return False
    return address.is_global and not any(address in network for network in _NOT_PUBLIC)


_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_MAX_NAME = 253  # characters; RFC 1035, section 2.3.4
_IDNA_DEVIATIONS = frozenset("ßς\u200c\u200d")  # UTS 46: another host in each edition of IDNA; say xn--

# What is not a public unicast host. IANA's IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890)
# and multicast (RFC 5771); Python's ``is_global`` is asked too, but it differs between releases and lets
# multicast, NAT64 and translation prefixes through. Entries marked * are routed, but are no picture's home.
_NOT_PUBLIC = tuple(
    ip_network(network)
    for networks in (
        "0.0.0.0/8 10.0.0.0/8 127.0.0.0/8 172.16.0.0/12 192.168.0.0/16",  # this network, loopback, private
        "169.254.0.0/16",  # link-local: AWS's, Azure's and Google's metadata, ECS's credentials
        "100.64.0.0/10 192.0.0.0/24",  # carrier NAT, protocol assignments: Alibaba's and Oracle's metadata
        "168.63.129.16/32",  # * Azure's wire server
        "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 198.18.0.0/15",  # documentation, benchmarking
        "192.31.196.0/24 192.175.48.0/24 192.52.193.0/24 192.88.99.0/24",  # * AS112, * AMT, 6to4 relays
        "224.0.0.0/4 240.0.0.0/4",  # multicast, reserved, broadcast
        "2001::/23 2002::/16",  # Teredo, ORCHID, benchmarking; 6to4
        "2001:db8::/32 3fff::/20 2620:4f:8000::/48",  # documentation, * AS112
    )
    for network in networks.split()
)
# All else of IPv6 is private, local, multicast, reserved, or holds an IPv4 address (::/96, ::ffff:0:0/96,
# 64:ff9b::/96, 64:ff9b:1::/48).
_IPV6_UNICAST = ip_network("2000::/3")


def _ipv4(parts: list[str]) -> str:
    """An address as inet_aton(3) and browsers read it: one to four parts, decimal, octal or hex."""
    if len(parts) > 4 or not all(map(_NUMBER.fullmatch, parts)):
        raise ValueError("a name cannot end in a number")
    *front, last = (
        int(part[2:] or "0", 16) if part[:2] == "0x" else int(part, 8 if part[0] == "0" else 10) for part in parts
    )
    if any(part > 255 for part in front) or last >= 256 ** (4 - len(front)):
        raise ValueError("out of range")
    return str(IPv4Address(sum(part << 24 - 8 * i for i, part in enumerate(front)) + last))
