"""Pictures behind web addresses: fetched within a time and a size, and not from where a stranger could lead us."""

import io
import ipaddress
import queue
import socket
import threading
import time
from typing import Any
from urllib.parse import urljoin, urlsplit

from PIL import Image, UnidentifiedImageError

try:
    import requests
    import urllib3
except ImportError:  # in a checkpoint that stands alone, where only web addresses need them
    requests = None  # type: ignore[assignment]

SCHEMES = ("http", "https")
MAX_REDIRECTS = 5
PORTS = (80, 443, 8080, 8443)  # of web servers; a redirect to another may be meant for another service
# IPv6 addresses whose last 32 bits are an IPv4 address: translated (RFC 6052), and of an old kind (RFC 4291)
HOLDS_IPV4 = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "::/96")))
LOCAL_IPV6 = ipaddress.IPv6Network("64:ff9b:1::/48")  # translated within a network (RFC 8215)
CHUNK_BYTES = 1 << 16


class AddressError(ValueError):
    """A picture's address that gives no picture; the message says which, what was found there and what to do."""


def is_address(source: object) -> bool:
    """Return whether a value of a picture column is a web address."""
    return isinstance(source, str) and source.lower().startswith(tuple(f"{scheme}://" for scheme in SCHEMES))


def fetch_picture(
    address: str, seconds: float = 20.0, max_bytes: int = 50_000_000, allow_private: bool = False
) -> bytes:
    """Return the bytes behind a web address.

    Args:
        address: `http://…` or `https://…`.
        seconds: for the whole download, redirects included.
        max_bytes: of the file.
        allow_private: whether a redirect may lead to an address inside of the own network (loopback, private,
            link-local), or to another port than web servers have. The first address may: whoever calls wrote it.

    Raises:
        AddressError: not reached in time, an error of the server, too large, no picture, or redirected where it may
            not lead.
    """
    if requests is None:
        raise AddressError(
            f"Expected the package requests to fetch {address}, found none. Install it: pip install requests"
        )
    # In a thread that may be left behind: the library's time limit begins anew with every byte of a header.
    answers: queue.Queue[bytes | Exception] = queue.Queue()

    def fetch() -> None:
        try:
            answers.put(_fetch(address, seconds, max_bytes, allow_private))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=fetch, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds + 1)
    except queue.Empty as error:
        raise AddressError(_too_slow(address, seconds)) from error
    if isinstance(answer, Exception):
        raise answer
    return answer


def _fetch(address: str, seconds: float, max_bytes: int, allow_private: bool) -> bytes:
    deadline = time.monotonic() + seconds
    current, places = address, None
    try:
        with requests.Session() as session:
            for _ in range(MAX_REDIRECTS + 1):
                left = max(0.1, deadline - time.monotonic())
                with _get(session, current, places, left) as answer:
                    if not answer.is_redirect:
                        answer.raise_for_status()
                        content = _body(answer, address, deadline, seconds, max_bytes)
                        _check_picture(content, address, answer.headers.get("content-type", "no type"))
                        return content
                    current = urljoin(current, answer.headers["location"])
                places = _check_redirect(address, current, allow_private)
    except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise AddressError(_too_slow(address, seconds)) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        if isinstance(error, AddressError):
            raise
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = f"no answer ({type(error).__name__})" if status is None else f"HTTP status {status}"
        raise AddressError(
            f"Expected a picture at {address}, found {reason}. Check the address, or download the picture and pass its "
            "path."
        ) from error
    raise AddressError(
        f"Expected a picture at {address}, found more than {MAX_REDIRECTS} redirects. Pass the address where they end."
    )


