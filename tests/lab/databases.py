"""Databases of the lab's internet, as far as the site's start goes: they accept and echo."""

import asyncio
import sys

CHUNK = 1024


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    writer.close()


async def _serve(address: str, ports: list[int]) -> None:
    servers = [await asyncio.start_server(_echo, address, port) for port in ports]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], [int(port) for port in sys.argv[2:]]))
