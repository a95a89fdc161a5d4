"""
A PostgreSQL client of one page: the simple query protocol over a unix socket.

The standard library has no driver, and driving psql over pipes would put two
more process switches into every measured round trip.  Trust authentication
only, values as text, one thread per connection.
"""

import socket
import struct
import time

ANSWER_TIMEOUT = 900            # seconds; a statement that takes longer hangs


class ServerError(Exception):
    """An error the server reported: SQLSTATE, message, hint."""


class Connection:
    def __init__(self, socket_path, user, database):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(ANSWER_TIMEOUT)
        self._socket.connect(socket_path)
        self._stream = self._socket.makefile("rb", buffering=1 << 16)
        self._start(user, database)

    def close(self):
        try:
            self._socket.sendall(_message(b"X", b""))
        except OSError:
            pass                # the server is gone already
        self._stream.close()
        self._socket.close()

    def query(self, sql):
        """Runs sql; returns the rows as lists of str or None."""
        self._socket.sendall(_message(b"Q", sql.encode() + b"\0"))
        return self._answer()

    def value(self, sql):
        """The only column of the only row."""
        ((value,),) = self.query(sql)
        return value

    def timed(self, sql):
        """As query; returns (rows, seconds before sending, seconds after)."""
        message = _message(b"Q", sql.encode() + b"\0")
        before = time.time()
        self._socket.sendall(message)
        rows = self._answer()
        return rows, before, time.time()

    def _start(self, user, database):
        parameters = b""
        for name, value in (("user", user), ("database", database),
                            ("application_name", "bench"),
                            ("client_min_messages", "error")):
            parameters += name.encode() + b"\0" + value.encode() + b"\0"
        body = struct.pack("!i", 3 << 16) + parameters + b"\0"
        self._socket.sendall(struct.pack("!i", len(body) + 4) + body)
        self._answer()

    def _answer(self):
        """Reads up to ReadyForQuery; raises what the server complained of."""
        rows, error = [], None
        while True:
            kind, body = self._read_message()
            if kind == b"D":
                rows.append(_data_row(body))
            elif kind == b"E":
                error = ServerError(_error_text(body))
                if body.startswith((b"SFATAL", b"SPANIC")):
                    raise error
            elif kind == b"R" and body != b"\0\0\0\0":
                raise ServerError("the server wants a password")
            elif kind == b"Z":
                break
        if error:
            raise error
        return rows

    def _read_message(self):
        header = self._stream.read(5)
        if len(header) < 5:
            raise ConnectionError("the server closed the connection")
        return header[:1], self._stream.read(struct.unpack("!i", header[1:])[0] - 4)


def _message(kind, body):
    return kind + struct.pack("!i", len(body) + 4) + body


def _data_row(body):
    row, at = [], 2
    for _ in range(struct.unpack_from("!h", body)[0]):
        (length,) = struct.unpack_from("!i", body, at)
        at += 4
        if length < 0:
            row.append(None)
        else:
            row.append(body[at:at + length].decode())
            at += length
    return row


def _error_text(body):
    fields = {field[:1]: field[1:].decode(errors="replace")
              for field in body.split(b"\0") if field}
    text = f"{fields.get(b'C')}: {fields.get(b'M')}"
    for key in (b"D", b"H"):
        if key in fields:
            text += f" ({fields[key]})"
    return text
