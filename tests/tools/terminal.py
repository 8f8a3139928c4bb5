"""A terminal for a test: runs a command in one, sends keys and signals, and shows the screen as a person sees it.

usage: terminal.py ROWSxCOLUMNS STEP... -- COMMAND...

A step is wait=TEXT (until it is on the screen), gone=TEXT (until it is not), keys=TEXT, size=ROWSxCOLUMNS, signal=NAME
(to the command), kill=PID, show (prints the screen), end (waits for the command; prints what is on the screen then, and
its exit status). What a terminal keeps for later is checked at the end: the cursor is shown, the first page is back,
and the line editing is as it was.
"""
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

PATIENCE = 20


class Screen:
    """As much of a terminal as ashlar top asks for; anything else is an error."""

    def __init__(self, rows, columns):
        self.pages = {}
        self.resize(rows, columns)
        self.alternate = False
        self.cursor = True
        self.pending = b""
        self.unknown = []
        self.colours = 0

    def resize(self, rows, columns):
        self.rows, self.columns = rows, columns
        self.page = [[" "] * columns for _ in range(rows)]
        self.row = self.column = 0

    def control(self, text):
        what, numbers = text[-1], text[:-1]
        if text == "?1049h" or text == "?1049l":
            self.pages[self.alternate] = self.page, self.row, self.column
            self.alternate = what == "h"
            blank = [[" "] * self.columns for _ in range(self.rows)], 0, 0
            self.page, self.row, self.column = self.pages.pop(self.alternate, blank)
        elif text in ("?25l", "?25h"):
            self.cursor = what == "h"
        elif text == "H":
            self.row = self.column = 0
        elif text == "K":
            self.page[self.row][self.column:] = [" "] * (self.columns - self.column)
        elif text in ("J", "2J"):
            if text == "J":
                self.page[self.row][self.column:] = [" "] * (self.columns - self.column)
            for row in self.page[self.row + 1 if text == "J" else 0:]:
                row[:] = [" "] * self.columns
        elif what == "m":
            self.colours += any(n not in ("", "0") for n in numbers.split(";"))
        else:
            self.unknown.append(text)

    def put(self, c):
        if c == "\r":
            self.column = 0
        elif c == "\n":
            if self.row == self.rows - 1:
                self.page = self.page[1:] + [[" "] * self.columns]
            else:
                self.row += 1
        elif c >= " ":
            if self.column == self.columns:
                self.column = 0
                self.put("\n")
            if self.row < self.rows and self.column < self.columns:
                self.page[self.row][self.column] = c
            self.column += 1
        else:
            self.unknown.append(c)

    def feed(self, data):
        data = self.pending + data
        self.pending = b""
        at = 0
        while at < len(data):
            c = data[at]
            if c == 27:
                end = at + 2
                while end < len(data) and not 0x40 <= data[end] <= 0x7e:
                    end += 1
                if end >= len(data):
                    break
                self.control(data[at + 2:end + 1].decode())
                at = end + 1
                continue
            n = 1 if c < 0x80 else 2 if c < 0xe0 else 3 if c < 0xf0 else 4
            if at + n > len(data):
                break
            self.put(data[at:at + n].decode(errors="replace"))
            at += n
        self.pending = data[at:]

    def text(self):
        return "\n".join("".join(row).rstrip() for row in self.page).rstrip("\n")


def size_of(text):
    rows, columns = text.split("x")
    return int(rows), int(columns)


def main(args):
    cut = args.index("--")
    steps, command = args[1:cut], args[cut + 1:]
    rows, columns = size_of(args[0])
    screen = Screen(rows, columns)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    before = termios.tcgetattr(slave)
    child = os.fork()
    if child == 0:
        os.close(master)
        os.login_tty(slave) if hasattr(os, "login_tty") else become_leader(slave)
        os.execvp(command[0], command)
    ended = []

    def pump(seconds):
        until = time.time() + seconds
        while True:
            left = until - time.time()
            ready, _, _ = select.select([master], [], [], max(left, 0))
            if not ready:
                return
            try:
                screen.feed(os.read(master, 65536))
            except OSError:
                return
            if left <= 0:
                return

    def pump_until(good, what):
        until = time.time() + PATIENCE
        while not good():
            if time.time() > until:
                print(f"{what}: not in {PATIENCE} s")
                print(screen.text())
                os.kill(child, signal.SIGKILL)
                sys.exit(1)
            pump(0.05)

    def reap():
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid != 0:
            ended.append(os.waitstatus_to_exitcode(status))
        return bool(ended)

    for step in steps:
        what, _, value = step.partition("=")
        if what == "wait":
            pump_until(lambda: value in screen.text(), step)
        elif what == "gone":
            pump_until(lambda: value not in screen.text(), step)
        elif what == "keys":
            os.write(master, value.encode())
            pump(0.1)
        elif what == "size":
            screen.resize(*size_of(value))
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size_of(value), 0, 0))
            os.kill(child, signal.SIGWINCH)
            pump(0.3)
        elif what == "signal":
            os.kill(child, getattr(signal, "SIG" + value))
            pump(0.2)
        elif what == "kill":
            os.kill(int(value), signal.SIGKILL)
        elif what == "show":
            pump(0.1)
            print(screen.text())
        elif what == "colours":
            print("colours" if screen.colours else "no colours")
        elif what == "end":
            pump_until(reap, step)
            pump(0.1)
            print(screen.text())
            same = termios.tcgetattr(slave) == before
            good = same and screen.cursor and not screen.alternate and not screen.unknown
            print(f"status {ended[0]}, the terminal is {'as it was' if good else 'not as it was'}", *screen.unknown)


def become_leader(slave):
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in range(3):
        os.dup2(slave, fd)


main(sys.argv[1:])
