"""Programs and libraries from PyPI, in a venv of a test's own."""

import subprocess
import venv


def programs(home, *packages):
    """The folder of the venv's programs, with the packages installed. None, said loudly, where PyPI cannot be
    reached: a test exits with 77 then."""
    note = home / "installed.txt"
    wanted = "\n".join(packages)
    if note.exists() and note.read_text() == wanted:
        return home / "bin"
    venv.create(home, with_pip=True, clear=True)
    done = subprocess.run([home / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check",
                           "--retries", "1", "--timeout", "20", *packages], capture_output=True, text=True)
    if done.returncode != 0:
        print(f"SKIPPED: {', '.join(packages)}: cannot be installed from PyPI: {done.stderr.strip()[-300:]}")
        return None
    note.write_text(wanted)
    return home / "bin"
