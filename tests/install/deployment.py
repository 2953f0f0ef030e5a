#!/usr/bin/env python3
"""Checks the files for deployment against the binary they deploy.

    deployment.py <engine/package/deploy> <loracle> <build folder> <cpack>

The systemd unit's flags, the settings in the Kubernetes manifest, the metrics of the Grafana dashboard and
the probes' paths must be ones that `loracle serve` knows; the Debian package must unpack to a binary that
runs.
Prints a line a check. Exits with 1 if one failed.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.request

DEPLOY = pathlib.Path(sys.argv[1])
LORACLE, BUILD, CPACK = sys.argv[2:5]
failures = 0


def check(what, good, detail=""):
    global failures
    failures += not good
    print(f"{'ok' if good else 'FAILED'}: {what} {'' if good else detail}".rstrip())


def run(*arguments, **more):
    return subprocess.run([LORACLE, *arguments], capture_output=True, text=True, timeout=60, **more)


def served(folder):
    """A server on `folder`, its address, and what it says to GETs."""
    command = [LORACLE, "serve", "--port", "0", "--device", "host", "--lora-dir-prefix", folder]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    line = server.stdout.readline()
    found = re.search(r"http://\S+", line)
    return server, found.group(0) if found else None


def unit():
    text = (DEPLOY / "loracle.service").read_text()
    sections = re.findall(r"^\[(\w+)\]$", text, re.M)
    check("unit: sections", sections == ["Unit", "Service", "Install"], sections)
    settings = [line for line in text.splitlines() if line and line[0] not in "#["]
    check("unit: every line is a setting", all(re.match(r"[A-Z]\w*=", line) for line in settings))
    command = re.search(r"^ExecStart=(.*)$", text, re.M).group(1).split()
    check("unit: runs loracle serve", command[:2] == ["/usr/bin/loracle", "serve"], command[:2])
    known = set(re.findall(r"--[a-z][a-z0-9-]*", run("serve", "--help").stdout))
    unknown = [word for word in command if word.startswith("--") and word not in known]
    check("unit: its flags are known", not unknown, unknown)


def manifest(paths):
    text = (DEPLOY / "kubernetes.yaml").read_text()
    toml = re.search(r"loracle\.toml: \|\n((?:    .*\n|\n)+)", text).group(1)
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(re.sub(r"^    ", "", toml, flags=re.M))
        file.flush()
        shown = run("config", "show", "--config", file.name)
    check("manifest: its settings are known", shown.returncode == 0, shown.stderr)
    probes = re.findall(r"httpGet: \{path: (\S+),", text) + re.findall(r"prometheus.io/path: (\S+)", text)
    check("manifest: its paths are served", probes and all(path in paths for path in probes), probes)
    try:
        import yaml
    except ImportError:
        print("SKIPPED: the manifest's syntax: no Python module yaml")
        return
    kinds = [document["kind"] for document in yaml.safe_load_all(text)]
    check("manifest: its documents", kinds == ["ConfigMap", "Deployment", "Service"], kinds)


def dashboard(metrics):
    known = set(re.findall(r"^# TYPE (\S+)", metrics, re.M))
    board = json.loads((DEPLOY / "grafana.json").read_text())
    used = set()
    for panel in board["panels"]:
        for target in panel["targets"]:
            used |= set(re.findall(r"\b(?:loracle|vllm)[a-z_:]+", target["expr"]))
    unknown = sorted(name for name in used if re.sub(r"_(bucket|sum|count)$", "", name) not in known)
    check(f"dashboard: its {len(used)} metrics are exported", used and not unknown, unknown)
    ids = [panel["id"] for panel in board["panels"]]
    check("dashboard: ids are unique", len(ids) == len(set(ids)))


def package():
    with tempfile.TemporaryDirectory() as folder:
        made = subprocess.run([CPACK, "-G", "DEB", "-B", folder, "--config", f"{BUILD}/CPackConfig.cmake"],
                              capture_output=True, text=True, timeout=300, cwd=BUILD)
        packages = list(pathlib.Path(folder).glob("*.deb"))
        check("package: is made", made.returncode == 0 and len(packages) == 1, made.stdout + made.stderr)
        if len(packages) != 1:
            return
        tree = pathlib.Path(folder) / "tree"
        subprocess.run(["dpkg", "-x", str(packages[0]), str(tree)], check=True)
        version = subprocess.run([tree / "usr/bin/loracle", "--version"], capture_output=True, text=True)
        check("package: unpacked, it runs", version.stdout.startswith("loracle "), version.stderr)
        for name in ("lib/systemd/system/loracle.service", "usr/lib/systemd/system/loracle.service"):
            if (tree / name).exists():
                break
        check("package: has the unit", (tree / name).exists())
        depends = subprocess.run(["dpkg-deb", "-f", packages[0], "Depends"], capture_output=True, text=True)
        check("package: names the libraries it needs", "libsqlite3" in depends.stdout, depends.stdout)


def main():
    with tempfile.TemporaryDirectory() as folder:
        made = run("make-adapters", f"{folder}/adapters", "--count", "1", "--model", "tiny")
        check("an adapter is made", made.returncode == 0, made.stderr)
        server, address = served(f"{folder}/adapters")
        try:
            check("the server starts", address is not None)
            get = lambda path: urllib.request.urlopen(address + path, timeout=20).read().decode()
            metrics = get("/metrics")
            paths = json.loads(get("/openapi.json"))["paths"]
        finally:
            server.terminate()
            check("the server ends well", server.wait(timeout=60) == 0)
    unit()
    manifest(paths)
    dashboard(metrics)
    package()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