def _get(session: "requests.Session", url: str, places: list[str] | None, seconds: float) -> "requests.Response":
    """Ask for a URL, at one of the IP addresses that were looked at; None: wherever its name leads.

    Looked up again, the name might lead elsewhere. A proxy looks it up by itself.
    """
    options: dict[str, Any] = {"stream": True, "timeout": seconds, "allow_redirects": False}
    if places is None or requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url)):
        return session.get(url, **options)
    parts = urlsplit(url)
    host = parts.hostname or ""
    session.mount("https://", _https_for(host))
    headers = {"Host": host if parts.port is None else f"{host}:{parts.port}"}
    for number, place in enumerate(places, start=1):
        netloc = f"[{place}]" if ":" in place else place
        netloc += "" if parts.port is None else f":{parts.port}"
        try:
            return session.get(parts._replace(netloc=netloc).geturl(), headers=headers, **options)
        except requests.ConnectionError:
            if number == len(places):
                raise
    raise AssertionError("a name without address is refused before")


def _https_for(host: str) -> "requests.adapters.HTTPAdapter":
    """Return what speaks TLS with a server whose certificate must be for this host, whatever the URL has."""

    class Adapter(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, server_hostname=host, assert_hostname=host, **kwargs)

    return Adapter()


def _body(answer: "requests.Response", address: str, deadline: float, seconds: float, max_bytes: int) -> bytes:
    parts, size = [], 0
    # read1: what has come, so that a drip is noticed
    while part := answer.raw.read1(CHUNK_BYTES, decode_content=True):
        size += len(part)
        if size > max_bytes:
            raise AddressError(
                f"Expected a picture of at most {max_bytes:,} bytes at {address}, found more. Download and shrink it."
            )
        if time.monotonic() > deadline:
            raise AddressError(_too_slow(address, seconds))
        parts.append(part)
    return b"".join(parts)


def _check_picture(content: bytes, address: str, kind: str) -> None:
    try:
        Image.open(io.BytesIO(content)).close()
    except UnidentifiedImageError as error:
        is_page = content[:1000].lstrip().lower().startswith((b"<!doctype", b"<html", b"<head", b"<?xml"))
        found = "a web page" if is_page else f"{len(content):,} bytes that are none"
        raise AddressError(
            f"Expected a picture at {address}, found {found} ({kind[:100]}). Pass the address of the picture itself, "
            "or download it and pass its path."
        ) from error
    except (OSError, ValueError, Image.DecompressionBombError):
        return  # a picture that cannot be decoded: whoever decodes it says why


def _check_redirect(address: str, target: str, allow_private: bool) -> list[str] | None:
    """Return the IP addresses that a redirect leads to; None if it may lead anywhere."""
    try:
        place = urlsplit(target)
        port = place.port or {"http": 80, "https": 443}.get(place.scheme, 0)
        if place.scheme not in SCHEMES or not place.hostname or not port:
            raise ValueError("no address of the web")
    except ValueError as error:  # of a port that is no number, or above 65535, too
        raise AddressError(f"Expected a redirect of {address} to http or https, found {target[:100]!r}.") from error
    if allow_private:
        return None
    try:
        found = _addresses(place.hostname, port)
    except (OSError, UnicodeError) as error:
        raise AddressError(
            f"Expected {address} to lead to a picture, found a redirect to {place.hostname}, which has no address."
        ) from error
    if not all(map(is_public, found)):
        raise AddressError(
            f"Expected {address} to lead to a public address, found a redirect to {place.hostname}, inside of this "
            "network. Download the picture and pass its path, or allow_private_redirects=True if you trust the server."
        )
    if port not in PORTS:
        raise AddressError(
            f"Expected {address} to lead to a web server's port ({', '.join(map(str, PORTS))}), found a redirect to "
            f"port {port} of {place.hostname}. Download the picture and pass its path, or allow_private_redirects=True "
            "if you trust the server."
        )
    return found


def _addresses(host: str, port: int) -> list[str]:
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        return list(dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo(host, port)))


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the internet, and of a single machine; those inside IPv6 are looked at."""
    found = ipaddress.ip_address(address.split("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if any(found in network for network in HOLDS_IPV4):
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if found in LOCAL_IPV6 or found.is_site_local:
            return False
    return found.is_global and not (found.is_multicast or found.is_reserved or found.is_unspecified)


def _too_slow(address: str, seconds: float) -> str:
    return (
        f"Expected the picture at {address} within {seconds:g} seconds, found no end of it. Download the picture and "
        "pass its path, or raise download_seconds."
    )
