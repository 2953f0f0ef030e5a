#!/usr/bin/env python3
"""What others put into a bucket is served as it is: boto3, beside curl, against `loracle serve`.

    seaweed.py <folder> python3 foreign_s3.py <folder for the venv> <loracle>

Adapters are put by curl, by boto3 in one piece, and by boto3 in several, so that the ETag is no MD5; loaded;
and what lies in the cache is compared with what boto3 downloads. Then boto3 changes one and deletes another.
Prints a line a check; exits with 1 if one failed, with 77 where PyPI cannot be reached.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
import pypi  # noqa: E402
import s3_scene  # noqa: E402
from cache_watch import holds  # noqa: E402
from s3_scene import check  # noqa: E402
from versioned_bucket import CONFIG, WEIGHTS, digest  # noqa: E402

BUCKET, PREFIX = "foreign", "adapters"
MODEL = "llama-3.1-8b"  # of rank 4, weights are 21 MB: more than one part, for boto3 and for loracle


def connect(home):
    programs = pypi.programs(home, "boto3")
    if programs is None:
        sys.exit(77)
    sys.path += map(str, home.glob("lib*/python*/site-packages"))
    import boto3
    from boto3.s3.transfer import TransferConfig
    key, secret = s3_scene.KEYS
    client = boto3.client("s3", endpoint_url=s3_scene.ENDPOINT, aws_access_key_id=key,
                          aws_secret_access_key=secret, region_name="us-east-1")
    return client, TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)


def key_of(name, file):
    return f"{PREFIX}/{name}/{file}"


def put_whole(client, adapter, name):
    for file in (WEIGHTS, CONFIG):
        client.put_object(Bucket=BUCKET, Key=key_of(name, file), Body=(adapter / file).read_bytes())


def put_in_parts(client, parts, adapter, name):
    for file in (WEIGHTS, CONFIG):
        client.upload_file(str(adapter / file), BUCKET, key_of(name, file), Config=parts)


def is_served_as_it_lies(server, client, name, folder):
    """Acquires it; whether the cache has what boto3 downloads. Else, what came."""
    status, text = server.use(name)
    if status != 200:
        return False, text
    for file in (CONFIG, WEIGHTS):
        client.download_file(BUCKET, key_of(name, file), str(folder / file))
    pair = tuple(digest((folder / file).read_bytes()) for file in (CONFIG, WEIGHTS))
    return holds(folder / "cache", f"s3://{BUCKET}/{PREFIX}/{name}", pair), "the cache has other bytes"


def main(arguments):
    if len(arguments) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    client, parts = connect(Path(arguments[1]).resolve())
    loracle = arguments[2]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made = s3_scene.make_adapters(loracle, folder / "made", 4, "--ranks", "4", model=MODEL)
        client.create_bucket(Bucket=BUCKET)
        s3_scene.upload(made[0].rename(folder / "by-curl"), f"{BUCKET}/{PREFIX}")
        put_whole(client, made[1], "whole")
        put_in_parts(client, parts, made[2], "in-parts")
        etag = client.head_object(Bucket=BUCKET, Key=key_of("in-parts", WEIGHTS))["ETag"]
        check("boto3 has put an object in parts: its ETag is no MD5", "-" in etag, etag)

        server = s3_scene.Server(loracle, folder, "--lora-dir-prefix", f"s3://{BUCKET}/{PREFIX}",
                                 "--max-loras", "1", "--max-lora-rank", "8", model=MODEL)
        server.wait_ready()
        for name in ("by-curl", "whole", "in-parts"):
            check(f"{name} is served as boto3 downloads it",
                  *is_served_as_it_lies(server, client, name, folder))

        put_in_parts(client, parts, made[3], "whole")
        client.delete_object(Bucket=BUCKET, Key=key_of("by-curl", WEIGHTS))
        client.delete_object(Bucket=BUCKET, Key=key_of("by-curl", CONFIG))
        status, text = server.call("POST", "/v1/refresh_lora_discovery", {})
        check("a refresh sees what boto3 has done", status == 200, text)
        check("what was changed is served anew", *is_served_as_it_lies(server, client, "whole", folder))
        status, text = server.use("by-curl")
        check("what was deleted is gone", status == 404, text)
        check("it ends well", server.stop() == 0)
        if s3_scene.failures:
            print(server.log.read_text()[-4000:])
    return 1 if s3_scene.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
