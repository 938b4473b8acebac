"""Runs a program at a terminal of its own: terminal.py PROGRAM ARGS… < script.  Prints what it showed, then its exit code.

Script lines: `send TEXT` (with \\r, \\x03 and the like), `see TEXT` (wait until shown, at most 20 s), `signal NAME`, `wait`,
`cooked` (what a shell does to the terminal of a stopped program).
"""
import os
import pty
import re
import select
import signal
import sys
import termios
import time


def main():
    script = [line.rstrip("\n") for line in sys.stdin]
    pid, fd = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execv(sys.argv[1], sys.argv[1:])
    shown, seen = "", 0
    for line in script:
        verb, _, text = line.partition(" ")
        text = text.encode().decode("unicode_escape").encode("latin-1").decode("utf-8", "replace")
        if verb == "send":
            time.sleep(0.05)  # libedit shows its prompt before it makes the terminal raw
            os.write(fd, text.encode())
        elif verb == "signal":
            os.kill(pid, getattr(signal, text))
        elif verb == "cooked":
            modes = termios.tcgetattr(fd)
            modes[3] |= termios.ICANON | termios.ECHO
            termios.tcsetattr(fd, termios.TCSANOW, modes)
        elif verb == "wait":
            time.sleep(0.3)
        else:
            deadline = time.monotonic() + 20
            while text not in shown[seen:] and time.monotonic() < deadline:
                shown += read(fd)
            at = shown.find(text, seen)
            if at < 0:
                shown += f"\n[{text!r} was not shown]\n"
                break
            seen = at + len(text)
    deadline = time.monotonic() + 20
    done = 0
    while not done and time.monotonic() < deadline:
        shown += read(fd)
        done, status = os.waitpid(pid, os.WNOHANG)
    if not done:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    shown += read(fd)
    print(re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", shown).replace("\r", ""))
    print("exit", os.waitstatus_to_exitcode(status) if done else "never")


def read(fd):
    if not select.select([fd], [], [], 0.1)[0]:
        return ""
    try:
        return os.read(fd, 65536).decode("utf-8", "replace")
    except OSError:  # the program has closed the terminal
        return ""


main()
