"""Stand-ins for servers that speak OpenAI's protocol, on this machine."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Answers with what `reply(body, number of the call)` gives: (status, JSON, or bytes as they are)."""

    def __init__(self, reply, models=()):
        seen = self.seen = []
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    seen.append({**body, "path": self.path, "key": self.headers.get("Authorization")})
                    number = len(seen)
                self.say(*reply(body, number))

            def do_GET(self):
                known = self.path == "/v1/models" and models
                self.say(200 if known else 404, {"data": [{"id": name} for name in models]})

            def say(self, status, found):
                raw = found if isinstance(found, bytes) else json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


@contextlib.contextmanager
def serving(reply, models=()):
    """A `Server` for as long as the block takes."""
    server = Server(reply, models)
    try:
        yield server
    finally:
        server.close()


def completions(model):
    """A reply that completes prompts greedily by `model`, as vLLM does: stop tokens are left out of the text."""
    import torch

    from harness import Decoding
    from harness.inference import KVCache, decode, feed

    lock = threading.Lock()

    def reply(body, number):
        asked = body.get("prompt") or body["messages"][0]["content"]
        ids = asked if isinstance(asked, list) else model.tokenizer(asked)["input_ids"]
        with lock, torch.no_grad():
            caches, _ = feed(model.network, [KVCache()], [ids[:-1]])
            _, [tokens] = decode(
                model, caches, [ids[-1]], Decoding(body["max_tokens"], body.get("min_tokens", 0))
            )
        ended = tokens[-1] in model.end_ids
        text = model.tokenizer.decode(tokens[: len(tokens) - ended], skip_special_tokens=True)
        choice = {"text": text} if "prompt" in body else {"message": {"content": text}}
        return 200, {
            "choices": [{**choice, "finish_reason": "stop" if ended else "length"}],
            "usage": {"prompt_tokens": len(ids), "completion_tokens": len(tokens)},
        }

    return reply
