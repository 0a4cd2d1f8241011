"""Stands in for a service: answers on its admin port as its environment tells it to."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        ready = "FAKE_UNREADY" not in os.environ
        content = dict(os.environ) if self.path == "/environment" else {"ready": ready}
        body = json.dumps(content).encode()
        self.send_response(200 if ready or self.path != "/readyz" else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


if __name__ == "__main__":
    if "FAKE_FAILURE" in os.environ:
        sys.exit(f"the fake service fails: {os.environ['FAKE_FAILURE']}")
    if sys.argv[1:] == ["step"]:
        print("the step ran on", os.environ["REDIS_URL"])
        sys.exit(int(os.environ.get("FAKE_STEP_CODE", "0")))
    server = HTTPServer((os.environ["ADMIN_HOST"], int(os.environ["ADMIN_PORT"])), Handler)
    server.serve_forever()
