"""Pictures behind web addresses: fetched within a time and a size, and not from where a stranger could lead us."""

import ipaddress
import queue
import socket
import threading
import time
from urllib.parse import urljoin, urlsplit

try:
    import requests
    import urllib3
except ImportError:  # in a checkpoint that stands alone, where only web addresses need them
    requests = None  # type: ignore[assignment]

SCHEMES = ("http", "https")
MAX_REDIRECTS = 5
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
            link-local). The first address may be one: whoever calls wrote it.

    Raises:
        AddressError: not reached in time, an error of the server, too large, or redirected where it may not lead.
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
    current = address
    try:
        with requests.Session() as session:
            for _ in range(MAX_REDIRECTS + 1):
                left = max(0.1, deadline - time.monotonic())
                with session.get(current, stream=True, timeout=left, allow_redirects=False) as answer:
                    if not answer.is_redirect:
                        answer.raise_for_status()
                        return _body(answer, address, deadline, seconds, max_bytes)
                    current = urljoin(current, answer.headers["location"])
                _check_redirect(address, current, allow_private)
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
        f"Expected a picture at {address}, found more than {MAX_REDIRECTS} redirects. Pass the address where they "
        "end."
    )


def _body(
    answer: "requests.Response", address: str, deadline: float, seconds: float, max_bytes: int
) -> bytes:
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


def _check_redirect(address: str, target: str, allow_private: bool) -> None:
    place = urlsplit(target)
    if place.scheme not in SCHEMES or not place.hostname:
        raise AddressError(f"Expected a redirect of {address} to http or https, found {target[:100]!r}.")
    if allow_private:
        return
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(place.hostname, place.port or 0)}
    except OSError as error:
        raise AddressError(
            f"Expected {address} to lead to a picture, found a redirect to {place.hostname}, which has no address."
        ) from error
    if not all(ipaddress.ip_address(str(one).split("%")[0]).is_global for one in found):
        raise AddressError(
            f"Expected {address} to lead to a public address, found a redirect to {place.hostname}, inside of this "
            "network. Download the picture and pass its path, or allow_private_redirects=True if you trust the server."
        )


def _too_slow(address: str, seconds: float) -> str:
    return (
        f"Expected the picture at {address} within {seconds:g} seconds, found no end of it. Download the picture and "
        "pass its path, or raise download_seconds."
    )
