"""Adapters in a bucket that get new versions; all they ever were is remembered."""

import hashlib
import json
import random
import struct
import subprocess
import threading
import time

import s3_scene

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def digest(data):
    return hashlib.sha256(data).hexdigest()


class Adapter:
    """A folder of the bucket. `pairs`: digests of config and weights that lay there at one time."""

    def __init__(self, template, place):
        self.place = place  # bucket/prefix/name
        self.uri = f"s3://{place}"
        self.uri_sha256 = digest(self.uri.encode())
        self.config = json.loads((template / CONFIG).read_text())
        self.rank = self.config["r"]
        weights = (template / WEIGHTS).read_bytes()
        (header,) = struct.unpack("<Q", weights[:8])
        self.header, self.data_bytes = weights[:8 + header], len(weights) - 8 - header
        self.version = 0
        self.pairs = set()
        self.now = None
        self.lock = threading.Lock()


class VersionedBucket:
    def __init__(self, folder, seed, adapters):
        self.adapters = {adapter.place: adapter for adapter in adapters}
        self.by_uri_sha256 = {adapter.uri_sha256: adapter for adapter in adapters}
        self.is_there = threading.Lock()  # held while the S3 server is gone
        self.uploads = 0
        self.overwrites = 0  # by upload_at, done or failed
        self._counting = threading.Lock()
        self._folder, self._seed = folder, seed
        folder.mkdir()

    def upload(self, adapter):
        """The weights first, then the config: both ways in which they can lie there together are known."""
        with adapter.lock:
            adapter.version += 1
            config, weights = self._make(adapter)
            pair = (digest(config), digest(weights))
            # Before they are there: nobody may see what is not known yet.
            adapter.pairs |= {pair, (adapter.now[0], pair[1])} if adapter.now else {pair}
            self._put(adapter, WEIGHTS, weights)
            self._put(adapter, CONFIG, config)
            adapter.now = pair
        with self._counting:
            self.uploads += 1

    def upload_at(self, path):
        """Of the adapter that a request's path is of: /bucket/prefix/name/file."""
        adapter = self.adapters.get(path.split("?")[0].strip("/").rpartition("/")[0])
        try:
            if adapter:
                self.upload(adapter)
        finally:
            with self._counting:
                self.overwrites += 1

    def _make(self, adapter):
        """Every byte of the weights is new, and every number finite, as bfloat16 and as float32."""
        draws = random.Random(f"{self._seed} {adapter.place} {adapter.version}")
        data = bytearray(draws.randbytes(adapter.data_bytes))
        data[1::2] = data[1::2].translate(bytes(byte & 0x3F for byte in range(256)))
        config = json.dumps({**adapter.config, "lora_alpha": adapter.version}, indent=1)
        return config.encode(), adapter.header + bytes(data)

    def _put(self, adapter, name, data):
        file = self._folder / adapter.place.replace("/", "-")
        file.write_bytes(data)
        for _ in range(60):  # the server may just have come back
            with self.is_there:
                try:
                    return s3_scene.put(file, f"{adapter.place}/{name}")
                except subprocess.CalledProcessError as error:
                    why = error.stderr.decode(errors="replace")
            time.sleep(0.5)
        raise RuntimeError(f"curl could not put {adapter.place}/{name}: {why}")
