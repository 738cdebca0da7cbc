# 4e, whose workers each have a listening socket of their own (SO_REUSEPORT): the kernel shares out the clients.
import asyncio
import os
import sys

port, delay = int(sys.argv[1]), float(sys.argv[2])
requests = 0


async def serve(reader, writer):
    global requests
    request = await reader.read(65536)
    if request:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nHello!\n")
        await writer.drain()
        requests += 1
        print(f"Request {requests}: {request!r}", flush=True)
        await asyncio.sleep(delay)
    writer.close()


async def work():
    server = await asyncio.start_server(serve, "127.0.0.1", port, reuse_port=True)
    await server.serve_forever()


workers = set()
while True:
    while len(workers) < os.cpu_count():
        pid = os.fork()
        if pid == 0:
            asyncio.run(work())
        workers.add(pid)
    workers.discard(os.wait()[0])
