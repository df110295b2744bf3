"""`endpoint`: a model on a server that speaks OpenAI's protocol (vLLM, SGLang, llama.cpp, or a provider).

What ``--model`` names lends its tokenizer and chat template, by which prompts are written, counted and cut; its weights
are never read. The server's model answers: what it holds in memory, and how, cannot be seen from here, so that every
column but the score, the tokens and the whole time is ``?``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from harness import Decoding, Generation, Method, Options, UsageError
from harness._util.server import NoAnswer, Server, hidden
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness import TokenizedPrompt
    from harness.models import LanguageModel

PATHS = {"tokens": "completions", "text": "completions", "chat": "chat/completions"}
CLOSE = 8
"""Tokens by which what the server counted may differ from what was sent: a beginning of text, a template's frame."""


class EndpointOptions(Options):
    """Options of `Endpoint`."""

    url: str = Field("http://localhost:8000", description="address of the server, with or without /v1")
    name: str | None = Field(
        None, description="the model as the server calls it; default: the first that it lists"
    )
    send: Literal["tokens", "text", "chat"] = Field(
        "tokens",
        description="the prompt as token ids (exact), as text that the server tokenises, or as a user's turn that the "
        "server puts into its own template (with --chat never)",
    )
    window: int | None = Field(
        None, ge=16, description="tokens the server reads, prompt and answer; default: the window of --model"
    )
    timeout: float = Field(300.0, gt=0, le=86_400, description="seconds an answer may take")


