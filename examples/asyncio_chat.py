"""Talks to a program in an enclave through asyncio: what is typed goes in, what it says comes out.

python examples/asyncio_chat.py
"""

from __future__ import annotations

import asyncio

import occlum


async def main() -> None:
    """Lets bc compute, line by line."""
    process = await occlum.aio.create_subprocess_exec(
        "bc", "-l", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for question in ("6 * 7", "2 ^ 100", "scale = 20; sqrt(2)"):
        process.stdin.write(question.encode() + b"\n")
        await process.stdin.drain()
        answer = await process.stdout.readline()
        print(f"{question} = {answer.decode().strip()}")
    process.stdin.close()
    assert await process.wait() == 0


if __name__ == "__main__":
    asyncio.run(main())
