"""Every Python process that finds this folder in PYTHONPATH has no network but this machine's."""

import socket


def refuse(*_arguments, **_keywords):
    """Stands in place of whatever reaches for a network."""
    raise AssertionError("this process reached for a network, but no rule except fetch_* may")


def connect_locally(self, address):
    """Unix sockets lead nowhere else."""
    return _connect(self, address) if self.family == socket.AF_UNIX else refuse()


_connect = socket.socket.connect
socket.socket.connect = connect_locally
socket.socket.connect_ex = refuse
socket.getaddrinfo = refuse
socket.create_connection = refuse
