#!/usr/bin/env python3
"""Runs a program as if the kernel were Linux 3.10 (CentOS 7): a seccomp filter answers ENOSYS to
every system call that came later, which on x86_64 are those with numbers above 313.

usage: old_kernel.py PROGRAM [ARGUMENT...]"""
import ctypes
import errno
import os
import platform
import struct
import sys

NEWEST_CALL = 313  # finit_module, Linux 3.8; kcmp is 312, sched_setattr (3.14) 314
ARCHITECTURE = 0xC000003E  # AUDIT_ARCH_X86_64
LOAD, EQUAL, GREATER, RETURN = 0x20, 0x15, 0x25, 0x06  # classic BPF
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER = 38, 22, 2

FILTER = [
    (LOAD, 0, 0, 4),  # the architecture
    (EQUAL, 0, 3, ARCHITECTURE),
    (LOAD, 0, 0, 0),  # the number
    (GREATER, 0, 1, NEWEST_CALL),
    (RETURN, 0, 0, ERRNO | errno.ENOSYS),
    (RETURN, 0, 0, ALLOW),
]


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if platform.machine() != "x86_64":
        sys.exit("old_kernel.py: knows the system calls of x86_64 only")
    code = b"".join(struct.pack("HBBI", *step) for step in FILTER)
    program = ctypes.create_string_buffer(code)
    header = struct.pack("HxxxxxxQ", len(FILTER), ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    pointer = ctypes.create_string_buffer(header)
    for call in [(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, MODE_FILTER, pointer, 0, 0)]:
        if libc.prctl(*call) != 0:
            sys.exit(f"old_kernel.py: prctl: {os.strerror(ctypes.get_errno())}")
    os.execvp(sys.argv[1], sys.argv[1:])


main()
