"""A device: sends a reading every second, keeps it until it is acknowledged, reconnects by itself.

    fieldgate device add sensor-001          prints the token
    FIELDGATE_TOKEN=… python sensor.py sensor-001 [ws://127.0.0.1:8080/ws]
"""
import asyncio, itertools, json, math, os, random, sys, time, uuid

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

device, url = (sys.argv[1:] + ["sensor-001", "ws://127.0.0.1:8080/ws"][len(sys.argv) - 1:])[:2]
waiting: dict[str, str] = {}        # msgid → frame, until the server has stored it
WAITING_MAX = 1000
FOR_NOW = ("rate_limited", "queue_full", "busy", "storage_unavailable")
refused: set[str] = set()           # of those that wait: what was refused for now


async def measure(ws) -> None:
    refused.update(waiting)                                     # what an earlier connection left
    for second in itertools.count():
        for msgid in list(refused) if second % 5 == 0 else []:
            refused.discard(msgid)
            if msgid in waiting:
                await ws.send(waiting[msgid])
        if len(waiting) < WAITING_MAX:
            msgid, now = uuid.uuid4().hex, time.time()          # the msgid stays for every repeat
            data = {"temperature": round(21 + 2 * math.sin(now / 10), 2)}
            frame = {"type": "status", "msgid": msgid, "timestamp": int(now * 1000), "data": data}
            waiting[msgid] = json.dumps(frame)
            await ws.send(waiting[msgid])
        await asyncio.sleep(1)


async def talk(ws) -> None:
    await ws.send(json.dumps({"type": "auth", "deviceId": device, "token": os.environ["FIELDGATE_TOKEN"]}))
    sending = None
    try:
        async for text in ws:
            frame = json.loads(text)
            if frame["type"] == "auth_response" and frame["status"] == "success":
                sending = asyncio.create_task(measure(ws))
            elif frame["type"] == "ack" and waiting.pop(frame["msgid"], None):
                print(f"stored as {frame['seq']}, {len(waiting)} waiting", flush=True)
            elif frame["type"] == "error":
                if frame["code"] in FOR_NOW:
                    refused.add(frame.get("ref"))
                else:
                    waiting.pop(frame.get("ref"), None)         # it would be refused again
                print(f"refused: {frame['code']}: {frame['message']}", file=sys.stderr)
    finally:
        if sending:
            sending.cancel()


async def main() -> None:
    attempt = 0
    while True:
        try:
            async with connect(url, subprotocols=["fieldgate.v1.json"], ping_interval=25) as ws:
                attempt = 0
                await talk(ws)
        except (OSError, InvalidHandshake, ConnectionClosed) as error:
            print(error, file=sys.stderr)
            if getattr(getattr(error, "rcvd", None), "code", 0) in (4400, 4403, 4409):
                sys.exit(1)
        await asyncio.sleep(min(30, 0.5 * 2**attempt) * random.uniform(0.5, 1))
        attempt += 1


asyncio.run(main())
