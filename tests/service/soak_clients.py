"""Clients of `loracle serve` that do at random whatever clients do, and look hard at every answer."""

import http.client
import json
import random
import re
import socket
import struct
import threading
import time
from collections import Counter

CLIENTS = 6
LEASE_S = 20
ABANDONED_LEASE_S = 2  # nobody knows its id
ANSWER_S_MAX = 120     # of any request: rounds of discovery wait for each other, and each for a bad bucket
ANY_ROUTE_MAY = {400, 408, 411, 413, 414, 415, 431, 503}  # as /openapi.json says in its first words
PINNED_NAMES = 2       # more would leave others no slot


class SlotBook:
    """Which adapter each slot holds, by the leases that are out."""

    def __init__(self):
        self._lock = threading.Lock()
        self._leases = {}  # id: (slot, lora_int_id, until)

    def clear(self):
        with self._lock:
            self._leases.clear()

    def add(self, lease, slot, lora_int_id, until):
        """The adapter that another lease has in the same slot; None if there is none."""
        with self._lock:
            now = time.monotonic()
            other = next((held for held in self._leases.values()
                          if held[0] == slot and held[1] != lora_int_id and held[2] > now), None)
            self._leases[lease] = (slot, lora_int_id, until)
            return other and other[1]

    def remove(self, lease):
        with self._lock:
            self._leases.pop(lease, None)


class Fleet:
    """What the clients share. `ranks`: of every adapter by name; None for names that have had several."""

    def __init__(self, seed, ranks, uris, fail):
        self.ranks, self.uris, self.fail = ranks, uris, fail
        self.found_names = [name for name, rank in ranks.items() if rank]
        self.own_names = [name for name, rank in ranks.items() if not rank]
        self.slots = SlotBook()
        self.counts = Counter()
        self.slowest_s = 0.0
        self.granted = 0
        self.go = threading.Event()
        self.over = threading.Event()
        self.idle = [threading.Event() for _ in range(CLIENTS)]
        self._server = None  # address, generation
        self._generation = 0
        self._answers = {}
        self._threads = [threading.Thread(target=Client(self, seed, number).run, daemon=True)
                         for number in range(CLIENTS)]

    def start(self):
        for thread in self._threads:
            thread.start()

    def serve_at(self, address):
        if address is None:
            self._server = None
            self.slots.clear()
            return
        self._generation += 1
        self._server = (address.removeprefix("http://"), self._generation)
        described = self.call("GET", "/openapi.json")[1]
        self._answers = {(method.upper(), path): {int(status) for status in route["responses"]}
                         for path, routes in described["paths"].items() for method, route in routes.items()}

    def pause(self):
        self.go.clear()
        for event in self.idle:
            if not event.wait(2 * ANSWER_S_MAX):
                self.fail("a client hangs")

    def resume(self):
        self.go.set()

    def server(self):
        return self._server

    def call(self, method, path, body=None, route=None):
        """Status and body; None if the server was killed meanwhile."""
        server = self._server
        if server is None:
            time.sleep(0.1)
            return None
        begun = time.monotonic()
        connection = http.client.HTTPConnection(server[0], timeout=ANSWER_S_MAX + 60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body),
                               {"Content-Type": "application/json"})
            reply = connection.getresponse()
            data = reply.read()
        except (OSError, http.client.HTTPException) as error:
            if self._server == server:
                self.fail(f"{method} {path}: {error!r}")
            return None
        finally:
            connection.close()
        took_s = time.monotonic() - begun
        self.slowest_s = max(self.slowest_s, took_s)
        if took_s > ANSWER_S_MAX:
            self.fail(f"{method} {path}: answered after {took_s:.1f} s")
        return reply.status, self._read(method, path, route or path.split("?")[0], reply, data)

    def _read(self, method, path, route, reply, data):
        """The body, after it was compared with what the description says of such answers."""
        self.counts[f"{method} {route} {reply.status}"] += 1
        documented = self._answers.get((method, route), {200}) | ANY_ROUTE_MAY
        if reply.status not in documented:
            self.fail(f"{method} {path}: {reply.status} is not described: {data[:300]}")
        try:
            is_json = reply.getheader("Content-Type", "").startswith("application/json")
            body = json.loads(data) if is_json or reply.status >= 400 else data.decode()
            if reply.status >= 400:
                error = body["error"]
                if error["code"] != reply.status or not error["message"] or not error["type"]:
                    raise ValueError("no typed error")
            return body
        except (ValueError, KeyError, TypeError) as error:
            self.fail(f"{method} {path}: {reply.status}: {error!r}: {data[:300]}")
            return {}


