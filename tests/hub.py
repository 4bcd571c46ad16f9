"""As much of the Hugging Face hub as its own upload tool needs, on this machine."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer


class Hub(BaseHTTPRequestHandler):
    """Takes every file as it is, and remembers what was posted where in `server.posted`."""

    def do_POST(self):
        body = b"".join(self.pieces())
        self.server.posted[self.path] = body
        answer = {"commitUrl": f"{self.server.url}/me/net/commit/1", "commitOid": "1", "warnings": [], "errors": []}
        if "preupload" in self.path:
            files = json.loads(body)["files"]
            answer = {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def pieces(self):
        if "Content-Length" in self.headers:
            yield self.rfile.read(int(self.headers["Content-Length"]))
            return
        while length := int(self.rfile.readline(), 16):
            yield self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()

    def log_message(self, *_):
        pass


@contextmanager
def hub():
    """Yield the server: its `url` and, by path, what was `posted`."""
    server = HTTPServer(("127.0.0.1", 0), Hub)
    server.posted, server.url = {}, f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
