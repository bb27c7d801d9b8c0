"""Gives the loopback interface of this network one more address, and becomes another program.

    one_more_address.py ADDRESS PROGRAM [ARGUMENT...]

For networks of a test's own, on machines that need not have `ip`.
"""

import fcntl
import os
import socket
import struct
import sys

SIOCSIFADDR = 0x8916


def main():
    address, program = sys.argv[1], sys.argv[2:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        # struct ifreq: the interface's name, then a struct sockaddr_in
        request = struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton(address))
        fcntl.ioctl(any_socket, SIOCSIFADDR, request)
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
