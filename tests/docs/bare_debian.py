#!/usr/bin/env python3
"""Follows the README as a newcomer would: in a bare Debian 12 of debootstrap's, from a copy of what git tracks, each of its fences in
the page's order in one shell, with nothing installed but what they install. Wants root, the network, free ports 23333 and 23334.
This machine's compiler cache, if it has one, keeps what is built for the next time. usage: bare_debian.py [FOLDER_FOR_IT]"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from test_snippets import FENCE, ROOT

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"  # of a network that has its own
SKIPPED = 77
SAID = "/said"  # what a fence printed
MODEL = ".cache/models/SmolLM2-135M-Instruct.gguf"

# A chat that somebody types, and the server that all other fences ask.
QUICKSTART = "deploy/quickstart <<< $'Why is the sky blue?\\n\\nexit'\n"
SERVE = "exec 3< <(exec {}); read -r line <&3; echo \"$line\"\n"
TOLD = f"""cat {SAID}\n[ -s {SAID} ]\nif grep -q '"error"' {SAID}; then exit 1; fi\n"""


def shell(language, how, text):
    """A fence as a shell runs it."""
    if how == "serve":
        return SERVE.format(text.strip().replace("path/to/model.gguf", MODEL))
    return text if language == "bash" else f"python3 - <<'PYTHON'\n{text}PYTHON\n"


def script():
    page = pathlib.Path(ROOT, "README.md").read_text(encoding="utf-8")
    steps = [("two commands", QUICKSTART)]
    for match in FENCE.finditer(page):
        line = page[: match.start()].count("\n") + 1
        steps.append((f"README.md:{line}", shell(*match.groups())))
    return "".join(f'echo -e "\\n=== [$SECONDS s] {name}"\n{{\n{text}}} > {SAID}\n{TOLD}' for name, text in steps)


def copy_tree(target):
    target.mkdir(parents=True)
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    for name in tracked.decode().split("\0")[:-1]:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(pathlib.Path(ROOT, name), target / name, follow_symlinks=False)


def run_there(root):
    """The script on the tree, in namespaces that take all its processes and mounts along when they end."""
    copy_tree(root / ROOT.lstrip("/"))  # the same path, under which a compiler cache knows the files
    (root / "page.sh").write_text(f"set -euo pipefail\ncd {ROOT}\n" + script())
    mounts = f"mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev"
    environment = {"HOME": "/root", "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    if os.path.exists(CERTIFICATES):
        shutil.copy(CERTIFICATES, root / "certificates.pem")
        environment["PIP_CERT"] = "/certificates.pem"
    if shutil.which("ccache"):
        cache = subprocess.run(["ccache", "--get-config", "cache_dir"], check=True, capture_output=True, text=True).stdout.strip()
        (root / "ccache").mkdir()
        mounts += f" && mount --bind {cache} {root}/ccache"
        environment["CCACHE_DIR"] = "/ccache"
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", f"{mounts} && exec chroot {root} bash /page.sh"]
    return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False).returncode


def main(parent=None):
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        print("skipped: wants root and debootstrap")
        return SKIPPED
    folder = pathlib.Path(tempfile.mkdtemp(prefix="berth-bare-", dir=parent or "/var/tmp"))
    try:
        subprocess.run(["debootstrap", "--variant=minbase", "bookworm", folder / "root"], check=True, stdout=subprocess.DEVNULL)
        return run_there(folder / "root")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
