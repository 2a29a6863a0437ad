"""The service that is attacked, and how an attacker talks to it: raw HTTP, as rude as need be."""

from __future__ import annotations

import asyncio
from contextlib import closing, suppress

import msgspec


class Target(msgspec.Struct, frozen=True):
    """`key` is the attacker's own: an ordinary one."""

    host: str
    port: int
    key: str
    model: str

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port)

    def head(self, length: int) -> bytes:
        """Of a chat completion whose body has so many bytes."""
        return (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {self.host}\r\n"
            f"Authorization: Bearer {self.key}\r\nContent-Length: {length}\r\n\r\n"
        ).encode()

    def chat(self, messages: list[object], **options: object) -> bytes:
        return msgspec.json.encode({"model": self.model, "messages": messages, **options})

    async def post(self, body: bytes, *, read: bool = True) -> None:
        """Sends one chat completion and reads until the connection ends, or not at all."""
        reader, writer = await self.dial()
        with closing(writer), suppress(OSError):
            writer.write(
                self.head(len(body)).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
            )
            writer.write(body)
            await writer.drain()
            if not read:
                await asyncio.Event().wait()
            while await reader.read(65536):
                pass


def says(text: str) -> list[object]:
    return [{"role": "user", "content": text}]
