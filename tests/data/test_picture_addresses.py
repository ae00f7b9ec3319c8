"""Pictures behind web addresses: what is no picture is named with its address, and no redirect leads inside."""

import io
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest
from PIL import Image

from hf_mmtab.data.pictures import addresses as picture_addresses
from hf_mmtab.data.pictures.addresses import AddressError, fetch_picture, is_public


def _png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (2, 2)).save(out, "PNG")
    return out.getvalue()


ANSWERS = {
    "/picture": (200, "image/png", _png()),
    "/page": (200, "text/html; charset=utf-8", b"\n<!DOCTYPE html><html>Please log in</html>"),
    "/json": (200, "application/json", b'{"error": "gone"}'),
    "/nothing": (200, "image/png", b""),
    "/gone": (404, "text/plain", b"no"),
}


class Server(BaseHTTPRequestHandler):
    """Answers by path; `/to?ADDRESS` redirects to the address."""

    def do_GET(self):
        if self.path.startswith("/to?"):
            self.send_response(302)
            self.send_header("Location", unquote(self.path[4:]))
            self.end_headers()
            return
        status, kind, content = ANSWERS[self.path]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Say nothing."""


answer = Server.do_GET


@pytest.fixture(scope="module")
def server():
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()


def test_a_picture_is_fetched_and_a_trusted_redirect_followed(server):
    assert fetch_picture(f"{server}/picture") == _png()
    assert fetch_picture(f"{server}/to?{server}/picture", allow_private=True) == _png()


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/page", r"a web page \(text/html"),
        ("/json", r"17 bytes that are none \(application/json"),
        ("/nothing", "0 bytes that are none"),
        ("/gone", "HTTP status 404"),
    ],
)
def test_what_is_no_picture_is_named_with_its_address(path, found, server):
    with pytest.raises(AddressError, match=rf"Expected a picture at {server}{path}, found {found}"):
        fetch_picture(f"{server}{path}")


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("http://127.0.0.1/picture", "inside of this network"),
        ("http://2130706433/picture", "inside of this network"),
        ("http://[::1]/picture", "inside of this network"),
        ("http://[::ffff:10.0.0.1]/x", "inside of this network"),
        ("http://[64:ff9b::7f00:1]/x", "inside of this network"),
        ("http://169.254.169.254/latest", "inside of this network"),
        ("http://224.0.0.1/x", "inside of this network"),
        ("http://8.8.8.8:22/x", "found a redirect to port 22 of 8.8.8.8"),
        ("http://8.8.8.8:6379/x", "found a redirect to port 6379"),
        ("http://8.8.8.8:99999/x", "to http or https"),
        ("http://8.8.8.8:nix/x", "to http or https"),
        ("http://8.8.8.8:-1/x", "to http or https"),
        ("file:///etc/passwd", "to http or https"),
        ("ftp://8.8.8.8/x", "to http or https"),
    ],
)
def test_redirects_do_not_lead_inside_or_to_other_services(target, told, server, monkeypatch):
    sent = []
    real = picture_addresses.requests.Session.get
    monkeypatch.setattr(picture_addresses.requests.Session, "get", lambda *a, **k: sent.append(a[1]) or real(*a, **k))
    with pytest.raises(AddressError, match=told):
        fetch_picture(f"{server}/to?{target}")
    assert sent == [f"{server}/to?{target}"]


def test_a_redirect_is_followed_to_the_address_that_was_looked_at_and_the_name_is_not_looked_up_again(
    server, monkeypatch
):
    port, asked, reached = int(server.rpartition(":")[2]), [], []

    def look_up(host, *_, **__):  # a name that leads inside from the second time on
        asked.append(host)
        return [(socket.AF_INET, 1, 6, "", ("8.8.8.8" if len(asked) == 1 else "127.0.0.1", 80))]

    def connect(address, *_, **__):
        reached.append(address)
        return connected((("127.0.0.1", port) if address[0] == "8.8.8.8" else address), 5)

    def connected(address, seconds):
        found = socket.socket()
        found.settimeout(seconds)
        found.connect(address)
        return found

    monkeypatch.setattr("urllib3.util.connection.create_connection", connect)
    monkeypatch.setattr(picture_addresses.socket, "getaddrinfo", look_up)
    hosts = []
    monkeypatch.setattr(Server, "do_GET", lambda self: hosts.append(self.headers["Host"]) or answer(self))
    assert fetch_picture(f"{server}/to?http://pictures.example/picture") == _png()
    assert asked == ["pictures.example"] and hosts[-1] == "pictures.example"
    assert reached == [("127.0.0.1", port), ("8.8.8.8", 80)]


INSIDE = (
    "127.0.0.1 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1 239.255.255.250 240.0.0.1 "
    "255.255.255.255 198.18.0.1 ::1 :: fe80::1%eth0 fc00::1 ff02::1 ff0e::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 "
    "::127.0.0.1 64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 2002:7f00:1:: 2002:a00:1:: fec0::1"
)  # fmt: skip


@pytest.mark.parametrize("address", INSIDE.split())
def test_addresses_that_are_not_of_the_internet(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::", "2606:4700::1111"]
)
def test_addresses_of_the_internet(address):
    assert is_public(address)