class Endpoint(Method):
    """Let a server answer: greedy, each prompt as a whole, those of a batch at the same time.

    A prompt that is too long for ``window`` is cut here by the task's rule, as for `plain`. A server that is busy (HTTP
    408, 409, 429, 5xx) is asked again up to five times, waiting longer each time, or as long as it says. One that
    cannot be reached is refused before the first sample. Where it counts other tokens than were sent, the answer is
    noted: it tokenised anew, or cut. The key, if it wants one, comes from ``OPENAI_API_KEY`` and is never written down.
    """

    Options = EndpointOptions
    options: EndpointOptions
    remote = True

    def __init__(self, model: LanguageModel, options: Any) -> None:
        super().__init__(model, options)
        self.server = Server(self.options.url, "--url")
        if self.options.send == "chat" and model.chat != "never":
            raise UsageError(
                "method endpoint: --send chat lets the server write the template; add --chat never, so that there is "
                "one and not two"
            )
        self._name = self.options.name

    def context_limit(self) -> int:
        """Tokens the server reads."""
        return self.options.window or self.model.context_length

    def prepare(self, prompts: Sequence[TokenizedPrompt], decoding: Decoding) -> None:
        """See that the server is there, and what its model is called. Raises UsageError if it is not."""
        if self._name is not None:
            return
        try:
            listed = json.loads(self.server.ask("models", None, self.options.timeout))
            self._name = str(listed["data"][0]["id"])
        except NoAnswer as error:
            raise UsageError(
                f"--url {self.server.address}: {error}; start the server (if it lists no models, give --name)"
            ) from None
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            raise UsageError(f"--url {self.server.address} lists no models; name one with --name") from None

    def facts(self) -> dict[str, Any]:
        return {
            "endpoint": {"address": self.server.address, "model": self._name, "sent": self.options.send},
            "warning": f"answers are those of {self._name or 'the model'} at {self.server.address}; --model gave "
            "tokenizer and template",
        }

    def compress_and_generate(
        self, prompts: Sequence[TokenizedPrompt], decoding: Decoding
    ) -> list[Generation]:
        """Ask for all of a batch at once."""
        if self._name is None:
            self.prepare(prompts, decoding)
        with ThreadPoolExecutor(max_workers=len(prompts)) as workers:
            return list(workers.map(lambda prompt: self._ask(prompt, decoding), prompts))

    def _ask(self, prompt: TokenizedPrompt, decoding: Decoding) -> Generation:
        body: dict[str, Any] = {
            "model": self._name,
            "max_tokens": decoding.max_new_tokens,
            "temperature": 0,
            "seed": 0,
            "stream": False,
        }
        if self.options.send == "chat":
            body["messages"] = [{"role": "user", "content": prompt.prompt.text}]
        else:
            body["prompt"] = prompt.prompt.text if self.options.send == "text" else list(prompt.ids)
        if decoding.min_new_tokens:  # no part of OpenAI's own protocol, but of vLLM's and SGLang's
            body["min_tokens"] = decoding.min_new_tokens
        try:
            raw = self.server.ask(PATHS[self.options.send], body, self.options.timeout)
        except NoAnswer as error:
            refused = error.code in (400, 422) and self.options.send == "tokens"
            advice = "; a server that takes no token ids takes --send text" if refused else ""
            raise HarnessError(f"--url {self.server.address}: {error}{advice}") from None
        return self._generation(prompt, decoding, *self._read(raw))

    def _read(self, raw: bytes) -> tuple[str, str, int | None, bool]:
        """Text, why it ended, the prompt tokens the server counted, and whether it streamed all the same."""
        try:
            parts = _events(raw)
            choices = [choice for part in parts for choice in part["choices"][:1]]
            text = hidden("".join(map(_text, choices)))
            text.encode()  # half a character cannot be written down
            ended = next((c["finish_reason"] for c in reversed(choices) if c.get("finish_reason")), "stop")
            counted = next((p["usage"]["prompt_tokens"] for p in reversed(parts) if p.get("usage")), None)
            if not choices:
                raise ValueError("no choice")
            return text, str(ended), None if counted is None else int(counted), len(parts) > 1
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError):
            raise HarnessError(f"--url {self.server.address}: its answer is no completion") from None

    def _generation(
        self,
        prompt: TokenizedPrompt,
        decoding: Decoding,
        text: str,
        ended: str,
        counted: int | None,
        streamed: bool,
    ) -> Generation:
        """The answer in our terms: cut at the task's stop tokens, with the tokens our tokenizer makes of it."""
        tokenizer = self.model.tokenizer
        ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        least = max(0, decoding.min_new_tokens - 1)
        stop = next((i for i, t in enumerate(ids) if t in decoding.stop_ids and i >= least), None)
        reason = "length" if ended == "length" else "eos"
        if stop is not None:
            ids, reason = ids[: stop + 1], "stop"
            text = tokenizer.decode(ids, skip_special_tokens=True)
        elif reason == "length" or len(ids) > decoding.max_new_tokens:
            ids = ids[: decoding.max_new_tokens]  # another tokenizer may make more of the same text
        if reason == "eos" and len(ids) < decoding.max_new_tokens:
            ids.append(self.model.end_ids[0])  # the server leaves it out of the text
        notes = []
        if counted is not None and abs(counted - len(prompt)) > CLOSE:
            kind = "cut the prompt" if counted < len(prompt) else "tokenised it otherwise, or framed it anew"
            notes.append(f"the server counted other prompt tokens than were sent: it {kind}")
        details: dict[str, Any] = {"server_prompt_tokens": counted}
        if streamed:
            details["streamed"] = True
        return Generation(
            text=text,
            token_ids=ids or [self.model.end_ids[0]],
            stop_reason=reason,
            prompt_tokens=len(prompt),
            kv_tokens=0,
            details={**details, **({"notes": notes} if notes else {})},
        )


def _events(raw: bytes) -> list[Any]:
    """The JSON of an answer; of one that streams although it was not asked to, that of each of its events."""
    text = raw.decode("utf-8")
    if not text.lstrip().startswith("data:"):
        return [json.loads(text)]
    lines = (line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:"))
    return [json.loads(line) for line in lines if line and line != "[DONE]"]


def _text(choice: Any) -> str:
    """The text of a choice: of a completion, of a chat, or of a piece of either."""
    if "text" in choice:
        found = choice["text"]
    else:
        found = (choice.get("message") or choice.get("delta") or {}).get("content")
    if not isinstance(found, str | None):
        raise TypeError("no text")
    return found or ""
