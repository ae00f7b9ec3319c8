"""A small stand-in for Google Cloud Storage and S3 on the loopback interface: buckets in memory, read only.

It answers what gcsfs (JSON API) and s3fs (XML) ask to list, describe and read objects, also ranges of them, and the
errors of a bucket that is absent, that is closed to this user, or that wants credentials.
"""

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

CLOSED, LOCKED = "closed", "locked"  # buckets: of others (403), and of nobody without credentials (401)
REFUSALS = {
    CLOSED: (403, "AccessDenied", "ann@example.org does not have storage.objects.list access to the bucket."),
    LOCKED: (401, "required", "Anonymous caller does not have storage.objects.list access to the bucket."),
}
_TIME = "2024-01-02T03:04:05.000Z"


class ObjectStores:
    """`with ObjectStores() as stores:` serves `stores.buckets` (name → key → content) at `stores.url`."""

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"stores": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "ObjectStores":
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def environment(self) -> dict[str, str]:
        """Environment variables for a process that shall know no other stores."""
        return {
            "STORAGE_EMULATOR_HOST": self.url,
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_GCE_CHECK": "true",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # gRPC, which this is none of
        }


class _Handler(BaseHTTPRequestHandler):
    stores: ObjectStores
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def _answer(self) -> None:
        self.stores.requests.append(f"{self.command} {self.path}")
        parts = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        google = re.fullmatch(r"/(?:download/)?storage/v1/b/([^/]+)(?:/o)?(?:/(.+))?", parts.path)
        bucket, _, key = parts.path.strip("/").partition("/")
        if google:
            bucket, key = google[1], google[2] or ""
        bucket, key = unquote(bucket), unquote(key)
        if bucket in REFUSALS:
            self._refuse(bool(google), *REFUSALS[bucket])
        elif bucket not in self.stores.buckets:
            self._refuse(bool(google), 404, "NoSuchBucket", "The specified bucket does not exist.")
        elif not key:
            found, folders = _listed(self.stores.buckets[bucket], asked)
            self._send(*(_json_list(found, folders, bucket) if google else _xml_list(found, folders)))
        elif key not in self.stores.buckets[bucket]:
            self._refuse(bool(google), 404, "NoSuchKey", "The specified key does not exist.")
        elif google and "alt" not in asked:
            self._send(json.dumps(_facts(bucket, key, self.stores.buckets[bucket][key])).encode(), "application/json")
        else:
            self._send_content(self.stores.buckets[bucket][key])

    def _refuse(self, google: bool, status: int, code: str, message: str) -> None:
        if google:
            error = {"error": {"code": status, "message": message, "errors": [{"reason": code, "message": message}]}}
            self._send(json.dumps(error).encode(), "application/json", status)
        else:
            xml = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
            self._send(xml.encode(), "application/xml", status)

    def _send_content(self, content: bytes) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not wanted:
            self._send(content, "application/octet-stream", ETag=_etag(content))
            return
        first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
        ranged = f"bytes {first}-{last}/{len(content)}"
        self._send(
            content[first : last + 1], "application/octet-stream", 206, ETag=_etag(content), **{"Content-Range": ranged}
        )

    def _send(self, body: bytes, kind: str, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.send_header("Last-Modified", "Tue, 02 Jan 2024 03:04:05 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _listed(objects: dict[str, bytes], asked: dict[str, str]) -> tuple[dict[str, bytes], list[str]]:
    """Return the objects under a prefix, and what lies behind a further delimiter as folders."""
    prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter", "")
    found, folders = {}, set()
    for key, content in sorted(objects.items()):
        if key.startswith(prefix):
            head, cut, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            if cut:
                folders.add(prefix + head + cut)
            else:
                found[key] = content
    return found, sorted(folders)


def _facts(bucket: str, key: str, content: bytes) -> dict[str, Any]:
    facts = {"kind": "storage#object", "bucket": bucket, "name": key, "size": str(len(content)), "generation": "1"}
    return facts | {"updated": _TIME, "timeCreated": _TIME, "etag": _etag(content), "contentType": "text/plain"}


def _json_list(found: dict[str, bytes], folders: list[str], bucket: str) -> tuple[bytes, str]:
    items = [_facts(bucket, key, content) for key, content in found.items()]
    return json.dumps({"kind": "storage#objects", "items": items, "prefixes": folders}).encode(), "application/json"


def _xml_list(found: dict[str, bytes], folders: list[str]) -> tuple[bytes, str]:
    lines = ["<?xml version='1.0'?><ListBucketResult><IsTruncated>false</IsTruncated>"]
    lines.append(f"<KeyCount>{len(found) + len(folders)}</KeyCount>")
    for key, content in found.items():
        facts = f"<Key>{escape(key)}</Key><Size>{len(content)}</Size><ETag>{_etag(content)}</ETag>"
        lines.append(f"<Contents>{facts}<LastModified>{_TIME}</LastModified></Contents>")
    lines += [f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in folders]
    return "".join([*lines, "</ListBucketResult>"]).encode(), "application/xml"


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'