class Client:
    def __init__(self, fleet, seed, number):
        self.fleet, self.draws, self.number = fleet, random.Random(f"{seed} client {number}"), number
        weights = {self.acquire: 40, self.acquire_two: 6, self.prefetch: 8, self.pin: 4, self.load: 5,
                   self.unload: 4, self.refresh: 3, self.look: 12, self.resolve: 4, self.hang_up: 8,
                   self.send_nonsense: 2}
        self.deeds, self.weights = list(weights), list(weights.values())

    def run(self):
        idle = self.fleet.idle[self.number]
        while not self.fleet.over.is_set():
            if not self.fleet.go.is_set():
                idle.set()
                self.fleet.go.wait(0.2)
                continue
            idle.clear()
            try:
                self.draws.choices(self.deeds, self.weights)[0]()
            except Exception as error:  # the client's own fault: it must not die unseen
                self.fleet.fail(f"a client raised {error!r}")
            time.sleep(0.02 * self.draws.random())
        idle.set()

    def name(self):
        return self.draws.choice(list(self.fleet.ranks))

    def of_adapter(self, method, name, verb="", body=None):
        route = "/v1/adapters/{name}" + verb
        return self.fleet.call(method, route.format(name=name), body, route)

    def acquire(self):
        name = self.name()
        body = {"timeout_s": self.draws.choice((0, 0.05, 0.5, 3)), "ttl_s": LEASE_S}
        self.hold(self.of_adapter("POST", name, "/acquire", body), [name])

    def acquire_two(self):
        names = self.draws.sample(list(self.fleet.ranks), 2)
        self.hold(self.fleet.call("POST", "/v1/acquire", {"adapters": names, "timeout_s": 2,
                                                          "ttl_s": LEASE_S}), names)

    def hold(self, answer, names):
        """Uses a lease for a while, then lets go of it."""
        if answer is None or answer[0] != 200:
            return
        server = self.fleet.server()
        lease, until = answer[1]["lease"], time.monotonic() + LEASE_S / 2
        self.fleet.granted += 1
        held = answer[1].get("adapters", [answer[1]])
        for number, (adapter, name) in enumerate(zip(held, names)):
            rank = self.fleet.ranks[name]
            if adapter["name"] != name or (rank and adapter["rank"] != rank):
                self.fleet.fail(f"{name} of rank {rank} was asked for, and the lease is of {adapter}")
            other = self.fleet.slots.add((lease, number), adapter["slot"], adapter["lora_int_id"], until)
            if other is not None:
                self.fleet.fail(f"slot {adapter['slot']} is leased for {other} and {adapter['lora_int_id']}")
        time.sleep(0.2 * self.draws.random() ** 3)
        if self.draws.random() < 0.2:
            self.fleet.call("POST", "/v1/renew", {"lease": lease, "ttl_s": LEASE_S})
        for number in range(len(held)):
            self.fleet.slots.remove((lease, number))
        ended = self.fleet.call("POST", "/v1/release", {"lease": lease})
        if ended and ended[0] != 200 and self.fleet.server() == server:
            self.fleet.fail(f"a lease of {names} could not be released: {ended}")

    def prefetch(self):
        self.of_adapter("POST", self.name(), "/prefetch", {"tier": self.draws.choice(("host", "device"))})

    def pin(self):
        name = self.draws.choice(self.fleet.found_names[:PINNED_NAMES])
        self.of_adapter("POST", name, "/pin", {"tier": self.draws.choice(("host", "device")), "timeout_s": 2})
        time.sleep(0.2 * self.draws.random())
        self.of_adapter("POST", name, "/unpin", {})

    def load(self):
        self.fleet.call("POST", "/v1/load_lora_adapter",
                        {"lora_name": self.draws.choice(self.fleet.own_names),
                         "lora_path": self.draws.choice(self.fleet.uris),
                         "load_inplace": self.draws.random() < 0.7})

    def unload(self):
        # What a resolver finds comes back when somebody asks for it.
        names = self.fleet.own_names if self.draws.random() < 0.6 else self.fleet.found_names
        self.fleet.call("POST", "/v1/unload_lora_adapter", {"lora_name": self.draws.choice(names)})

    def refresh(self):
        self.fleet.call("POST", "/v1/refresh_lora_discovery", {})

    def look(self):
        path = self.draws.choice(("/v1/models", "/v1/adapters", "/v1/stats", "/metrics", "/readyz", "name"))
        if path == "name":
            self.of_adapter("GET", self.name())
        else:
            self.fleet.call("GET", path)

    def resolve(self):
        name = self.draws.choice((self.name(), "nobody", "nobody-2"))
        answer = self.fleet.call("GET", f"/v1/resolve?name={name}")
        if answer and answer[0] == 200 and answer[1]["uri"] not in self.fleet.uris:
            self.fleet.fail(f"{name} is said to be at {answer[1]['uri']}")

    def send_nonsense(self):
        answer = self.of_adapter("POST", self.name(), "/acquire", {"timeout": 1})
        if answer and answer[0] != 400:
            self.fleet.fail(f"an unknown key was answered with {answer}")

    def hang_up(self):
        """In the request's head, in its body, before the answer, or in the middle of it."""
        server = self.fleet.server()
        if server is None:
            return
        body = json.dumps({"timeout_s": 2, "ttl_s": ABANDONED_LEASE_S})
        post = (f"POST /v1/adapters/{self.name()}/acquire HTTP/1.1\r\nHost: x\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}")
        get = "GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
        text = self.draws.choice((post[:30], post[:-5], post, post, get))
        host, port = re.fullmatch(r"(.*):(\d+)", server[0]).groups()
        try:
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                connection.sendall(text.encode())
                if text is get:
                    connection.recv(100)
                time.sleep(0.3 * self.draws.random() ** 2)
                if self.draws.random() < 0.5:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError as error:
            if self.fleet.server() == server:
                self.fleet.fail(f"the server did not take a connection: {error!r}")
        self.fleet.counts["hung up"] += 1
