"""A small web server for tests: ranges, slowness, broken connections, and S3 with real signatures.

It runs in a process of its own (``python -m tests.serving FOLDER``), for GDAL holds Python's lock while it
reads a header. What a URL does is said in its path: ``/MODE/KEY/NAME`` is the file NAME served as MODE says.
KEY tells requests of one test from another's: GDAL remembers URLs, and the server counts per key.

fast             ranges, ETag
plain            no ranges
slow             each request waits, and then trickles
drop-N           N answers with pixels in them break off in the middle (all, without N)
code-CODE-N      N requests for pixels fail with a status (all, without N)
all-CODE         every request does
stall            never answers
s3               /s3/KEY/NAME as bucket KEY of an S3 server, for the credentials of `S3_KEYS`
"""

from __future__ import annotations

import hashlib
import hmac
import http.server
import json
import re
import socket
import sys
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, unquote, urlsplit

S3_KEYS = ("AKTEST", "secret+of/tests")
PIXELS_FROM = 16384
"""GDAL reads a header with the first 16 KiB; what comes after is pixels."""


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one request."""

    protocol_version = "HTTP/1.1"
    folder: Path
    requests: ClassVar = defaultdict(list)
    failed: ClassVar = Counter()
    lock = threading.Lock()

    def do_GET(self):
        self.serve(body=True)

    def do_HEAD(self):
        self.serve(body=False)

    def do_PUT(self):
        """Replace a file; or, of `/requests/KEY`, give what was asked for and forget it."""
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        _, mode, key, *rest = unquote(urlsplit(self.path).path).split("/")
        if mode == "requests":
            with self.lock:
                said = json.dumps(self.requests.pop(key, []))
            self.answer(200, said.encode())
        else:
            (self.folder / "/".join(rest)).write_bytes(data)
            self.answer(200, b"")

    def serve(self, *, body):
        parts = unquote(urlsplit(self.path).path).split("/")
        mode, key, *rest = [*parts[1:], "", ""]
        name = "/".join(rest).strip("/")
        span = self.headers.get("Range", "")
        with self.lock:
            self.requests[key].append([self.command, name, span])
        start = int(match[1]) if (match := re.match(r"bytes=(\d+)-", span)) else 0
        if mode == "stall":
            time.sleep(30)
            self.close_connection = True
            return None
        if mode == "slow":
            time.sleep(0.1)
        if mode.startswith("all-"):
            return self.answer(int(mode[4:]), b"", body=body)
        if mode == "s3" and not self.signed():
            text = b"<Error><Code>SignatureDoesNotMatch</Code><Message>no such signature</Message></Error>"
            return self.answer(403, text, body=body)
        file = self.folder / name
        if not name or not file.is_file():
            return self.answer(404, b"", body=body)
        pixels = body and start >= PIXELS_FROM
        if pixels and mode.startswith("code-") and self.fails(key, mode.split("-")[2:]):
            return self.answer(int(mode.split("-")[1]), b"", body=body)
        broken = pixels and mode.startswith("drop") and self.fails(key, mode.split("-")[1:])
        return self.file(file.read_bytes(), span if mode != "plain" else "", mode, body=body, broken=broken)

    def fails(self, key, times):
        with self.lock:
            self.failed[key] += 1
            return not times or self.failed[key] <= int(times[0])

    def file(self, data, span, mode, *, body, broken):
        match = re.match(r"bytes=(\d+)-(\d*)", span)
        first = int(match[1]) if match else 0
        last = min(int(match[2]) if match and match[2] else len(data) - 1, len(data) - 1)
        part = data[first : last + 1]
        self.send_response(206 if match else 200)
        self.send_header("Content-Length", str(len(part)))
        if mode != "plain":
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()[:16]}"')
        if match:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.end_headers()
        if broken:
            self.wfile.write(part[: len(part) // 2])
            self.wfile.flush()
            # closed with a reset and not with an end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.close_connection = True
            self.connection.close()
        elif body:
            for i in range(0, len(part), 32768):
                self.wfile.write(part[i : i + 32768])
                if mode == "slow":
                    time.sleep(0.02)

    def answer(self, status, data, *, body=True):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def signed(self):
        """Whether a request carries the signature of `S3_KEYS` (AWS's version 4)."""
        match = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d+)/([^/]+)/s3/aws4_request,\s*"
            r"SignedHeaders=([^,]+),\s*Signature=([0-9a-f]+)",
            self.headers.get("Authorization", ""),
        )
        if match is None or match[1] != S3_KEYS[0]:
            return False
        _, day, region, names, signature = match.groups()
        split = urlsplit(self.path)
        request = "\n".join([
            self.command,
            quote(unquote(split.path), safe="/-_.~"),
            "&".join(sorted(q if "=" in q else f"{q}=" for q in split.query.split("&") if q)),
            *(f"{n}:{' '.join(self.headers.get(n, '').split())}" for n in names.split(";")),
            "",
            names,
            self.headers.get("x-amz-content-sha256", ""),
        ])  # fmt: skip
        scope = f"{day}/{region}/s3/aws4_request"
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{self.headers.get('x-amz-date')}\n{scope}\n{digest}"
        key = f"AWS4{S3_KEYS[1]}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.compare_digest(hmac.digest(key, text.encode(), "sha256").hex(), signature)

    def log_message(self, *_):
        """Say nothing."""


def main():
    Handler.folder = Path(sys.argv[1])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()  # until the test's process ends


if __name__ == "__main__":
    main()
