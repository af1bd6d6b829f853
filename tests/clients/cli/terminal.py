"""A program whose standard error is a terminal."""
import contextlib
import os
import pty
import subprocess


def run_on_terminal(command):
    """What a program says until its input ends, which is after its first line, and what the terminal shows."""
    terminal, other_end = pty.openpty()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=other_end) as started:
        os.close(other_end)
        said = started.stdout.readline()
        started.stdin.close()
        said += started.stdout.read()
    shown = b""
    with open(terminal, "rb", buffering=0) as file, contextlib.suppress(OSError):  # how the end of a terminal shows
        while data := file.read(65536):
            shown += data
    return said.decode(), shown.decode()
