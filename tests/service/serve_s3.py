#!/usr/bin/env python3
"""`loracle serve` out of a bucket, end to end: run by tests/storage/seaweed.py, which starts the S3 server.

    seaweed.py <folder> python3 serve_s3.py <loracle>

Adapters are made, put into the bucket by curl, discovered, acquired, loaded by a client, and served on while
the bucket is gone. Prints a line a check; exits with 1 if one failed.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import s3_scene
from s3_scene import check

LORACLE = sys.argv[1]


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        adapters = s3_scene.make_adapters(LORACLE, folder / "adapters", 4)
        s3_scene.put(None, "served")
        for adapter in adapters[:3]:
            s3_scene.upload(adapter, "served/adapters")
        s3_scene.upload(adapters[3], "served/more")
        flags = ("--max-loras", "1", "--lora-dir-prefix", "s3://served/adapters")

        server = s3_scene.Server(LORACLE, folder, *flags)
        wanted = {adapter.name for adapter in adapters[:3]}
        server.wait_ready()
        check("a prefix of a bucket is discovered", wanted <= server.names(), server.names())
        for adapter in wanted:
            status, text = server.use(adapter)
            check(f"{adapter} is served", status == 200, text)

        last = adapters[3].name
        status, text = server.call("POST", "/v1/load_lora_adapter",
                                   {"lora_name": last, "lora_path": f"s3://served/more/{last}"})
        check("a client loads from s3://", (status, text) ==
              (200, f"Success: LoRA adapter '{last}' added successfully."), (status, text))
        check("it is served", server.use(last)[0] == 200)
        status, text = server.call("POST", "/v1/load_lora_adapter",
                                   {"lora_name": "none", "lora_path": "s3://served/more/none"})
        check("what is not there is 404", status == 404, (status, text))
        status, text = server.call("POST", "/v1/refresh_lora_discovery", {})
        check("a refresh finds nothing new", status == 200 and json.loads(text)["discovered_adapters"] == [],
              text)

        (s3_scene.CONTROL / "restart").touch()
        for adapter in sorted(wanted):  # the one slot changes hands each time, from the cache on disk
            status, text = server.use(adapter)
            check(f"{adapter} is served while the bucket restarts", status == 200, text)
        s3_scene.wait_for_restart()
        check("it ends well", server.stop() == 0)
        leftovers = list((folder / "cache/staging").iterdir())
        check("no temporary file is left", not leftovers, leftovers)

        again = s3_scene.Server(LORACLE, folder, *flags)
        for _ in range(60):  # the bucket is back for longer than its files are
            if wanted <= again.names():
                break
            time.sleep(0.5)
            again.call("POST", "/v1/refresh_lora_discovery", {})
        answers = [again.use(adapter) for adapter in sorted(wanted)]
        check("after a restart, all are served", all(status == 200 for status, _ in answers), answers)
        check("it ends well again", again.stop() == 0)
        if s3_scene.failures:
            print(again.log.read_text()[-4000:])
    return 1 if s3_scene.failures else 0


if __name__ == "__main__":
    sys.exit(main())
