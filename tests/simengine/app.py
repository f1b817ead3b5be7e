"""The HTTP side: what of vLLM's API server a load generator uses."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

from simengine.config import Config
from simengine.metrics import Metrics
from simengine.scheduler import Request, Scheduler

JsonObject = dict[str, Any]
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


class Server:
    """One server; ``on_death`` is called once its engine is dead and its last streams have ended."""

    def __init__(self, config: Config, on_death: Callable[[], None]) -> None:
        self.config, self._on_death = config, on_death
        self.metrics = Metrics(config)
        self.scheduler = Scheduler(config, self.metrics)
        self._requests = 0

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(client_max_size=64 * 2**20)
        app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/metrics", self._metrics),
                web.get("/version", self._version),
                web.get("/v1/models", self._models),
                web.post(CHAT, self._generate),
                web.post(COMPLETIONS, self._generate),
            ]
        )
        return app

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=503 if self.scheduler.dead else 200)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self.metrics.text(), headers={"content-type": "text/plain; version=0.0.4"})

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": self.config.version})

    async def _models(self, _: web.Request) -> web.Response:
        model = {"id": self.config.model, "object": "model", "created": int(time.time()), "owned_by": "vllm"}
        model |= {"root": self.config.model, "max_model_len": self.config.max_model_len}
        return web.json_response({"object": "list", "data": [model]})

    async def _generate(self, http: web.Request) -> web.StreamResponse:
        body: JsonObject = json.loads(await http.read())
        if body["model"] != self.config.model:
            return _error(404, "NotFoundError", f"The model `{body['model']}` does not exist.")
        self._requests += 1
        number, traps = self._requests, self.config.traps
        if self.scheduler.dead or (traps.refuse_every and number % traps.refuse_every == 0):
            return _error(500, "InternalServerError", "EngineCore encountered an issue.")
        request = self._request(http, body)
        if request.output_tokens < 1:
            return _error(400, "BadRequestError", f"the prompt has {request.prompt_tokens} tokens, too many")
        request.dropped = bool(traps.drop_every) and number % traps.drop_every == 0
        self.scheduler.add(request)
        if number == traps.dies_at_request:
            self._die_soon()
        try:
            return await (_Stream(http, body, request) if body.get("stream") else _Whole(http, body, request)).answer()
        finally:
            self.scheduler.remove(request)

    def _request(self, http: web.Request, body: JsonObject) -> Request:
        said = [message["content"] for message in body["messages"]] if http.path == CHAT else [body["prompt"]]
        prompt = "\n".join(said)
        prompt_tokens = len(prompt.split())
        asked = body.get("max_completion_tokens") or body.get("max_tokens") or self.config.max_model_len
        # vLLM cuts what does not fit, silently.
        longest = min(asked, self.config.max_model_len - prompt_tokens)
        name = http.headers.get("x-request-id") or f"request-{self._requests}"
        draw = random.Random(f"{self.config.seed}/{name}").random()
        early = self.config.traps.early_end if body.get("ignore_eos") else max(0.3, self.config.traps.early_end)
        length = longest - int(early * draw * longest)
        return Request(
            id=name,
            prompt=prompt,
            prompt_tokens=prompt_tokens,
            output_tokens=length,
            finish_reason="stop" if length < longest else "length",
            arrived=asyncio.get_running_loop().time(),
        )

    def _die_soon(self) -> None:
        loop = asyncio.get_running_loop()
        config = self.config
        # In the middle of the answers.
        loop.call_later(5 * (config.step_seconds + config.step_seconds_per_request) / config.speedup, self._die)

    def _die(self) -> None:
        self.scheduler.die()
        asyncio.get_running_loop().call_later(0.5, self._on_death)


class _Answer:
    """The answer to one request: a token is a word."""

    def __init__(self, http: web.Request, body: JsonObject, request: Request) -> None:
        self.http, self.body, self.request = http, body, request
        self.chat = http.path == CHAT

    def usage(self) -> JsonObject:
        prompt, completion = self.request.prompt_tokens, self.request.generated
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def document(self, kind: str, **fields: Any) -> JsonObject:
        prefix = "chatcmpl" if self.chat else "cmpl"
        head = {"id": f"{prefix}-{self.request.id}", "object": kind, "created": int(time.time())}
        return {**head, "model": self.body["model"], **fields}

    async def answer(self) -> web.StreamResponse:
        raise NotImplementedError


class _Whole(_Answer):
    async def answer(self) -> web.StreamResponse:
        while (count := await self.request.steps.get()) is not None and count < self.request.output_tokens:
            pass
        if count is None:
            return _error(500, "InternalServerError", "EngineCore encountered an issue.")
        text = "word " * self.request.generated
        said: JsonObject = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        choice = {"index": 0, **said, "finish_reason": self.request.finish_reason}
        kind = "chat.completion" if self.chat else "text_completion"
        return web.json_response(self.document(kind, choices=[choice], usage=self.usage()))


class _Stream(_Answer):
    """Server-sent events: the role (chat only), a chunk per token, the usage if asked for, ``[DONE]``."""

    async def answer(self) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        token, last = self._event(None), self._event(self.request.finish_reason)
        request = self.request
        count = await request.steps.get()
        await response.prepare(self.http)
        if count is not None and self.chat:
            await response.write(self._chunk({"delta": {"role": "assistant", "content": ""}}))
        while count is not None:
            if request.dropped and count > request.output_tokens // 2:
                assert self.http.transport is not None
                self.http.transport.abort()
                return response
            await response.write(last if count == request.output_tokens else token)
            if count == request.output_tokens:
                break
            count = await request.steps.get()
        if count is None:
            await response.write(b'data: {"error": {"message": "EngineCore encountered an issue.", "code": 500}}\n\n')
        elif (self.body.get("stream_options") or {}).get("include_usage"):
            await response.write(_data(self.document(self._kind, choices=[], usage=self.usage())))
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    @property
    def _kind(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def _event(self, finish_reason: str | None) -> bytes:
        said: JsonObject = {"delta": {"content": " word"}} if self.chat else {"text": " word"}
        return self._chunk({**said, "finish_reason": finish_reason})

    def _chunk(self, choice: JsonObject) -> bytes:
        return _data(self.document(self._kind, choices=[{"index": 0, **choice}]))


def _data(document: JsonObject) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


def _error(status: int, kind: str, message: str) -> web.Response:
    return web.json_response(
        {"error": {"message": message, "type": kind, "param": None, "code": status}}, status=status
    )
