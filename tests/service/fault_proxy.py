"""A proxy in front of an S3 server that breaks its answers by a plan made from a seed.

Requests go on as they came, Host included, since that is signed. Each kind of fault strikes at every k-th of
the requests that it can strike, k drawn anew each time: one seed is one plan, whichever threads ask.
"""

import http.client
import random
import socket
import struct
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What strikes before the server is asked, and what is done to its answer; with the least and the largest k.
BEFORE = {"delay": (20, 80), "reset": (20, 80), "error_500": (20, 80), "error_503": (20, 80),
          "overwrite": (20, 80)}
AFTER = {"reset_midway": (10, 50), "cut": (10, 50), "flip": (5, 15), "etag": (8, 28),
         "overwrite_midway": (10, 40)}
EVERY = {**BEFORE, **AFTER}
OF_OBJECTS = {"overwrite", "overwrite_midway", "etag", "flip"}

ERRORS = {"error_500": (500, "InternalError"), "error_503": (503, "SlowDown")}
OTHER_ETAG = '"0123456789abcdef0123456789abcdef"'
DROPPED_HEADERS = {"connection", "transfer-encoding", "content-length"}


class FaultPlan:
    def __init__(self, seed):
        self.is_on = True
        self.hits = Counter(dict.fromkeys(EVERY, 0))
        self._draws = {kind: random.Random(f"{seed} {kind}") for kind in EVERY}
        self._left = {kind: draws.randint(*EVERY[kind]) for kind, draws in self._draws.items()}
        self._lock = threading.Lock()

    def strike(self, kinds):
        """The kind whose turn it is, and a number below 1 that says how; all come a request nearer."""
        with self._lock:
            if not self.is_on:
                return None, 0.0
            for kind in kinds:
                self._left[kind] -= 1
            due = next((kind for kind in kinds if self._left[kind] <= 0), None)
            if due is None:
                return None, 0.0
            self._left[due] = self._draws[due].randint(*EVERY[due])
            self.hits[due] += 1
            return due, self._draws[due].random()


class FaultProxy(ThreadingHTTPServer):
    """`overwrite(path)` puts a new version of the adapter that the request's path is of."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port_behind, plan, overwrite):
        super().__init__(("127.0.0.1", 0), FaultyRelay)
        self.port_behind, self.plan, self.overwrite = port_behind, plan, overwrite
        self.errors = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def shutdown_request(self, request):
        request.close()  # not politely: a reset must be one

    def handle_error(self, request, client_address):
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):  # those are clients that went away
            self.errors.append(repr(error))


class FaultyRelay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.behind = http.client.HTTPConnection("127.0.0.1", self.server.port_behind, timeout=60)

    def finish(self):
        self.behind.close()
        super().finish()

    def do_GET(self):
        plan = self.server.plan
        is_object = "list-type=" not in self.path
        kind, how = plan.strike([k for k in BEFORE if is_object or k not in OF_OBJECTS])
        if kind == "delay":
            time.sleep(0.01 + 2.5 * how**4)  # mostly short; some are beyond the client's patience
        elif kind == "overwrite":
            self.server.overwrite(self.path)
        elif kind == "reset":
            return self.reset()
        elif kind in ERRORS:
            return self.refuse(*ERRORS[kind])
        answer = self.ask()
        if answer is None:
            return self.reset()
        status, headers, body = answer
        if status not in (200, 206) or len(body) < 2 or self.command != "GET":
            return self.answer(status, headers, body)
        # Wrong bytes can be noticed where the server has given a checksum of them.
        has_checksum = any(name.lower().startswith("x-amz-checksum-") for name, _ in headers)
        kind, how = plan.strike([k for k in AFTER if (is_object or k not in OF_OBJECTS)
                                 and (k != "flip" or has_checksum)])
        some = 1 + int(how * (len(body) - 1))
        if kind == "flip":
            body = bytearray(body)
            body[some - 1] ^= 1 << int(how * 8000) % 8
        elif kind == "overwrite_midway":
            self.server.overwrite(self.path)  # the bytes at hand are of the version before
        elif kind == "etag":
            headers = [(name, OTHER_ETAG if name.lower() == "etag" else value) for name, value in headers]
        is_short = kind in ("reset_midway", "cut", "overwrite_midway")
        self.answer(status, headers, body, some if is_short else None)
        if kind == "cut":
            self.close_connection = True
        elif is_short:
            time.sleep(0.01)  # or the kernel would take the bytes back
            self.reset()

    do_HEAD = do_GET

    def ask(self):
        """Status, headers, body; None where nobody answers."""
        for _ in range(2):  # the connection may have been closed since its last use
            try:
                self.behind.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() != "connection":
                        self.behind.putheader(name, value)
                self.behind.endheaders()
                reply = self.behind.getresponse()
                return reply.status, reply.getheaders(), reply.read()
            except (OSError, http.client.HTTPException):
                self.behind.close()
        return None

    def answer(self, status, headers, body, bytes_sent=None):
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in DROPPED_HEADERS:
                self.send_header(name, value)
        length = dict((name.lower(), value) for name, value in headers).get("content-length", len(body))
        self.send_header("Content-Length", length if self.command == "HEAD" else len(body))
        self.end_headers()
        self.wfile.write(body[:bytes_sent])

    def refuse(self, status, code):
        body = f"<Error><Code>{code}</Code><Message>A fault of the plan</Message></Error>".encode()
        self.answer(status, [("Content-Type", "application/xml")], b"" if self.command == "HEAD" else body)

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, *_):
        pass
