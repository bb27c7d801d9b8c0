"""Tells, as JSON, what the kernel answers to system calls that would break out of a container, and to sockets that its
network does not confine. Run in the container; the first argument of each call is a process that exists."""

import ctypes
import errno
import json
import os
import platform
import socket

NUMBERS = {
    "x86_64": {
        "mount": 165, "pivot_root": 155, "chroot": 161, "add_key": 248, "keyctl": 250, "unshare": 272,
        "perf_event_open": 298, "open_by_handle_at": 304, "setns": 308, "bpf": 321, "userfaultfd": 323,
        "clone3": 435,
    },
    "aarch64": {
        "mount": 40, "pivot_root": 41, "chroot": 51, "add_key": 217, "keyctl": 219, "unshare": 97,
        "perf_event_open": 241, "open_by_handle_at": 265, "setns": 268, "bpf": 280, "userfaultfd": 282,
        "clone3": 435,
    },
}
FAMILIES = {"unix": 1, "inet": 2, "inet6": 10, "packet": 17, "alg": 38}
libc = ctypes.CDLL(None, use_errno=True)


def called(number):
    """The name of the error of a system call, or nothing."""
    ctypes.set_errno(0)
    return None if libc.syscall(number, 1, 0, 0, 0, 0, 0) >= 0 else errno.errorcode[ctypes.get_errno()]


def refusal(act):
    """The name of the error of whatever else, or nothing."""
    try:
        act()
    except OSError as error:
        return errno.errorcode[error.errno]
    return None


def kind(family):
    """What sockets of a family there are."""
    return socket.SOCK_RAW if family == FAMILIES["packet"] else socket.SOCK_STREAM


calls = {name: called(number) for name, number in NUMBERS[platform.machine()].items()}
sockets = {
    name: refusal(lambda family=family: socket.socket(family, kind(family)).close())
    for name, family in FAMILIES.items()
}
# to the modes that they have
nodes = {
    name: refusal(lambda path=f"/dev/{name}": os.chmod(path, os.stat(path).st_mode & 0o7777))
    for name in ["null", "zero", "full", "random", "urandom", "tty"]
}
print(json.dumps({"calls": calls, "sockets": sockets, "nodes": nodes}))
